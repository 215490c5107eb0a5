//! Looking into a JSON document by path; whatever is absent or of another type is `None`.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::Value;

/// The value at a path of keys.
fn at<'a>(document: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(document, |value, key| value.get(key))
}

/// Text that isn't blank.
pub(super) fn text(document: &Value, path: &[&str]) -> Option<String> {
    let text = at(document, path)?.as_str()?.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// A whole number, not negative, also if it is written as text.
pub(super) fn number(document: &Value, path: &[&str]) -> Option<i64> {
    let value = at(document, path)?;
    let number = value.as_i64().or_else(|| value.as_str()?.trim().parse().ok())?;
    (number >= 0).then_some(number)
}

/// A count of processors.
pub(super) fn count(document: &Value, path: &[&str]) -> Option<i32> {
    number(document, path).and_then(|number| i32::try_from(number).ok()).filter(|count| *count > 0)
}

pub(super) fn flag(document: &Value, path: &[&str]) -> Option<bool> {
    at(document, path)?.as_bool()
}

/// A number of a unit of `factor` bytes, with a fraction.
#[allow(clippy::cast_possible_truncation, reason = "sizes of disks fit")]
pub(super) fn bytes(document: &Value, path: &[&str], factor: f64) -> Option<i64> {
    let number = at(document, path)?.as_f64().filter(|number| number.is_finite() && *number >= 0.0)?;
    Some((number * factor) as i64)
}

/// Elements of an array; none if there is no array.
pub(super) fn elements<'a>(document: &'a Value, path: &[&str]) -> &'a [Value] {
    at(document, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// An instant in RFC 3339. Go's zero time means that nothing is known.
pub(super) fn instant(document: &Value, path: &[&str]) -> Option<String> {
    let text = text(document, path)?;
    let known = DateTime::parse_from_rfc3339(&text).is_ok() && !text.starts_with("0001-");
    known.then_some(text)
}

/// An instant in milliseconds since the epoch.
pub(super) fn instant_ms(document: &Value, path: &[&str]) -> Option<String> {
    let time = DateTime::<Utc>::from_timestamp_millis(number(document, path)?)?;
    Some(time.to_rfc3339_opts(SecondsFormat::Millis, true))
}

/// Removes keys of the top level that are held elsewhere or must not be kept.
pub(super) fn without(mut document: Value, keys: &[&str]) -> Value {
    if let Some(object) = document.as_object_mut() {
        object.retain(|key, _| !keys.contains(&key.as_str()));
    }
    document
}
