//! Filters without the values that they compare with: these may be what an erasure is to find nowhere.

use serde_json::{Map, Value};

/// A predicate or value expression with `"?"` for each literal. Names of columns, transforms and functions stay.
pub(crate) fn without_values(expression: &Value) -> Value {
    match expression {
        Value::Object(fields) => {
            let is_literal =
                matches!(fields.get("type").and_then(Value::as_str), Some("literal" | "literals"));
            let field = |(name, value): (&String, &Value)| {
                let kept = match name.as_str() {
                    "type" | "term" | "transform" | "function" | "data-type" | "name" | "id" => value.clone(),
                    "left" | "right" | "child" | "arguments" if !is_literal => without_values(value),
                    _ => hidden(value),
                };
                (name.clone(), kept)
            };
            Value::Object(fields.iter().map(field).collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.iter().map(without_values).collect()),
        Value::Bool(_) | Value::Null => expression.clone(),
        Value::String(_) | Value::Number(_) => hidden(expression),
    }
}

fn hidden(_: &Value) -> Value {
    Value::String("?".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn literals_are_left_out_in_all_of_their_forms() {
        let filter = json!({"type": "and",
            "left": {"type": "eq", "term": "host_id", "value": "secret"},
            "right": {"type": "or",
                "left": {"type": "in", "term": {"type": "transform", "transform": "day", "term": "at"}, "values": ["secret"]},
                "right": {"type": "lt",
                    "left": {"type": "reference", "name": "owner"},
                    "right": {"type": "literal", "value": "secret", "data-type": "string"}}}});
        let text = without_values(&filter).to_string();
        assert!(!text.contains("secret"), "{text}");
        for kept in ["host_id", "day", "\"at\"", "owner", "data-type"] {
            assert!(text.contains(kept), "{kept}: {text}");
        }
        let bare = json!({"type": "eq", "left": "secret", "right": {"type": "reference", "id": 3}});
        let expected = json!({"type": "eq", "left": "?", "right": {"type": "reference", "id": 3}});
        assert_eq!(without_values(&bare), expected);
        assert_eq!(without_values(&json!(true)), json!(true));
    }
}
