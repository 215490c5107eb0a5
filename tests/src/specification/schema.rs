//! As much of JSON Schema as the specification uses. A library for all of it would turn on features of crates that lie far below
//! this one, and so have DataFusion compiled twice.

use serde_json::Value;

/// Says nothing about what is valid, or says it of what is not sent: `format` names how numbers are stored.
const UNJUDGED: [&str; 9] = [
    "description",
    "format",
    "default",
    "discriminator",
    "deprecated",
    "pattern",
    "propertyNames",
    "readOnly",
    "contentEncoding",
];

/// Where a value isn't as its schema says, and why.
pub(super) fn check(document: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let Some(keywords) = schema.as_object() else { return Ok(()) };
    if value.is_null() && schema["nullable"] == true {
        return Ok(());
    }
    for (keyword, rule) in keywords {
        match keyword.as_str() {
            "$ref" => check(document, referenced(document, rule)?, value, at)?,
            "allOf" => each(rule).try_for_each(|schema| check(document, schema, value, at))?,
            // Schemas overlap, so "one of" can't be taken at its word: a value may be what two of them say.
            "oneOf" | "anyOf" => any(document, schema, rule, value, at)?,
            "type" => typed(rule, value, at)?,
            "const" if rule != value => return Err(format!("{at} is {value}, not {rule}")),
            "enum" if each(rule).all(|allowed| allowed != value) => {
                return Err(format!("{at} is {value}, none of {rule}"));
            }
            "minimum" | "maximum" => bounded(keyword, rule, value, at)?,
            "minLength" | "maxLength" => {
                let length = value.as_str().map(|text| Value::from(text.chars().count()));
                bounded(keyword, rule, &length.unwrap_or_default(), at)?;
            }
            "required" => required(rule, value, at)?,
            "properties" | "additionalProperties" => {}
            "prefixItems" => {
                for (index, (rule, item)) in each(rule).zip(each(value)).enumerate() {
                    check(document, rule, item, &format!("{at}[{index}]"))?;
                }
            }
            "items" => {
                for (index, item) in each(value).enumerate() {
                    check(document, rule, item, &format!("{at}[{index}]"))?;
                }
            }
            "uniqueItems" => unique(value, at)?,
            "nullable" | "const" | "enum" => {}
            unjudged if UNJUDGED.contains(&unjudged) => {}
            other => return Err(format!("{at}: nobody here knows what '{other}' means")),
        }
    }
    fields(document, schema, value, at)
}

fn each(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn referenced<'a>(document: &'a Value, reference: &Value) -> Result<&'a Value, String> {
    let path = reference.as_str().unwrap_or_default().trim_start_matches('#');
    document.pointer(path).ok_or_else(|| format!("there is no {path}"))
}

/// One of several, which the discriminator tells if there is one.
fn any(document: &Value, schema: &Value, rule: &Value, value: &Value, at: &str) -> Result<(), String> {
    let discriminator = &schema["discriminator"];
    if let Some(name) = discriminator["propertyName"].as_str() {
        let told = value[name].as_str().unwrap_or_default();
        if let Some(mapped) = discriminator["mapping"].get(told) {
            return check(document, referenced(document, mapped)?, value, at);
        }
    }
    let mut reasons = Vec::new();
    for schema in each(rule) {
        match check(document, schema, value, at) {
            Ok(()) => return Ok(()),
            Err(reason) => reasons.push(reason),
        }
    }
    Err(format!("{at} is nothing of what it may be: {}", reasons.join("; or ")))
}

fn typed(rule: &Value, value: &Value, at: &str) -> Result<(), String> {
    let is = |kind: &str| match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        _ => false,
    };
    let fits = rule.as_str().is_some_and(is) || each(rule).filter_map(Value::as_str).any(is);
    if fits { Ok(()) } else { Err(format!("{at} is {value}, no {rule}")) }
}

fn bounded(keyword: &str, rule: &Value, value: &Value, at: &str) -> Result<(), String> {
    let (Some(bound), Some(number)) = (rule.as_f64(), value.as_f64()) else { return Ok(()) };
    let fits = if keyword.starts_with("min") { number >= bound } else { number <= bound };
    if fits { Ok(()) } else { Err(format!("{at} is against '{keyword}' of {bound}")) }
}

fn required(rule: &Value, value: &Value, at: &str) -> Result<(), String> {
    let Some(object) = value.as_object() else { return Ok(()) };
    match each(rule).filter_map(Value::as_str).find(|name| !object.contains_key(*name)) {
        Some(absent) => Err(format!("{at} has no '{absent}'")),
        None => Ok(()),
    }
}

fn unique(value: &Value, at: &str) -> Result<(), String> {
    let items: Vec<&Value> = each(value).collect();
    let repeated = items.iter().enumerate().any(|(index, item)| items[..index].contains(item));
    if repeated { Err(format!("{at} has an item twice")) } else { Ok(()) }
}

/// Fields that are described, and those that aren't.
fn fields(document: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    for (name, field) in value.as_object().into_iter().flatten() {
        let at = format!("{at}.{name}");
        match (schema["properties"].get(name), schema.get("additionalProperties")) {
            (Some(described), _) => check(document, described, field, &at)?,
            (None, Some(Value::Bool(false))) => return Err(format!("{at} is not described")),
            (None, Some(others)) => check(document, others, field, &at)?,
            (None, None) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_schema_forbids_is_found() {
        let document = json!({"components": {"schemas": {
            "Name": {"type": "string", "minLength": 2},
            "Cat": {"type": "object", "required": ["purrs"], "properties": {"purrs": {"type": "boolean"}}},
            "Dog": {"type": "object", "properties": {"kind": {"const": "dog"}, "age": {"type": "integer", "maximum": 30}}},
        }}});
        let schema = json!({
            "type": "object", "required": ["name"], "additionalProperties": {"type": "integer"},
            "properties": {
                "name": {"$ref": "#/components/schemas/Name"},
                "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "uniqueItems": true},
                "none": {"type": "string", "nullable": true},
                "pet": {
                    "oneOf": [{"$ref": "#/components/schemas/Cat"}, {"$ref": "#/components/schemas/Dog"}],
                    "discriminator": {"propertyName": "kind", "mapping": {"dog": "#/components/schemas/Dog"}},
                },
            },
        });
        let good =
            json!({"name": "ab", "tags": ["a"], "none": null, "pet": {"kind": "dog", "age": 3}, "other": 1});
        assert_eq!(check(&document, &schema, &good, "$"), Ok(()));
        for (pointer, wrong, reason) in [
            ("/name", json!(7), "$.name is 7"),
            ("/name", json!("a"), "$.name is against 'minLength'"),
            ("/tags", json!(["c"]), "$.tags[0] is \"c\", none of"),
            ("/tags", json!(["a", "a"]), "$.tags has an item twice"),
            ("/none", json!(false), "$.none is false"),
            ("/pet", json!({"kind": "dog", "age": 31}), "$.pet.age is against 'maximum'"),
            ("/pet", json!({"kind": "fish"}), "$.pet is nothing of what it may be: $.pet has no 'purrs'"),
            ("/other", json!("x"), "$.other is \"x\""),
            ("", json!({}), "$ has no 'name'"),
            ("", json!([]), "$ is [], no"),
        ] {
            let mut value = good.clone();
            *value.pointer_mut(pointer).unwrap() = wrong;
            let found = check(&document, &schema, &value, "$").unwrap_err();
            assert!(found.starts_with(reason), "{found}");
        }
    }
}
