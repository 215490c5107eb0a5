//! What a manifest says of a file beyond its path and size: partition, statistics, where it can be split.

use std::collections::BTreeMap;

use apache_avro::types::Value;

use super::{
    ManifestError,
    avro::{Fields, plain},
};

/// Field ids of a data file.
const FORMAT: i64 = 101;
const PARTITION: i64 = 102;
const COLUMN_SIZES: i64 = 108;
const VALUE_COUNTS: i64 = 109;
const NULL_COUNTS: i64 = 110;
const LOWER_BOUNDS: i64 = 125;
const UPPER_BOUNDS: i64 = 128;
const KEY_METADATA: i64 = 131;
const SPLIT_OFFSETS: i64 = 132;
const EQUALITY_IDS: i64 = 135;
const NAN_COUNTS: i64 = 137;
const SORT_ORDER: i64 = 140;
const CONTENT_SIZE: i64 = 145;

/// One file's record in a manifest.
pub(crate) struct Details<'a> {
    pub(super) fields: &'a Fields,
    pub(super) file: &'a Value,
}

/// What is known of one column of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ColumnMetrics {
    pub(crate) bytes: Option<i64>,
    pub(crate) values: Option<i64>,
    pub(crate) nulls: Option<i64>,
    pub(crate) nans: Option<i64>,
    /// Serialized as the specification's appendix D says.
    pub(crate) lower: Option<Vec<u8>>,
    pub(crate) upper: Option<Vec<u8>>,
}

impl Details<'_> {
    /// Such as `PARQUET`.
    pub(crate) fn format(&self) -> &str {
        self.fields.text(self.file, FORMAT).unwrap_or("PARQUET")
    }

    /// Values of partition fields by their ids; `None` for null. A manifest that lacks a field is an error, since its absence
    /// must not be taken for null.
    pub(crate) fn partition(
        &self,
        ids: impl Iterator<Item = i64>,
    ) -> Result<Vec<Option<&Value>>, ManifestError> {
        let mut ids = ids.peekable();
        if ids.peek().is_none() {
            return Ok(Vec::new());
        }
        let lacking =
            |id| ManifestError::new(format!("the manifest has no values of the partition field {id}"));
        let (Some(schema), Some(record)) =
            (self.fields.schema(PARTITION), self.fields.get(self.file, PARTITION))
        else {
            return Err(ManifestError::new("the manifest has no partition values"));
        };
        let fields = Fields::of(schema)?;
        ids.map(|id| match fields.position(id) {
            None => Err(lacking(id)),
            Some(position) => match record {
                Value::Record(values) => Ok(values.get(position).and_then(|(_, value)| plain(value))),
                _ => Err(lacking(id)),
            },
        })
        .collect()
    }

    /// What is known of the columns that `wanted` takes, by id.
    pub(crate) fn metrics(&self, wanted: impl Fn(i64) -> bool) -> BTreeMap<i64, ColumnMetrics> {
        let mut all: BTreeMap<i64, ColumnMetrics> = BTreeMap::new();
        let mut each = |field: i64, set: &dyn Fn(&mut ColumnMetrics, &Value)| {
            for (column, value) in self.pairs(field) {
                if wanted(column) {
                    set(all.entry(column).or_default(), value);
                }
            }
        };
        each(COLUMN_SIZES, &|metrics, value| metrics.bytes = integer(value));
        each(VALUE_COUNTS, &|metrics, value| metrics.values = integer(value));
        each(NULL_COUNTS, &|metrics, value| metrics.nulls = integer(value));
        each(NAN_COUNTS, &|metrics, value| metrics.nans = integer(value));
        each(LOWER_BOUNDS, &|metrics, value| metrics.lower = octets(value));
        each(UPPER_BOUNDS, &|metrics, value| metrics.upper = octets(value));
        all
    }

    pub(crate) fn key_metadata(&self) -> Option<Vec<u8>> {
        self.fields.bytes(self.file, KEY_METADATA)
    }

    pub(crate) fn split_offsets(&self) -> Vec<i64> {
        self.integers(SPLIT_OFFSETS)
    }

    /// Columns that equality deletes compare.
    pub(crate) fn equality_ids(&self) -> Vec<i64> {
        self.integers(EQUALITY_IDS)
    }

    pub(crate) fn sort_order(&self) -> Option<i64> {
        self.fields.long(self.file, SORT_ORDER)
    }

    /// Size of a deletion vector within its file.
    pub(crate) fn content_size(&self) -> Option<i64> {
        self.fields.long(self.file, CONTENT_SIZE)
    }

    fn integers(&self, field: i64) -> Vec<i64> {
        match self.fields.get(self.file, field) {
            Some(Value::Array(items)) => items.iter().filter_map(integer).collect(),
            _ => Vec::new(),
        }
    }

    /// A map with integer keys, which Avro has as an array of records of key and value.
    fn pairs(&self, field: i64) -> impl Iterator<Item = (i64, &Value)> {
        let items = match self.fields.get(self.file, field) {
            Some(Value::Array(items)) => items.as_slice(),
            _ => &[],
        };
        items.iter().filter_map(|item| match plain(item)? {
            Value::Record(pair) => match pair.as_slice() {
                [(_, key), (_, value), ..] => Some((integer(key)?, plain(value)?)),
                _ => None,
            },
            _ => None,
        })
    }
}

fn integer(value: &Value) -> Option<i64> {
    match plain(value)? {
        Value::Int(number) => Some(i64::from(*number)),
        Value::Long(number) => Some(*number),
        _ => None,
    }
}

fn octets(value: &Value) -> Option<Vec<u8>> {
    match plain(value)? {
        Value::Bytes(bytes) | Value::Fixed(_, bytes) => Some(bytes.clone()),
        _ => None,
    }
}
