//! Records that are wrong on purpose, and what should become of them.

use firn_inventory::Inventory;
use rand::{Rng, rngs::StdRng};
use serde::Serialize;
use serde_json::{Value, json};

/// How a record is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Malformation {
    /// The text breaks off.
    Truncated,
    /// A text where a number belongs.
    WrongType,
    /// A share over 100 percent.
    OutOfRange,
    /// A field stands twice.
    DuplicateField,
    /// An instant in words.
    BadInstant,
    /// No `host_id`: can't be routed.
    NoHost,
    /// An array.
    NotAnObject,
    /// Bytes that are no text.
    InvalidUtf8,
}

/// Where a record should end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Destination {
    Bronze,
    Quarantine,
    /// The gateway's 422.
    Refused,
}

const ALL: [Malformation; 8] = [
    Malformation::Truncated,
    Malformation::WrongType,
    Malformation::OutOfRange,
    Malformation::DuplicateField,
    Malformation::BadInstant,
    Malformation::NoHost,
    Malformation::NotAnObject,
    Malformation::InvalidUtf8,
];

impl Malformation {
    pub(super) fn pick(rng: &mut StdRng) -> Self {
        ALL[rng.random_range(0..ALL.len())]
    }

    pub(super) fn destination(self) -> Destination {
        match self {
            Self::Truncated
            | Self::WrongType
            | Self::OutOfRange
            | Self::DuplicateField
            | Self::BadInstant => Destination::Quarantine,
            Self::NoHost | Self::NotAnObject | Self::InvalidUtf8 => Destination::Refused,
        }
    }

    /// The record's bytes, spoilt; one line.
    pub(super) fn spoil(self, record: &Inventory) -> serde_json::Result<Vec<u8>> {
        let with = |field: &str, value: Value| {
            let mut json = serde_json::to_value(record)?;
            json[field] = value;
            serde_json::to_vec(&json)
        };
        let mut whole = serde_json::to_vec(record)?;
        Ok(match self {
            Self::Truncated => {
                whole.truncate(whole.len() - 2);
                whole
            }
            Self::WrongType => with("cpu_count", json!("four"))?,
            Self::OutOfRange => with("cpu_usage", json!(20_000))?,
            Self::DuplicateField => {
                whole.pop();
                whole.extend_from_slice(br#","cpu_count":1}"#);
                whole
            }
            Self::BadInstant => with("collected_at", json!("yesterday"))?,
            Self::NoHost => {
                let mut json = serde_json::to_value(record)?;
                if let Some(fields) = json.as_object_mut() {
                    fields.remove("host_id");
                }
                serde_json::to_vec(&json)?
            }
            Self::NotAnObject => serde_json::to_vec(&json!([record]))?,
            Self::InvalidUtf8 => {
                whole.pop();
                whole.extend_from_slice(b",\"note\":\"\xff\"}");
                whole
            }
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// The real decoder and the gateway's own check agree with what the ledger will expect.
    #[test]
    fn each_malformation_ends_where_it_says() {
        let at = chrono::DateTime::UNIX_EPOCH;
        let record = super::super::Fleet::new(1, 1).next_record(at);
        firn_inventory::decode(&serde_json::to_vec(&record).unwrap()).unwrap();
        for malformation in ALL {
            let spoilt = malformation.spoil(&record).unwrap();
            assert!(firn_inventory::decode(&spoilt).is_err(), "{malformation:?}");
            assert!(!spoilt.contains(&b'\n'), "{malformation:?}");
            let routed = firn_inventory::host_id(&spoilt).is_ok();
            assert_eq!(routed, malformation.destination() == Destination::Quarantine, "{malformation:?}");
        }
    }
}
