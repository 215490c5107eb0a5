//! From bytes to a record, one at a time; keeps what it does not know.

mod instant;
mod json;
mod row;
mod value;

use std::{borrow::Cow, collections::HashSet};

use sonic_rs::{JsonValueTrait, LazyValue};

use crate::{
    Inventory,
    fields::{FIELDS, Field, Slot, position},
};
use json::{Kind, Reader};
pub use row::Row;
pub(crate) use row::{Package, Value};

/// Records have their fields in order and leave some out: a key is looked for among so many before it is looked up.
const FIELDS_AHEAD: usize = 8;

/// Objects and arrays inside each other beyond this are refused, since parsers recurse.
const MAX_NESTING: usize = 64;

/// Longest `host_id`, in bytes: it is part of every key.
const MAX_HOST_ID_BYTES: usize = 512;

/// A record that was understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The known fields.
    pub inventory: Inventory,
    /// Unknown fields as one JSON object, if any. Those of a package stand under `software[INDEX].NAME`.
    pub extra: Option<String>,
}

/// Why a record was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RejectionKind {
    /// Not JSON, or not UTF-8.
    NotJson,
    /// JSON, but no object.
    NotAnObject,
    /// A field has another type than the schema says.
    WrongType,
    /// A required field is absent or empty.
    MissingField,
    /// A field stands twice.
    DuplicateField,
    /// A value is out of what the field may hold.
    OutOfRange,
    /// No payload at all.
    Tombstone,
    /// The record's key, headers and content don't name the same tenant and host, or no tenant that exists.
    Misaddressed,
}

impl RejectionKind {
    /// The kind as it is written in `bronze.quarantine`, in metrics and in answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotJson => "not_json",
            Self::NotAnObject => "not_an_object",
            Self::WrongType => "wrong_type",
            Self::MissingField => "missing_field",
            Self::DuplicateField => "duplicate_field",
            Self::OutOfRange => "out_of_range",
            Self::Tombstone => "tombstone",
            Self::Misaddressed => "misaddressed",
        }
    }

    /// The kind of that name, if there is one.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let all = [
            Self::NotJson,
            Self::NotAnObject,
            Self::WrongType,
            Self::MissingField,
            Self::DuplicateField,
            Self::OutOfRange,
            Self::Tombstone,
            Self::Misaddressed,
        ];
        all.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// A rejected record: the reason is written for a person, and names the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Rejection {
    /// Kind, for counting.
    pub kind: RejectionKind,
    /// What is wrong and where.
    pub reason: String,
}

impl Rejection {
    /// A rejection with its reason.
    #[must_use]
    pub fn new(kind: RejectionKind, reason: impl Into<String>) -> Self {
        Self { kind, reason: reason.into() }
    }
}

/// Decodes one native record.
///
/// An absent field and one that is `null` are the same. Instants may lie in any year; only their form is checked.
///
/// # Errors
/// [`Rejection`] with the first thing that is wrong.
pub fn decode(bytes: &[u8]) -> Result<Decoded, Rejection> {
    read(bytes).map(Row::into_decoded)
}

/// The same without a copy of each value, for whoever makes a row of it at once.
///
/// # Errors
/// As [`decode`].
pub fn read(bytes: &[u8]) -> Result<Row<'_>, Rejection> {
    // A record that breaks off is no JSON, whatever else is wrong with it before that.
    read_object(text(bytes)?).map_err(|rejection| checked_json(bytes).err().unwrap_or(rejection))
}

/// Reads the record's fields in one pass, which ends at the first thing that is wrong.
fn read_object(text: &str) -> Result<Row<'_>, Rejection> {
    let mut json = Reader::new(text);
    if json.kind()? != Kind::Object {
        return Err(Rejection::new(RejectionKind::NotAnObject, "the record is not a JSON object"));
    }
    let mut row = Row::empty();
    let mut extra = Extra::default();
    let mut seen = [false; FIELDS.len()];
    let mut expected = 0;
    let mut members = json.enter()?;
    while let Some(key) = json.key(&mut members)? {
        let Some(index) = ahead(expected, &key).or_else(|| position(&key)) else {
            extra.add(&key, json.raw()?)?;
            continue;
        };
        expected = index + 1;
        if std::mem::replace(&mut seen[index], true) {
            return Err(value::duplicate(&key));
        }
        if json.kind()? == Kind::Null {
            json.raw()?;
        } else {
            row.values[index] = read_value(&FIELDS[index], &mut json, &mut extra)?;
        }
    }
    json.end()?;
    if row.host_id().is_empty() {
        return Err(missing_host_id());
    }
    row.extra = extra.finish().map(Cow::Owned);
    Ok(row)
}

/// That all of it is one JSON object.
fn checked_json(bytes: &[u8]) -> Result<(), Rejection> {
    let text = checked_text(bytes)?;
    let whole: LazyValue<'_> = sonic_rs::from_str(text).map_err(|error| value::not_json(&error))?;
    if whole.is_object() {
        return Ok(());
    }
    Err(Rejection::new(RejectionKind::NotAnObject, "the record is not a JSON object"))
}

/// The index of a field that is one of the next.
fn ahead(expected: usize, key: &str) -> Option<usize> {
    let mut next = FIELDS.iter().enumerate().skip(expected).take(FIELDS_AHEAD);
    next.find(|(_, field)| field.name == key).map(|(index, _)| index)
}

/// The `host_id` of a native record, without judging the rest of it: what a gateway needs to route the record.
///
/// # Errors
/// [`Rejection`] if there is none to be found: not an object, no `host_id`, or one that is no text or empty.
pub fn host_id(bytes: &[u8]) -> Result<String, Rejection> {
    let text = checked_text(bytes)?;
    if !text.trim_ascii_start().starts_with('{') {
        return Err(Rejection::new(RejectionKind::NotAnObject, "the record is not a JSON object"));
    }
    let json = match sonic_rs::get(text, ["host_id"]) {
        Ok(json) => json,
        Err(error) if error.is_not_found() => return Err(missing_host_id()),
        Err(error) => return Err(value::not_json(&error)),
    };
    if json.is_null() {
        return Err(missing_host_id());
    }
    checked_host_id(&mut Reader::new(json.as_raw_str())).map(Cow::into_owned)
}

fn missing_host_id() -> Rejection {
    Rejection::new(RejectionKind::MissingField, "field 'host_id' is missing")
}

/// The text, if it isn't nested too deep for a parser that recurses without a bound.
fn checked_text(bytes: &[u8]) -> Result<&str, Rejection> {
    let text = text(bytes)?;
    if nests_deeper_than(bytes, MAX_NESTING) {
        let reason = format!("objects and arrays are nested more than {MAX_NESTING} deep");
        return Err(Rejection::new(RejectionKind::OutOfRange, reason));
    }
    Ok(text)
}

fn text(bytes: &[u8]) -> Result<&str, Rejection> {
    if bytes.trim_ascii().is_empty() {
        return Err(Rejection::new(RejectionKind::NotJson, "the record is empty"));
    }
    std::str::from_utf8(bytes).map_err(|error| {
        Rejection::new(RejectionKind::NotJson, format!("not UTF-8 at byte {}", error.valid_up_to()))
    })
}

/// Whether brackets outside of strings open deeper than `limit`.
fn nests_deeper_than(bytes: &[u8], limit: usize) -> bool {
    // Most records hold fewer brackets than the limit; counting them is much cheaper than following strings.
    if bytes.iter().filter(|byte| matches!(byte, b'{' | b'[')).count() <= limit {
        return false;
    }
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut escaped = false;
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > limit {
            return true;
        }
    }
    false
}

fn checked_host_id<'a>(json: &mut Reader<'a>) -> Result<Cow<'a, str>, Rejection> {
    let id = value::text("host_id", json)?;
    if id.trim().is_empty() {
        return Err(Rejection::new(RejectionKind::MissingField, "field 'host_id' is empty"));
    }
    if id.len() > MAX_HOST_ID_BYTES {
        let reason = format!("field 'host_id' has {} bytes, more than {MAX_HOST_ID_BYTES}", id.len());
        return Err(Rejection::new(RejectionKind::OutOfRange, reason));
    }
    Ok(id)
}

fn read_value<'a>(field: &Field, json: &mut Reader<'a>, extra: &mut Extra) -> Result<Value<'a>, Rejection> {
    let name = field.name;
    Ok(match &field.slot {
        Slot::HostId => Value::Text(checked_host_id(json)?),
        Slot::Text(_) => Value::Text(value::text(name, json)?),
        Slot::Instant(_) => value::instant(name, json)?,
        Slot::Flag(_) => Value::Flag(value::flag(name, json)?),
        Slot::Int(_, range) => {
            let range = i64::from(*range.start())..=i64::from(*range.end());
            let number = value::whole_number(field, json, &range)?;
            // The range lies within i32.
            i32::try_from(number).map_or(Value::Absent, Value::Int)
        }
        Slot::Long(_, range) => Value::Long(value::whole_number(field, json, range)?),
        Slot::Texts(_) => Value::Texts(value::texts(name, json)?),
        Slot::Software => Value::Software(software(json, extra)?),
    })
}

fn software<'a>(json: &mut Reader<'a>, extra: &mut Extra) -> Result<Vec<Package<'a>>, Rejection> {
    let mut members = value::elements("software", json)?;
    let mut packages = Vec::new();
    while json.element(&mut members)? {
        packages.push(package(packages.len(), json, extra)?);
    }
    Ok(packages)
}

fn package<'a>(index: usize, json: &mut Reader<'a>, extra: &mut Extra) -> Result<Package<'a>, Rejection> {
    let kind = json.kind()?;
    if kind != Kind::Object {
        return Err(value::wrong_type(format_args!("software[{index}]"), kind.words(), "an object"));
    }
    let mut texts = [None, None, None];
    let mut seen = [false; 3];
    let mut members = json.enter()?;
    while let Some(key) = json.key(&mut members)? {
        let Some(slot) = ["name", "version", "vendor"].iter().position(|name| *name == key) else {
            extra.add(&format!("software[{index}].{key}"), json.raw()?)?;
            continue;
        };
        if std::mem::replace(&mut seen[slot], true) {
            return Err(value::duplicate(format_args!("software[{index}].{key}")));
        }
        if json.kind()? == Kind::Null {
            json.raw()?;
        } else {
            texts[slot] = Some(value::text(format_args!("software[{index}].{key}"), json)?);
        }
    }
    let [name, version, vendor] = texts;
    let name = name.ok_or_else(|| {
        let reason = format!("field 'software[{index}].name' is missing");
        Rejection::new(RejectionKind::MissingField, reason)
    })?;
    Ok(Package { name, version, vendor })
}

/// Collects unknown fields, as the text they came in.
#[derive(Default)]
struct Extra {
    json: String,
    keys: HashSet<String>,
}

impl Extra {
    fn add(&mut self, key: &str, json: &str) -> Result<(), Rejection> {
        if !self.keys.insert(key.to_owned()) {
            return Err(value::duplicate(key));
        }
        self.json.push(if self.json.is_empty() { '{' } else { ',' });
        self.json.push_str(&serde_json::Value::from(key).to_string());
        self.json.push(':');
        self.json.push_str(json);
        Ok(())
    }

    fn finish(mut self) -> Option<String> {
        if self.json.is_empty() {
            return None;
        }
        self.json.push('}');
        Some(self.json)
    }
}

#[cfg(test)]
mod tests;
