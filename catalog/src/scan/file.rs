//! A file of a scan: what is needed to judge it, and what clients are told of it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{
    columns::Columns,
    datum::Datum,
    layout::{Layout, PartitionValue, partition_of},
};
use crate::manifests::{ColumnMetrics, Details, Entry, FileContent, ManifestError};

/// Column that position deletes hold their data files' paths in.
const DELETED_PATH: i64 = 2_147_483_546;

/// A live data or delete file.
#[derive(Clone, Debug)]
pub(crate) struct ScanFile {
    pub(crate) content: FileContent,
    pub(crate) path: String,
    pub(crate) spec_id: i64,
    pub(crate) partition: Vec<PartitionValue>,
    /// Data sequence number; files of format version 1 are older than any delete.
    pub(crate) sequence_number: i64,
    pub(crate) records: i64,
    /// Of the columns that are tested, and those whose statistics are asked for.
    pub(crate) metrics: BTreeMap<i64, ColumnMetrics>,
    bytes: i64,
    format: String,
    first_row_id: Option<i64>,
    key_metadata: Option<Vec<u8>>,
    split_offsets: Vec<i64>,
    sort_order: Option<i64>,
    equality_ids: Vec<i64>,
    /// The only data file that a delete file is about.
    referenced: Option<String>,
    offset: Option<i64>,
    content_size: Option<i64>,
}

impl ScanFile {
    /// Of a manifest's entry, with the statistics of the columns that `wanted` takes.
    pub(crate) fn new(
        entry: &Entry,
        details: &Details<'_>,
        spec_id: i64,
        layout: &Layout,
        wanted: &impl Fn(i64) -> bool,
    ) -> Result<Self, ManifestError> {
        let is_delete = entry.content != FileContent::Data;
        Ok(Self {
            content: entry.content,
            path: entry.path.clone(),
            spec_id,
            partition: partition_of(layout.fields(spec_id)?, details)?,
            sequence_number: entry.sequence_number.unwrap_or_default(),
            records: entry.records,
            metrics: details.metrics(|id| wanted(id) || is_delete && id == DELETED_PATH),
            bytes: entry.bytes,
            format: details.format().to_lowercase(),
            first_row_id: entry.first_row_id,
            key_metadata: details.key_metadata(),
            split_offsets: details.split_offsets(),
            sort_order: details.sort_order(),
            equality_ids: details.equality_ids(),
            referenced: entry.referenced.clone(),
            offset: entry.offset,
            content_size: details.content_size(),
        })
    }

    /// Whether it is a deletion vector.
    pub(crate) fn is_vector(&self) -> bool {
        self.content == FileContent::PositionDeletes && self.format == "puffin"
    }

    /// Paths of the data files that position deletes can name: from the first to the last, if they are known.
    pub(crate) fn named_paths(&self) -> (Option<&str>, Option<&str>) {
        if let Some(path) = &self.referenced {
            return (Some(path.as_str()), Some(path.as_str()));
        }
        let Some(metrics) = self.metrics.get(&DELETED_PATH) else { return (None, None) };
        (text(metrics.lower.as_deref()), text(metrics.upper.as_deref()))
    }

    /// As the specification writes it ("DataFile", "PositionDeleteFile", "EqualityDeleteFile"), with the statistics of the
    /// columns in `stats`.
    pub(crate) fn to_json(&self, layout: &Layout, columns: &Columns, stats: &BTreeSet<i64>) -> Value {
        let mut fields = Map::new();
        let mut set = |name: &str, value: Value| fields.insert(name.to_owned(), value);
        let content = match self.content {
            FileContent::Data => "data",
            FileContent::PositionDeletes => "position-deletes",
            FileContent::EqualityDeletes => "equality-deletes",
        };
        set("content", json!(content));
        set("file-path", json!(self.path));
        set("file-format", json!(self.format));
        set("spec-id", json!(self.spec_id));
        set("partition", self.partition_json(layout));
        set("file-size-in-bytes", json!(self.bytes));
        set("record-count", json!(self.records));
        if let Some(key) = &self.key_metadata {
            set("key-metadata", json!(hex::encode_upper(key)));
        }
        if !self.split_offsets.is_empty() {
            set("split-offsets", json!(self.split_offsets));
        }
        if let Some(order) = self.sort_order {
            set("sort-order-id", json!(order));
        }
        match self.content {
            FileContent::Data => {
                if let Some(first) = self.first_row_id {
                    set("first-row-id", json!(first));
                }
                self.set_metrics(columns, stats, &mut set);
            }
            FileContent::PositionDeletes => {
                if let Some(path) = &self.referenced {
                    set("referenced-data-file", json!(path));
                }
                if let (Some(offset), Some(size)) = (self.offset, self.content_size) {
                    set("content-offset", json!(offset));
                    set("content-size-in-bytes", json!(size));
                }
            }
            FileContent::EqualityDeletes => {
                set("equality-ids", json!(self.equality_ids));
            }
        }
        Value::Object(fields)
    }

    fn partition_json(&self, layout: &Layout) -> Value {
        let fields = layout.fields(self.spec_id).unwrap_or_default();
        let values = self.partition.iter().zip(fields).map(|(value, field)| match (value, field.result) {
            (PartitionValue::Known(datum), Some(kind)) => datum.to_json(kind),
            _ => Value::Null,
        });
        Value::Array(values.collect())
    }

    fn set_metrics(
        &self,
        columns: &Columns,
        stats: &BTreeSet<i64>,
        set: &mut impl FnMut(&str, Value) -> Option<Value>,
    ) {
        let mut map = |name: &str, of: &dyn Fn(i64, &ColumnMetrics) -> Option<Value>| {
            let wanted = self.metrics.iter().filter(|(id, _)| stats.contains(id));
            let (keys, values): (Vec<i64>, Vec<Value>) =
                wanted.filter_map(|(id, metrics)| Some((*id, of(*id, metrics)?))).unzip();
            if !keys.is_empty() {
                set(name, json!({"keys": keys, "values": values}));
            }
        };
        let bound = |id: i64, bytes: &Option<Vec<u8>>| {
            let kind = columns.by_id(id)?.kind?;
            Some(Datum::from_bound(bytes.as_deref()?, kind)?.to_json(kind))
        };
        map("column-sizes", &|_, metrics| metrics.bytes.map(Value::from));
        map("value-counts", &|_, metrics| metrics.values.map(Value::from));
        map("null-value-counts", &|_, metrics| metrics.nulls.map(Value::from));
        map("nan-value-counts", &|_, metrics| metrics.nans.map(Value::from));
        map("lower-bounds", &|id, metrics| bound(id, &metrics.lower));
        map("upper-bounds", &|id, metrics| bound(id, &metrics.upper));
    }
}

fn text(bytes: Option<&[u8]>) -> Option<&str> {
    std::str::from_utf8(bytes?).ok()
}
