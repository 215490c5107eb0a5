//! Predicates of the REST specification, in their present form (`child`, `left`, `right`) and the former (`term`, `value`).

use serde_json::{Map, Value};

use super::{
    Expression, Judged, Leaf,
    value::{Operand, literal, operand},
};
use crate::scan::{columns::Columns, datum::Datum, judge::Test, primitive::Primitive, transform::Transform};

type Parsed<T> = Result<T, String>;

/// Reads a predicate at `path`; `turned` for its opposite.
pub(super) fn predicate(json: &Value, path: &str, turned: bool, columns: &Columns) -> Parsed<Expression> {
    let fields = match json {
        Value::Bool(constant) => return Ok(Expression::Constant(constant ^ turned)),
        Value::Object(fields) => fields,
        _ => return Err(format!("{path}: a predicate is a boolean or an object, not {json}")),
    };
    let Some(kind) = fields.get("type").and_then(Value::as_str) else {
        return Err(format!("{path}.type: a predicate needs a type, such as \"eq\""));
    };
    let below = |name: &str, turned: bool| match fields.get(name) {
        Some(inner) => predicate(inner, &format!("{path}.{name}"), turned, columns).map(Box::new),
        None => Err(format!("{path}.{name}: '{kind}' needs it")),
    };
    match kind {
        "true" => Ok(Expression::Constant(!turned)),
        "false" => Ok(Expression::Constant(turned)),
        "not" => Ok(*below("child", !turned)?),
        "and" | "or" => {
            let (left, right) = (below("left", turned)?, below("right", turned)?);
            Ok(match (kind == "and") ^ turned {
                true => Expression::And(left, right),
                false => Expression::Or(left, right),
            })
        }
        _ => {
            let judged = Fields { fields, kind, path, columns }.test()?;
            let judged = judged.map(|judged| match turned {
                true => Judged { test: judged.test.opposite(), ..judged },
                false => judged,
            });
            Ok(Expression::Leaf(Leaf { source: json.clone(), turned, judged }))
        }
    }
}

/// A predicate that tests a value.
struct Fields<'a> {
    fields: &'a Map<String, Value>,
    kind: &'a str,
    path: &'a str,
    columns: &'a Columns,
}

impl Fields<'_> {
    /// The test; `None` for one that this server can't judge.
    fn test(&self) -> Parsed<Option<Judged>> {
        match self.kind {
            "is-null" | "not-null" | "is-nan" | "not-nan" => self.unary(),
            "in" | "not-in" => self.set(),
            "lt" | "lt-eq" | "gt" | "gt-eq" | "eq" | "not-eq" | "starts-with" | "not-starts-with" => {
                self.comparison()
            }
            other => Err(format!("{}.type: '{other}' is no predicate", self.path)),
        }
    }

    fn unary(&self) -> Parsed<Option<Judged>> {
        let (name, operand) = self.operand(&["child", "term"])?;
        let Operand::Column { column, transform } = operand else { return Ok(None) };
        let column = self.columns.by_id(column).filter(|column| !column.repeated);
        let Some(kind) = column.and_then(|column| column.kind) else {
            // A struct may be null, and so may what can't be compared.
            return Ok(None);
        };
        let is_nan = matches!(self.kind, "is-nan" | "not-nan");
        if is_nan && !kind.is_floating() {
            let path = column.map_or("", |column| column.path.as_str());
            return Err(format!("{}.{name}: '{path}' is no floating-point number", self.path));
        }
        let test = match self.kind {
            "is-null" => Test::IsNull,
            "not-null" => Test::NotNull,
            "is-nan" => Test::IsNan,
            _ => Test::NotNan,
        };
        Ok(column.map(|column| Judged { column: column.id, kind, transform, test }))
    }

    fn comparison(&self) -> Parsed<Option<Judged>> {
        let (left_name, left) = self.operand(&["left", "term"])?;
        let (right_name, right) = self.operand(&["right", "value"])?;
        let (operand, name, value, kind) = match (left, right) {
            (operand, Operand::Literal(value)) if !matches!(operand, Operand::Literal(_)) => {
                (operand, right_name, value, self.kind)
            }
            (Operand::Literal(value), operand) if !matches!(operand, Operand::Literal(_)) => {
                let Some(mirrored) = mirrored(self.kind) else { return Ok(None) };
                (operand, left_name, value, mirrored)
            }
            _ => return Ok(None),
        };
        let Some(Target { column, transform, kind: of_column, result }) = self.target(&operand)? else {
            return Ok(None);
        };
        let value = self.value(name, &value, result)?;
        let test = match kind {
            "lt" => Test::Less(value),
            "lt-eq" => Test::AtMost(value),
            "gt" => Test::Greater(value),
            "gt-eq" => Test::AtLeast(value),
            "eq" => Test::Equal(value),
            "not-eq" => Test::NotEqual(value),
            _ if result != Primitive::Text => {
                return Err(format!("{}.{left_name}: '{kind}' needs a text", self.path));
            }
            "starts-with" => Test::StartsWith(value),
            _ => Test::NotStartsWith(value),
        };
        Ok(Some(Judged { column, kind: of_column, transform, test }))
    }

    fn set(&self) -> Parsed<Option<Judged>> {
        let (_, operand) = self.operand(&["child", "term"])?;
        let values = match self.fields.get("values") {
            Some(Value::Array(values)) => values,
            Some(Value::Object(typed)) if typed.get("type").and_then(Value::as_str) == Some("literals") => {
                typed
                    .get("values")
                    .and_then(Value::as_array)
                    .ok_or_else(|| format!("{}.values.values: a list of values is needed", self.path))?
            }
            _ => return Err(format!("{}.values: '{}' needs a list of values", self.path, self.kind)),
        };
        let Some(Target { column, transform, kind, result }) = self.target(&operand)? else {
            return Ok(None);
        };
        let values = values
            .iter()
            .enumerate()
            .map(|(index, value)| self.value(&format!("values[{index}]"), value, result));
        let values = values.collect::<Parsed<Vec<Datum>>>()?;
        let test = if self.kind == "in" { Test::In(values) } else { Test::NotIn(values) };
        Ok(Some(Judged { column, kind, transform, test }))
    }

    /// The first of the fields that there is, and what it means.
    fn operand(&self, names: &[&'static str]) -> Parsed<(&'static str, Operand)> {
        let found = names.iter().find_map(|name| self.fields.get(*name).map(|value| (*name, value)));
        let Some((name, value)) = found else {
            return Err(format!("{}.{}: '{}' needs it", self.path, names[0], self.kind));
        };
        let path = format!("{}.{name}", self.path);
        // A bare text is a column in the former form, and a literal in the present one.
        Ok((name, operand(value, &path, name == "term", self.columns)?))
    }

    /// What is compared; `None` if this server can't judge it.
    fn target(&self, operand: &Operand) -> Parsed<Option<Target>> {
        let Operand::Column { column: id, transform } = operand else { return Ok(None) };
        let Some(column) = self.columns.by_id(*id) else { return Ok(None) };
        if column.repeated {
            return Err(format!("{}: '{}' is within a list or map", self.path, column.path));
        }
        let Some(kind) = column.kind else {
            return Err(format!("{}: values of '{}' can't be compared", self.path, column.path));
        };
        match transform.result(kind) {
            Some(result) => Ok(Some(Target { column: *id, transform: *transform, kind, result })),
            None => Err(format!("{}: the transform doesn't take the type of '{}'", self.path, column.path)),
        }
    }

    fn value(&self, name: &str, value: &Value, kind: Primitive) -> Parsed<Datum> {
        literal(value, kind).map_err(|error| format!("{}.{name}: {error}", self.path))
    }
}

/// A column's value, or what a transform makes of it.
struct Target {
    column: i64,
    transform: Transform,
    /// Type of the column.
    kind: Primitive,
    /// Type of the transform's result, and so of what it is compared with.
    result: Primitive,
}

/// The same comparison with its sides exchanged.
fn mirrored(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "lt" => "gt",
        "lt-eq" => "gt-eq",
        "gt" => "lt",
        "gt-eq" => "lt-eq",
        "eq" => "eq",
        "not-eq" => "not-eq",
        // Whether a literal starts with what a column holds.
        _ => return None,
    })
}
