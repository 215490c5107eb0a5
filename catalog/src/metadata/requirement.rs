//! Requirements: what must hold of a table before a commit may change it.

use serde_json::Value;

use super::{Document, MetadataError, error::invalid};

/// Whether a list of requirements asks that the table doesn't exist yet.
pub(crate) fn requires_create(requirements: &[Value]) -> bool {
    requirements.iter().any(|requirement| requirement["type"] == "assert-create")
}

/// Checks requirements against the table (`None`: it doesn't exist).
pub(crate) fn check_requirements(
    table: Option<&Document>,
    requirements: &[Value],
) -> Result<(), MetadataError> {
    for (index, requirement) in requirements.iter().enumerate() {
        let kind = requirement["type"].as_str().unwrap_or_default();
        let place = format!("requirements[{index}] ({kind})");
        check(table, kind, requirement).map_err(|error| error.within(&place))?;
    }
    Ok(())
}

fn check(table: Option<&Document>, kind: &str, requirement: &Value) -> Result<(), MetadataError> {
    let same_int = |field: &str, name: &str| {
        let Some(wanted) = requirement[name].as_i64() else {
            return invalid(format!("'{name}' is missing or not an integer"));
        };
        let found = table.and_then(|table| table.int(field));
        if found == Some(wanted) { Ok(()) } else { differs(field, &wanted, &found.map(Value::from)) }
    };
    match kind {
        "assert-create" if table.is_some() => stale("the table exists already"),
        "assert-create" => Ok(()),
        "assert-table-uuid" => same_uuid(table, requirement),
        "assert-ref-snapshot-id" => same_snapshot(table, requirement),
        "assert-last-assigned-field-id" => same_int("last-column-id", "last-assigned-field-id"),
        "assert-current-schema-id" => same_int("current-schema-id", "current-schema-id"),
        "assert-last-assigned-partition-id" => same_int("last-partition-id", "last-assigned-partition-id"),
        "assert-default-spec-id" => same_int("default-spec-id", "default-spec-id"),
        "assert-default-sort-order-id" => same_int("default-sort-order-id", "default-sort-order-id"),
        "assert-property" => same_property(table, requirement),
        _ => invalid("there is no such requirement"),
    }
}

fn same_uuid(table: Option<&Document>, requirement: &Value) -> Result<(), MetadataError> {
    let Some(wanted) = requirement["uuid"].as_str() else {
        return invalid("'uuid' is missing or not a text");
    };
    let found = table.and_then(Document::uuid);
    if found.is_some_and(|found| found.eq_ignore_ascii_case(wanted)) {
        return Ok(());
    }
    differs("the table's uuid", &wanted, &found.map(Value::from))
}

fn same_snapshot(table: Option<&Document>, requirement: &Value) -> Result<(), MetadataError> {
    let Some(name) = requirement["ref"].as_str() else { return invalid("'ref' is missing or not a text") };
    let wanted = &requirement["snapshot-id"];
    if !wanted.is_null() && !wanted.is_i64() {
        return invalid("'snapshot-id' is neither an integer nor null");
    }
    let reference = table.and_then(|table| table.object("refs")).and_then(|refs| refs.get(name));
    let found = reference.and_then(|reference| reference["snapshot-id"].as_i64());
    if found == wanted.as_i64() {
        return Ok(());
    }
    differs(&format!("the snapshot of '{name}'"), wanted, &found.map(Value::from))
}

/// Firn's own: a table property that must have a value, or (null) must not exist.
fn same_property(table: Option<&Document>, requirement: &Value) -> Result<(), MetadataError> {
    let Some(key) = requirement["key"].as_str() else { return invalid("'key' is missing or not a text") };
    let wanted = match requirement.get("value") {
        Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.as_str()),
        _ => return invalid("'value' is neither a text nor null"),
    };
    let found = table.and_then(|table| table.property(key));
    if found == wanted {
        return Ok(());
    }
    differs(&format!("the property '{key}'"), &requirement["value"], &found.map(Value::from))
}

fn differs(what: &str, wanted: &dyn std::fmt::Display, found: &Option<Value>) -> Result<(), MetadataError> {
    match found {
        Some(found) => stale(format!("{what} is {found}, not {wanted}: load the table again")),
        None => stale(format!("{what} is not set, but should be {wanted}: load the table again")),
    }
}

fn stale(text: impl Into<String>) -> Result<(), MetadataError> {
    Err(MetadataError::Stale(text.into()))
}
