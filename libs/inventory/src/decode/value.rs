//! Single values: what a field may hold, and what to say if it holds something else.

use std::{borrow::Cow, fmt::Display, ops::RangeInclusive};

use super::{
    instant::micros,
    json::{Kind, Members, Reader},
    row::Value,
};
use crate::{Rejection, RejectionKind, fields::Field};

pub(super) fn not_json(error: &sonic_rs::Error) -> Rejection {
    // The parser's message goes on with an excerpt over several lines; the first says what and where.
    let message = error.to_string();
    let first = message.lines().next().unwrap_or_default();
    Rejection::new(RejectionKind::NotJson, format!("not JSON: {first}"))
}

pub(super) fn duplicate(path: impl Display) -> Rejection {
    Rejection::new(RejectionKind::DuplicateField, format!("field '{path}' stands twice"))
}

pub(super) fn wrong_type(path: impl Display, found: &str, wanted: &str) -> Rejection {
    Rejection::new(RejectionKind::WrongType, format!("field '{path}' holds {found}, not {wanted}"))
}

/// Borrowed unless it has escapes.
pub(super) fn text<'a>(path: impl Display, json: &mut Reader<'a>) -> Result<Cow<'a, str>, Rejection> {
    let kind = json.kind()?;
    if kind != Kind::Text {
        return Err(wrong_type(path, kind.words(), "text"));
    }
    json.text()?.ok_or_else(|| {
        let reason = format!("field '{path}' holds an escape that is no character");
        Rejection::new(RejectionKind::NotJson, reason)
    })
}

pub(super) fn instant<'a>(path: &str, json: &mut Reader<'a>) -> Result<Value<'a>, Rejection> {
    let wanted = "an instant such as 2026-11-22T10:00:00Z";
    let kind = json.kind()?;
    if kind != Kind::Text {
        return Err(wrong_type(path, kind.words(), wanted));
    }
    let text = text(path, json)?;
    match micros(&text) {
        Some(us) => Ok(Value::Instant(text, us)),
        None => {
            let shown: String = text.chars().take(40).collect();
            Err(wrong_type(path, &format!("'{shown}'"), wanted))
        }
    }
}

pub(super) fn flag(path: &str, json: &mut Reader<'_>) -> Result<bool, Rejection> {
    let kind = json.kind()?;
    if kind != Kind::Flag {
        return Err(wrong_type(path, kind.words(), "true or false"));
    }
    Ok(json.raw()? == "true")
}

pub(super) fn whole_number(
    field: &Field,
    json: &mut Reader<'_>,
    range: &RangeInclusive<i64>,
) -> Result<i64, Rejection> {
    let kind = json.kind()?;
    if kind != Kind::Number {
        return Err(wrong_type(field.name, kind.words(), "a whole number"));
    }
    let raw = json.raw()?;
    if raw.contains(['.', 'e', 'E']) {
        return Err(wrong_type(field.name, "a number with a fraction or exponent", "a whole number"));
    }
    match raw.parse::<i64>() {
        Ok(number) if range.contains(&number) => Ok(number),
        _ => {
            let shown: String = raw.chars().take(40).collect();
            let unit = field.unit.map(|unit| format!(" ({unit})")).unwrap_or_default();
            let (low, high) = (range.start(), range.end());
            let reason = format!("field '{}' is {shown}, not within {low} to {high}{unit}", field.name);
            Err(Rejection::new(RejectionKind::OutOfRange, reason))
        }
    }
}

/// Goes into an array.
pub(super) fn elements(path: &str, json: &mut Reader<'_>) -> Result<Members, Rejection> {
    match json.kind()? {
        Kind::Array => json.enter(),
        kind => Err(wrong_type(path, kind.words(), "an array")),
    }
}

pub(super) fn texts<'a>(path: &str, json: &mut Reader<'a>) -> Result<Vec<Cow<'a, str>>, Rejection> {
    let mut members = elements(path, json)?;
    let mut texts = Vec::new();
    while json.element(&mut members)? {
        texts.push(text(format_args!("{path}[{}]", texts.len()), json)?);
    }
    Ok(texts)
}
