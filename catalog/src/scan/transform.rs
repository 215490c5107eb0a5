//! Partition transforms (specification, "Partition Transforms").

use chrono::Datelike as _;

use super::{
    datum::Datum,
    primitive::{Primitive, Unit},
    time::date_of,
};

/// How a partition value follows from a column's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transform {
    Identity,
    Bucket(u32),
    Truncate(u32),
    Year,
    Month,
    Day,
    Hour,
    /// Always null.
    Void,
}

impl Transform {
    /// Of its name; `None` for one that this server doesn't know, whose values say nothing.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let width = |text: &str| text.strip_suffix(']')?.trim().parse().ok().filter(|width| *width > 0);
        Some(match name {
            "identity" => Self::Identity,
            "year" => Self::Year,
            "month" => Self::Month,
            "day" => Self::Day,
            "hour" => Self::Hour,
            "void" => Self::Void,
            _ => match name.strip_prefix("bucket[") {
                Some(rest) => Self::Bucket(width(rest)?),
                None => Self::Truncate(width(name.strip_prefix("truncate[")?)?),
            },
        })
    }

    /// Type of the result for a column's type; `None` if it doesn't take that.
    pub(crate) fn result(self, kind: Primitive) -> Option<Primitive> {
        let is_time = matches!(kind, Primitive::Timestamp(..));
        match self {
            Self::Identity | Self::Void => Some(kind),
            Self::Bucket(_) => (!kind.is_floating() && kind != Primitive::Boolean).then_some(Primitive::Int),
            Self::Truncate(_) => matches!(
                kind,
                Primitive::Int
                    | Primitive::Long
                    | Primitive::Decimal { .. }
                    | Primitive::Text
                    | Primitive::Binary
            )
            .then_some(kind),
            Self::Year | Self::Month => (is_time || kind == Primitive::Date).then_some(Primitive::Int),
            Self::Day => (is_time || kind == Primitive::Date).then_some(Primitive::Date),
            Self::Hour => is_time.then_some(Primitive::Int),
        }
    }

    /// Whether a greater value never has a smaller result.
    pub(crate) fn keeps_order(self) -> bool {
        !matches!(self, Self::Bucket(_) | Self::Void)
    }

    /// The result for a value of a type; `None` if there is none.
    pub(crate) fn apply(self, value: &Datum, kind: Primitive) -> Option<Datum> {
        match (self, value) {
            (Self::Identity, value) => Some(value.clone()),
            (Self::Void, _) => None,
            (Self::Bucket(buckets), value) => {
                let hash = murmur3::murmur3_32(&mut &hashed(value, kind)?[..], 0).ok()?;
                Some(Datum::Integer(i64::from((hash & 0x7fff_ffff) % buckets)))
            }
            (Self::Truncate(width), value) => truncate(value, width),
            (Self::Hour, Datum::Integer(count)) => {
                Some(Datum::Integer(seconds(*count, kind)?.div_euclid(3600)))
            }
            (_, Datum::Integer(count)) => {
                let days = match kind {
                    Primitive::Date => *count,
                    _ => seconds(*count, kind)?.div_euclid(86_400),
                };
                let date = || date_of(days);
                Some(Datum::Integer(match self {
                    Self::Day => days,
                    Self::Month => {
                        let date = date()?;
                        (i64::from(date.year()) - 1970) * 12 + i64::from(date.month0())
                    }
                    _ => i64::from(date()?.year()) - 1970,
                }))
            }
            _ => None,
        }
    }
}

fn seconds(count: i64, kind: Primitive) -> Option<i64> {
    match kind {
        Primitive::Timestamp(Unit::Micros, _) => Some(count.div_euclid(1_000_000)),
        Primitive::Timestamp(Unit::Nanos, _) => Some(count.div_euclid(1_000_000_000)),
        _ => None,
    }
}

fn truncate(value: &Datum, width: u32) -> Option<Datum> {
    let places = usize::try_from(width).ok()?;
    Some(match value {
        Datum::Integer(number) => Datum::Integer(number.checked_sub(number.rem_euclid(i64::from(width)))?),
        Datum::Decimal(number) => Datum::Decimal(number.checked_sub(number.rem_euclid(i128::from(width)))?),
        Datum::Text(text) => Datum::Text(text.chars().take(places).collect()),
        Datum::Bytes(bytes) => Datum::Bytes(bytes[..bytes.len().min(places)].to_vec()),
        _ => return None,
    })
}

/// What is hashed of a value (specification, appendix B).
fn hashed(value: &Datum, kind: Primitive) -> Option<Vec<u8>> {
    Some(match value {
        // Equal instants have equal hashes, whatever they are counted in.
        Datum::Integer(count) if matches!(kind, Primitive::Timestamp(Unit::Nanos, _)) => {
            count.div_euclid(1000).to_le_bytes().to_vec()
        }
        Datum::Integer(number) => number.to_le_bytes().to_vec(),
        Datum::Decimal(number) => {
            let bytes = number.to_be_bytes();
            let is_whole = |start: &usize| i128_of(&bytes[*start..]) == *number;
            let start = (0..16).rev().find(is_whole).unwrap_or_default();
            bytes[start..].to_vec()
        }
        Datum::Text(text) => text.clone().into_bytes(),
        Datum::Bytes(bytes) => bytes.clone(),
        Datum::Boolean(_) | Datum::Float(_) => return None,
    })
}

fn i128_of(bytes: &[u8]) -> i128 {
    let first = if bytes[0] & 0x80 == 0 { 0_i128 } else { -1 };
    bytes.iter().fold(first, |number, byte| (number << 8) | i128::from(*byte))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::{Value, json};

    use super::*;

    fn hash(kind: &str, value: Value) -> u32 {
        let kind = Primitive::parse(kind).unwrap();
        let value = Datum::from_json(&value, kind).unwrap();
        murmur3::murmur3_32(&mut &hashed(&value, kind).unwrap()[..], 0).unwrap()
    }

    #[test]
    fn hashes_are_those_of_the_specification() {
        for (kind, value, expected) in [
            ("int", json!(34), 2_017_239_379_u32 as i32),
            ("long", json!(34), 2_017_239_379),
            ("decimal(9,2)", json!("14.20"), -500_754_589),
            ("date", json!("2017-11-16"), -653_330_422),
            ("time", json!("22:31:08"), -662_762_989),
            ("timestamp", json!("2017-11-16T22:31:08"), -2_047_944_441),
            ("timestamptz", json!("2017-11-16T14:31:08-08:00"), -2_047_944_441),
            ("timestamp", json!("2017-11-16T22:31:08.000001"), -1_207_196_810),
            ("timestamp_ns", json!("2017-11-16T22:31:08.000001001"), -1_207_196_810),
            ("string", json!("iceberg"), 1_210_000_089),
            ("uuid", json!("f79c3e09-677c-4bbd-a479-3f349cb785e7"), 1_488_055_340),
            ("binary", json!("00010203"), -188_683_207),
        ] {
            assert_eq!(hash(kind, value.clone()) as i32, expected, "{kind} {value}");
        }
    }

    #[test]
    fn results_round_down_also_before_1970() {
        let apply = |transform: &str, kind: &str, value: Value| {
            let (transform, kind) = (Transform::parse(transform).unwrap(), Primitive::parse(kind).unwrap());
            let result = transform.apply(&Datum::from_json(&value, kind).unwrap(), kind).unwrap();
            result.to_json(transform.result(kind).unwrap())
        };
        let before = json!("1969-12-31T23:59:59.999999");
        for (transform, expected) in
            [("year", json!(-1)), ("month", json!(-1)), ("day", json!("1969-12-31")), ("hour", json!(-1))]
        {
            assert_eq!(apply(transform, "timestamp", before.clone()), expected, "{transform}");
        }
        assert_eq!(apply("month", "date", json!("1971-02-03")), json!(13));
        assert_eq!(apply("truncate[10]", "int", json!(-1)), json!(-10));
        assert_eq!(apply("truncate[50]", "decimal(9,2)", json!("10.65")), json!("10.50"));
        assert_eq!(apply("truncate[2]", "string", json!("éab")), json!("éa"));
        assert_eq!(apply("truncate[1]", "binary", json!("0102")), json!("01"));
        assert_eq!(Transform::parse("zorder[3]"), None);
        assert_eq!(Transform::parse("bucket[0]"), None);
    }
}
