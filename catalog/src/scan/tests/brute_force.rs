//! Filters by reading rows: an implementation of its own, as engines understand predicates.

use std::cmp::Ordering;

use serde_json::Value;

use crate::scan::{datum::Datum, primitive::Primitive, transform::Transform};

/// A row of the test's columns `n` (long), `s` (string), `d` (double) and `t` (timestamp).
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) n: Option<i64>,
    pub(super) s: Option<String>,
    pub(super) d: Option<f64>,
    pub(super) t: Option<i64>,
}

/// How an engine takes nulls and NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Engine {
    /// Comparisons with null are unknown, and those with NaN false.
    Sql,
    /// The same, but NaN is above all numbers.
    SqlNanLast,
    /// Iceberg's own evaluator, which turns negations around first: "not equal" takes nulls, the other comparisons don't.
    Iceberg,
}

pub(super) const ENGINES: [Engine; 3] = [Engine::Sql, Engine::SqlNanLast, Engine::Iceberg];

impl Row {
    /// The type and value of a column.
    pub(super) fn column(&self, name: &str) -> (Primitive, Option<Datum>) {
        match name {
            "n" => (Primitive::Long, self.n.map(Datum::Integer)),
            "s" => (Primitive::Text, self.s.clone().map(Datum::Text)),
            "d" => (Primitive::Double, self.d.map(Datum::Float)),
            _ => (Primitive::parse("timestamp").unwrap(), self.t.map(Datum::Integer)),
        }
    }
}

/// Whether an engine takes a row.
pub(super) fn takes(engine: Engine, filter: &Value, row: &Row) -> bool {
    eval(engine, filter, row, false) == Some(true)
}

fn eval(engine: Engine, filter: &Value, row: &Row, negated: bool) -> Option<bool> {
    if let Some(constant) = filter.as_bool() {
        return Some(constant ^ negated);
    }
    let kind = filter["type"].as_str().unwrap();
    let inner = |name: &str, negated: bool| eval(engine, &filter[name], row, negated);
    match kind {
        "not" => inner("child", !negated),
        "and" | "or" => {
            let (left, right) = (inner("left", negated), inner("right", negated));
            let all = (kind == "and") ^ negated;
            match (left, right) {
                (Some(left), Some(right)) => Some(if all { left && right } else { left || right }),
                // One side decides, whatever the other would be.
                (Some(known), None) | (None, Some(known)) if known != all => Some(known),
                _ => None,
            }
        }
        _ if engine == Engine::Iceberg => {
            let kind = if negated { turned(kind) } else { kind };
            let of_null = matches!(kind, "not-eq" | "not-in" | "not-starts-with" | "not-nan");
            Some(test(engine, kind, filter, row).unwrap_or(of_null))
        }
        _ => test(engine, kind, filter, row).map(|passes| passes ^ negated),
    }
}

fn turned(kind: &str) -> &str {
    let pairs = [
        ("is-null", "not-null"),
        ("is-nan", "not-nan"),
        ("lt", "gt-eq"),
        ("gt", "lt-eq"),
        ("eq", "not-eq"),
        ("in", "not-in"),
        ("starts-with", "not-starts-with"),
    ];
    let found = pairs.iter().find(|(one, other)| *one == kind || *other == kind).unwrap();
    if found.0 == kind { found.1 } else { found.0 }
}

/// `None` where the value is null and the test is of something else.
fn test(engine: Engine, kind: &str, filter: &Value, row: &Row) -> Option<bool> {
    let term = &filter["term"];
    let (of_column, value, of_value) = match term.as_str() {
        Some(name) => {
            let (kind, value) = row.column(name);
            (kind, value, kind)
        }
        None => {
            let (kind, value) = row.column(term["term"].as_str().unwrap());
            let transform = Transform::parse(term["transform"].as_str().unwrap()).unwrap();
            (kind, value.and_then(|value| transform.apply(&value, kind)), transform.result(kind).unwrap())
        }
    };
    let literal = |value: &Value| Datum::from_json(value, of_value).unwrap();
    let is_nan = value.as_ref().is_some_and(Datum::is_nan);
    match kind {
        "is-null" => return Some(value.is_none()),
        "not-null" => return Some(value.is_some()),
        "is-nan" | "not-nan" if value.is_none() => return None,
        "is-nan" => return Some(is_nan),
        "not-nan" => return Some(!is_nan),
        _ => {}
    }
    assert!(of_column == of_value || term.is_object());
    let value = value?;
    let order = |other: &Datum| match value.compare(other) {
        None if engine == Engine::Sql => None,
        None => Some(Ordering::Greater),
        order => order,
    };
    let starts = |prefix: Datum| match (&value, prefix) {
        (Datum::Text(text), Datum::Text(prefix)) => text.starts_with(&prefix),
        _ => false,
    };
    let against = || order(&literal(&filter["value"]));
    let any = || {
        filter["values"].as_array().unwrap().iter().any(|one| order(&literal(one)) == Some(Ordering::Equal))
    };
    Some(match kind {
        "lt" => against() == Some(Ordering::Less),
        "lt-eq" => matches!(against(), Some(Ordering::Less | Ordering::Equal)),
        "gt" => against() == Some(Ordering::Greater),
        "gt-eq" => matches!(against(), Some(Ordering::Greater | Ordering::Equal)),
        "eq" => against() == Some(Ordering::Equal),
        "not-eq" => against() != Some(Ordering::Equal),
        "in" => any(),
        "not-in" => !any(),
        "starts-with" => starts(literal(&filter["value"])),
        "not-starts-with" => !starts(literal(&filter["value"])),
        other => panic!("no predicate: {other}"),
    })
}
