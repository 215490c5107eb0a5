//! Single values: what a field may hold, and what to say if it holds something else.

use std::{borrow::Cow, fmt::Display, ops::RangeInclusive};

use sonic_rs::{ArrayJsonIter, JsonType, JsonValueTrait, LazyValue};

use super::{instant::micros, row::Value};
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

/// What a value is, in words.
pub(super) fn found(json: &LazyValue<'_>) -> &'static str {
    match json.get_type() {
        JsonType::Null => "null",
        JsonType::Boolean => "true or false",
        JsonType::Number => "a number",
        JsonType::String => "text",
        JsonType::Object => "an object",
        JsonType::Array => "an array",
    }
}

/// Borrowed unless it has escapes.
pub(super) fn text<'a>(path: impl Display, json: &LazyValue<'a>) -> Result<Cow<'a, str>, Rejection> {
    if !json.is_str() {
        return Err(wrong_type(path, found(json), "text"));
    }
    if let Cow::Borrowed(raw) = json.as_raw_cow()
        && !raw.as_bytes().contains(&b'\\')
        && let Some(text) = raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"'))
    {
        return Ok(Cow::Borrowed(text));
    }
    let Some(text) = json.as_str() else {
        let reason = format!("field '{path}' holds an escape that is no character");
        return Err(Rejection::new(RejectionKind::NotJson, reason));
    };
    Ok(Cow::Owned(text.to_owned()))
}

pub(super) fn instant<'a>(path: &str, json: &LazyValue<'a>) -> Result<Value<'a>, Rejection> {
    let wanted = "an instant such as 2026-11-22T10:00:00Z";
    if !json.is_str() {
        return Err(wrong_type(path, found(json), wanted));
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

pub(super) fn flag(path: &str, json: &LazyValue<'_>) -> Result<bool, Rejection> {
    json.as_bool().ok_or_else(|| wrong_type(path, found(json), "true or false"))
}

pub(super) fn whole_number(
    field: &Field,
    json: &LazyValue<'_>,
    range: &RangeInclusive<i64>,
) -> Result<i64, Rejection> {
    let raw = json.as_raw_str();
    if json.get_type() != JsonType::Number {
        return Err(wrong_type(field.name, found(json), "a whole number"));
    }
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

pub(super) fn elements<'a>(path: &str, json: LazyValue<'a>) -> Result<ArrayJsonIter<'a>, Rejection> {
    let found = found(&json);
    json.into_array_iter().ok_or_else(|| wrong_type(path, found, "an array"))
}

pub(super) fn texts<'a>(path: &str, json: LazyValue<'a>) -> Result<Vec<Cow<'a, str>>, Rejection> {
    let mut texts = Vec::new();
    for (index, element) in elements(path, json)?.enumerate() {
        let element = element.map_err(|error| not_json(&error))?;
        texts.push(text(format_args!("{path}[{index}]"), &element)?);
    }
    Ok(texts)
}
