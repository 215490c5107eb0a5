//! Values of primitive types: out of manifests (appendix D of the specification), out of requests and into answers (JSON).

use std::cmp::Ordering;

use apache_avro::types::Value as Avro;
use serde_json::{Value as Json, json};

use super::{
    primitive::{Primitive, Unit},
    time,
};

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// A value. Of which type is said beside it: values of one type are of one variant.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Datum {
    Boolean(bool),
    /// Numbers, days, months and the like since 1970, microseconds or nanoseconds.
    Integer(i64),
    /// Never NaN where it is compared.
    Float(f64),
    /// Without its scale.
    Decimal(i128),
    Text(String),
    Bytes(Vec<u8>),
}

impl Datum {
    /// A bound of a file's or manifest's statistics. The file may have been written before its column's type was widened.
    pub(crate) fn from_bound(bytes: &[u8], kind: Primitive) -> Option<Self> {
        Some(match kind {
            Primitive::Boolean => Self::Boolean(*bytes.first()? != 0),
            Primitive::Timestamp(unit, _) if bytes.len() == 4 => {
                Self::Integer(days_as(unit, little_endian(bytes)?)?)
            }
            Primitive::Int
            | Primitive::Long
            | Primitive::Date
            | Primitive::Time
            | Primitive::Timestamp(..) => Self::Integer(little_endian(bytes)?),
            Primitive::Float | Primitive::Double => Self::Float(match bytes.len() {
                4 => f64::from(f32::from_le_bytes(bytes.try_into().ok()?)),
                _ => f64::from_le_bytes(bytes.try_into().ok()?),
            }),
            Primitive::Decimal { .. } => Self::Decimal(big_endian(bytes)?),
            Primitive::Text => Self::Text(std::str::from_utf8(bytes).ok()?.to_owned()),
            Primitive::Uuid | Primitive::Binary => Self::Bytes(bytes.to_vec()),
        })
    }

    /// A partition value of a manifest.
    pub(crate) fn from_avro(value: &Avro, kind: Primitive) -> Option<Self> {
        Some(match (value, kind) {
            (Avro::Boolean(flag), Primitive::Boolean) => Self::Boolean(*flag),
            (Avro::Date(days), Primitive::Timestamp(unit, _)) => {
                Self::Integer(days_as(unit, i64::from(*days))?)
            }
            (Avro::Int(number) | Avro::Date(number), _) if kind.is_discrete() => {
                Self::Integer(i64::from(*number))
            }
            (
                Avro::Long(number)
                | Avro::TimeMicros(number)
                | Avro::TimestampMicros(number)
                | Avro::LocalTimestampMicros(number)
                | Avro::TimestampNanos(number)
                | Avro::LocalTimestampNanos(number),
                _,
            ) if kind.is_discrete() => Self::Integer(*number),
            (Avro::Float(number), _) if kind.is_floating() => Self::Float(f64::from(*number)),
            (Avro::Double(number), _) if kind.is_floating() => Self::Float(*number),
            (Avro::Decimal(number), Primitive::Decimal { .. }) => {
                Self::Decimal(big_endian(&Vec::<u8>::try_from(number).ok()?)?)
            }
            (Avro::Bytes(bytes) | Avro::Fixed(_, bytes), Primitive::Decimal { .. }) => {
                Self::Decimal(big_endian(bytes)?)
            }
            (Avro::String(text), Primitive::Text) => Self::Text(text.clone()),
            (Avro::Uuid(id), Primitive::Uuid) => Self::Bytes(id.as_bytes().to_vec()),
            (Avro::Bytes(bytes) | Avro::Fixed(_, bytes), Primitive::Uuid | Primitive::Binary) => {
                Self::Bytes(bytes.clone())
            }
            _ => return None,
        })
    }

    /// A literal of a request; the text says why it is none of the type.
    pub(crate) fn from_json(value: &Json, kind: Primitive) -> Result<Self, String> {
        let unfit = |wanted: &str| Err(format!("{value} is not {wanted}"));
        let text = value.as_str();
        Ok(match kind {
            Primitive::Boolean => match value.as_bool() {
                Some(flag) => Self::Boolean(flag),
                None => return unfit("a boolean"),
            },
            Primitive::Int | Primitive::Long => match value.as_i64() {
                Some(number) => Self::Integer(number),
                None => return unfit("a whole number of 64 bits"),
            },
            Primitive::Float | Primitive::Double => match value.as_f64() {
                // A column of 32 bits holds the nearest such number.
                Some(number) if kind == Primitive::Float => Self::Float(f64::from(number as f32)),
                Some(number) => Self::Float(number),
                None => return unfit("a number"),
            },
            Primitive::Decimal { scale } => {
                let digits = text.map(str::to_owned).or_else(|| value.is_number().then(|| value.to_string()));
                match digits.and_then(|digits| decimal(&digits, scale)) {
                    Some(number) => Self::Decimal(number),
                    None => return unfit(&format!("a decimal number of scale {scale}, as a text")),
                }
            }
            Primitive::Date => match value.as_i64().or_else(|| text.and_then(time::parse_date)) {
                Some(days) => Self::Integer(days),
                None => return unfit("a date, such as \"2026-11-22\""),
            },
            Primitive::Time => match value.as_i64().or_else(|| text.and_then(time::parse_time)) {
                Some(micros) => Self::Integer(micros),
                None => return unfit("a time of day, such as \"10:15:30.123456\""),
            },
            Primitive::Timestamp(unit, zone) => {
                let parsed = text.and_then(|text| time::parse_timestamp(text, unit, zone));
                match value.as_i64().or(parsed) {
                    Some(count) => Self::Integer(count),
                    None => return unfit(time::timestamp_example(unit, zone)),
                }
            }
            Primitive::Text => match text {
                Some(text) => Self::Text(text.to_owned()),
                None => return unfit("a text"),
            },
            Primitive::Uuid => match text.and_then(|text| uuid::Uuid::try_parse(text).ok()) {
                Some(id) => Self::Bytes(id.as_bytes().to_vec()),
                None => return unfit("a UUID"),
            },
            Primitive::Binary => match text.and_then(|text| hex::decode(text).ok()) {
                Some(bytes) => Self::Bytes(bytes),
                None => return unfit("hexadecimal digits"),
            },
        })
    }

    /// As answers write it ("PrimitiveTypeValue").
    pub(crate) fn to_json(&self, kind: Primitive) -> Json {
        match (self, kind) {
            (Self::Boolean(flag), _) => json!(flag),
            (Self::Integer(days), Primitive::Date) => time::write_date(*days).map_or(json!(days), Json::from),
            (Self::Integer(micros), Primitive::Time) => {
                time::write_time(*micros).map_or(json!(micros), Json::from)
            }
            (Self::Integer(count), Primitive::Timestamp(unit, zone)) => {
                time::write_timestamp(*count, unit, zone).map_or(json!(count), Json::from)
            }
            (Self::Integer(number), _) => json!(number),
            // JSON has no such numbers.
            (Self::Float(number), _) if !number.is_finite() => json!(number.to_string()),
            (Self::Float(number), _) => json!(number),
            (Self::Decimal(number), Primitive::Decimal { scale }) => json!(write_decimal(*number, scale)),
            (Self::Decimal(number), _) => json!(number.to_string()),
            (Self::Text(text), _) => json!(text),
            (Self::Bytes(bytes), Primitive::Uuid) => match uuid::Uuid::from_slice(bytes) {
                Ok(id) => json!(id.to_string()),
                Err(_) => json!(hex::encode_upper(bytes)),
            },
            (Self::Bytes(bytes), _) => json!(hex::encode_upper(bytes)),
        }
    }

    /// Order within a type; `None` for NaN and for values of different types.
    pub(crate) fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Boolean(one), Self::Boolean(other)) => Some(one.cmp(other)),
            (Self::Integer(one), Self::Integer(other)) => Some(one.cmp(other)),
            (Self::Float(one), Self::Float(other)) => one.partial_cmp(other),
            (Self::Decimal(one), Self::Decimal(other)) => Some(one.cmp(other)),
            (Self::Text(one), Self::Text(other)) => Some(one.cmp(other)),
            (Self::Bytes(one), Self::Bytes(other)) => Some(one.cmp(other)),
            _ => None,
        }
    }

    pub(crate) fn is_nan(&self) -> bool {
        matches!(self, Self::Float(number) if number.is_nan())
    }

    /// The value `step` places on, of types whose values have a next one.
    pub(crate) fn stepped(&self, step: i64) -> Option<Self> {
        match self {
            Self::Integer(number) => number.checked_add(step).map(Self::Integer),
            Self::Decimal(number) => number.checked_add(i128::from(step)).map(Self::Decimal),
            _ => None,
        }
    }
}

fn days_as(unit: Unit, days: i64) -> Option<i64> {
    let micros = days.checked_mul(MICROS_PER_DAY)?;
    match unit {
        Unit::Micros => Some(micros),
        Unit::Nanos => micros.checked_mul(1000),
    }
}

fn little_endian(bytes: &[u8]) -> Option<i64> {
    match bytes.len() {
        4 => Some(i64::from(i32::from_le_bytes(bytes.try_into().ok()?))),
        _ => Some(i64::from_le_bytes(bytes.try_into().ok()?)),
    }
}

/// A number in two's complement of any length up to 16 bytes.
fn big_endian(bytes: &[u8]) -> Option<i128> {
    if bytes.is_empty() || bytes.len() > 16 {
        return None;
    }
    let sign = if bytes[0] & 0x80 == 0 { 0 } else { 0xff };
    let mut whole = [sign; 16];
    whole[16 - bytes.len()..].copy_from_slice(bytes);
    Some(i128::from_be_bytes(whole))
}

/// Plain or with an exponent; `None` if the scale has no place for all of its digits.
fn decimal(text: &str, scale: u32) -> Option<i128> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    if digits.len() > 60 || !fraction.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number: i128 = digits.parse().ok()?;
    let shift = i32::try_from(scale).ok()? + exponent - i32::try_from(fraction.len()).ok()?;
    let factor = 10_i128.checked_pow(shift.unsigned_abs())?;
    match shift >= 0 {
        true => number.checked_mul(factor),
        false => (number % factor == 0).then(|| number / factor),
    }
}

fn write_decimal(number: i128, scale: u32) -> String {
    let digits = number.unsigned_abs().to_string();
    let places = usize::try_from(scale).unwrap_or_default();
    let padded = format!("{digits:0>width$}", width = places + 1);
    let (whole, fraction) = padded.split_at(padded.len() - places);
    let sign = if number < 0 { "-" } else { "" };
    match fraction {
        "" => format!("{sign}{whole}"),
        fraction => format!("{sign}{whole}.{fraction}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::scan::primitive::Zone;

    #[test]
    fn literals_come_back_as_they_went() {
        for (kind, text) in [
            ("boolean", json!(true)),
            ("int", json!(-7)),
            ("long", json!(i64::MAX)),
            ("float", json!(1.5)),
            ("double", json!(0.1)),
            ("decimal(9,2)", json!("-0.05")),
            ("decimal(9,0)", json!("12")),
            ("date", json!("1969-12-31")),
            ("time", json!("22:31:08.123456")),
            ("timestamp", json!("2007-12-03T10:15:30.123456")),
            ("timestamptz", json!("2007-12-03T10:15:30.123456+00:00")),
            ("timestamp_ns", json!("2007-12-03T10:15:30.123456789")),
            ("timestamptz_ns", json!("1907-12-03T10:15:30.123456789+00:00")),
            ("string", json!("é")),
            ("uuid", json!("eb26bdb1-a1d8-4aa6-990e-da940875492c")),
            ("fixed[3]", json!("78797A")),
            ("binary", json!("")),
        ] {
            let primitive = Primitive::parse(kind).unwrap();
            assert_eq!(Datum::from_json(&text, primitive).unwrap().to_json(primitive), text, "{kind}");
        }
    }

    #[test]
    fn what_is_no_literal_of_the_type_says_so() {
        for (kind, text) in [
            ("int", json!("7")),
            ("int", json!(7.5)),
            ("boolean", json!(1)),
            ("string", json!(7)),
            ("date", json!("2026-02-30")),
            ("timestamp", json!("2026-02-03T10:00:00+01:00")),
            ("timestamptz", json!("2026-02-03T10:00:00")),
            ("timestamp", json!("2026-02-03T10:00:00.1234567")),
            ("decimal(4,1)", json!("1.25")),
            ("uuid", json!("7")),
            ("binary", json!("xyz")),
        ] {
            let error = Datum::from_json(&text, Primitive::parse(kind).unwrap()).unwrap_err();
            assert!(error.starts_with(&text.to_string()), "{kind}: {error}");
        }
    }

    #[test]
    fn numbers_and_exponents_are_decimals() {
        let decimal = |value: Json| Datum::from_json(&value, Primitive::Decimal { scale: 2 });
        assert_eq!(decimal(json!(3)), Ok(Datum::Decimal(300)));
        assert_eq!(decimal(json!("2E+3")), Ok(Datum::Decimal(200_000)));
        assert_eq!(decimal(json!("1.500")), Ok(Datum::Decimal(150)));
        assert!(decimal(json!("1E+99")).is_err() && decimal(json!("")).is_err());
    }

    #[test]
    fn bounds_of_narrower_types_are_read() {
        let micros = Primitive::Timestamp(Unit::Micros, Zone::Local);
        assert_eq!(Datum::from_bound(&7_i32.to_le_bytes(), Primitive::Long), Some(Datum::Integer(7)));
        assert_eq!(Datum::from_bound(&1.5_f32.to_le_bytes(), Primitive::Double), Some(Datum::Float(1.5)));
        assert_eq!(Datum::from_bound(&1_i32.to_le_bytes(), micros), Some(Datum::Integer(MICROS_PER_DAY)));
        let decimal = Primitive::Decimal { scale: 2 };
        assert_eq!(Datum::from_bound(&[0xff, 0x38], decimal), Some(Datum::Decimal(-200)));
        assert_eq!(Datum::from_bound(&[], Primitive::Long), None);
        assert_eq!(Datum::from_bound(&[0xff], Primitive::Text), None);
    }
}
