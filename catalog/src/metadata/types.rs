//! Iceberg's types, as far as metadata checks need them.

use serde_json::Value;

/// First format version that has the primitive type, or `None` if there is no such type.
pub(super) fn primitive_since(name: &str) -> Option<i64> {
    let version = match name {
        "boolean" | "int" | "long" | "float" | "double" | "date" | "time" | "timestamp" | "timestamptz"
        | "string" | "uuid" | "binary" => 1,
        "timestamp_ns" | "timestamptz_ns" | "unknown" | "variant" | "geometry" | "geography" => 3,
        _ if parameters(name, "geometry(", ")").is_some()
            || parameters(name, "geography(", ")").is_some() =>
        {
            3
        }
        _ if is_fixed(name) || is_decimal(name) => 1,
        _ => return None,
    };
    Some(version)
}

/// Why a partition or sort transform can't be applied to a column of this type; `None` if it can.
///
/// Transforms that are not known are accepted: the specification asks readers to ignore them, not to refuse the table.
pub(super) fn transform_misfit(transform: &str, column_type: &Value) -> Option<String> {
    let Some(name) = column_type.as_str() else {
        return (transform != "void").then(|| "its source column is nested, not a primitive".to_owned());
    };
    let is_timestamp = name.starts_with("timestamp");
    let is_integer = matches!(name, "int" | "long");
    let fits = match transform {
        "void" => true,
        "identity" => !name.starts_with("geo") && name != "variant",
        "year" | "month" | "day" => name == "date" || is_timestamp,
        "hour" => is_timestamp,
        _ if transform.starts_with("bucket[") => {
            let no_hash = matches!(name, "boolean" | "float" | "double" | "variant");
            !no_hash && !name.starts_with("geo")
        }
        _ if transform.starts_with("truncate[") => {
            is_integer || matches!(name, "string" | "binary") || is_decimal(name)
        }
        _ => true,
    };
    // A column of type unknown holds nulls only, so that every transform of it is null.
    (!fits && name != "unknown").then(|| format!("the transform '{transform}' does not take a '{name}'"))
}

fn is_fixed(name: &str) -> bool {
    parameters(name, "fixed[", "]")
        .is_some_and(|length| length.trim().parse::<u32>().is_ok_and(|length| length > 0))
}

fn is_decimal(name: &str) -> bool {
    let Some((precision, scale)) = parameters(name, "decimal(", ")").and_then(|both| both.split_once(','))
    else {
        return false;
    };
    match (precision.trim().parse::<u32>(), scale.trim().parse::<u32>()) {
        (Ok(precision), Ok(scale)) => (1..=38).contains(&precision) && scale <= precision,
        _ => false,
    }
}

fn parameters<'a>(name: &'a str, open: &str, close: &str) -> Option<&'a str> {
    name.strip_prefix(open)?.strip_suffix(close)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn primitive_types_have_a_first_version() {
        for (name, since) in [
            ("long", Some(1)),
            ("fixed[16]", Some(1)),
            ("decimal(10, 2)", Some(1)),
            ("decimal(10,2)", Some(1)),
            ("timestamp_ns", Some(3)),
            ("variant", Some(3)),
            ("geometry(srid:4326)", Some(3)),
            ("decimal(39,2)", None),
            ("decimal(2,3)", None),
            ("fixed[0]", None),
            ("text", None),
        ] {
            assert_eq!(primitive_since(name), since, "{name}");
        }
    }

    #[test]
    fn transforms_fit_their_columns() {
        assert_eq!(transform_misfit("day", &json!("timestamptz")), None);
        assert_eq!(transform_misfit("bucket[16]", &json!("uuid")), None);
        assert_eq!(transform_misfit("zorder", &json!("uuid")), None);
        assert!(transform_misfit("hour", &json!("date")).is_some());
        assert!(transform_misfit("truncate[4]", &json!("double")).is_some());
        assert!(transform_misfit("identity", &json!({"type": "struct", "fields": []})).is_some());
    }
}
