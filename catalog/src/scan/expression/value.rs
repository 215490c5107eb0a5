//! What predicates compare: columns, transforms of columns, literals, and what this server can't judge.

use serde_json::Value;

use crate::scan::{columns::Columns, datum::Datum, primitive::Primitive, transform::Transform};

/// A side of a comparison.
#[derive(Debug)]
pub(super) enum Operand {
    Column {
        column: i64,
        transform: Transform,
    },
    /// As it was written.
    Literal(Value),
    /// A function that isn't known here.
    Opaque,
}

/// Reads a value expression or a former term; columns must exist.
pub(super) fn operand(
    json: &Value,
    path: &str,
    text_is_column: bool,
    columns: &Columns,
) -> Result<Operand, String> {
    let plain = |column: i64| Operand::Column { column, transform: Transform::Identity };
    let fields = match json {
        Value::String(name) if text_is_column => return Ok(plain(named(name, path, columns)?)),
        Value::Object(fields) => fields,
        Value::Null | Value::Array(_) => return Err(format!("{path}: {json} is no value")),
        literal => return Ok(Operand::Literal(literal.clone())),
    };
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    match text("type") {
        Some("literal") => Ok(Operand::Literal(json.clone())),
        Some("reference") => {
            match (text("name").or_else(|| text("term")), fields.get("id").and_then(Value::as_i64)) {
                (Some(name), None) => Ok(plain(named(name, &format!("{path}.name"), columns)?)),
                (None, Some(id)) if columns.by_id(id).is_some() => Ok(plain(id)),
                (None, Some(id)) => Err(format!("{path}.id: there is no column with the id {id}")),
                _ => Err(format!("{path}: a reference has a 'name' or an 'id'")),
            }
        }
        Some("transform") => {
            let Some(name) = text("transform") else { return Err(format!("{path}.transform: it is needed")) };
            let Some(term) = fields.get("term") else { return Err(format!("{path}.term: it is needed")) };
            let inner = operand(term, &format!("{path}.term"), true, columns)?;
            Ok(transformed(Transform::parse(name), inner))
        }
        Some("apply") => apply(json, path, columns),
        _ => Err(format!(
            "{path}.type: a value is a literal, or an object of type literal, reference, apply or transform"
        )),
    }
}

/// A function of values: a transform by its name, with its width before the column (`bucket`, `truncate`) or in brackets.
fn apply(json: &Value, path: &str, columns: &Columns) -> Result<Operand, String> {
    let Some(arguments) = json["arguments"].as_array() else {
        return Err(format!("{path}.arguments: a list is needed"));
    };
    let mut operands = Vec::with_capacity(arguments.len());
    for (index, argument) in arguments.iter().enumerate() {
        let is_predicate = argument.is_boolean()
            || argument["type"]
                .as_str()
                .is_some_and(|kind| !matches!(kind, "literal" | "reference" | "apply" | "transform"));
        operands.push(match is_predicate {
            true => Operand::Opaque,
            false => operand(argument, &format!("{path}.arguments[{index}]"), false, columns)?,
        });
    }
    let name = json["function"].as_str();
    if name.is_none_or(str::is_empty) && !json["function"].is_object() && !json["function"].is_array() {
        return Err(format!("{path}.function: a name is needed"));
    }
    let width = |value: &Value| value.as_u64().or_else(|| value["value"].as_u64());
    let mut operands = operands.into_iter();
    Ok(match (name, operands.next(), operands.next(), operands.next()) {
        (Some(name), Some(inner), None, None) => transformed(Transform::parse(name), inner),
        (Some(name), Some(Operand::Literal(value)), Some(inner), None) => {
            let transform = width(&value).and_then(|width| Transform::parse(&format!("{name}[{width}]")));
            transformed(transform, inner)
        }
        _ => Operand::Opaque,
    })
}

fn transformed(transform: Option<Transform>, inner: Operand) -> Operand {
    match (transform, inner) {
        (Some(Transform::Void) | None, _) => Operand::Opaque,
        (Some(transform), Operand::Column { column, transform: Transform::Identity }) => {
            Operand::Column { column, transform }
        }
        _ => Operand::Opaque,
    }
}

/// A literal as a value of a column's type: bare, or an object that may say its own type.
pub(super) fn literal(json: &Value, kind: Primitive) -> Result<Datum, String> {
    let Value::Object(fields) = json else { return Datum::from_json(json, kind) };
    let (Some("literal"), Some(value)) = (fields.get("type").and_then(Value::as_str), fields.get("value"))
    else {
        return Err(format!("{json} is no literal"));
    };
    if let Some(named) = fields.get("data-type") {
        let own = named.as_str().and_then(Primitive::parse);
        let own = own.ok_or_else(|| format!("{named} is no type of a literal"))?;
        Datum::from_json(value, own)?;
    }
    Datum::from_json(value, kind)
}

fn named(name: &str, path: &str, columns: &Columns) -> Result<i64, String> {
    columns.named(name).map(|column| column.id).map_err(|error| format!("{path}: {error}"))
}
