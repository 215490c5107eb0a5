//! Manifests of files with partitions and statistics, for tests.

#![allow(clippy::unwrap_used)]

use apache_avro::types::Value;
use bytes::Bytes;
use serde_json::json;

use super::{ColumnMetrics, FileContent, ManifestFile, avro::Header, list::Count};

/// A file of a manifest.
#[derive(Clone, Debug)]
pub(crate) struct SampleFile {
    pub(crate) content: FileContent,
    pub(crate) path: String,
    pub(crate) format: &'static str,
    /// Values of the partition fields of the manifest.
    pub(crate) partition: Vec<Option<Value>>,
    pub(crate) records: i64,
    pub(crate) metrics: Vec<(i64, ColumnMetrics)>,
    pub(crate) referenced: Option<String>,
    pub(crate) equality_ids: Vec<i64>,
    pub(crate) deleted: bool,
}

impl SampleFile {
    pub(crate) fn data(path: &str) -> Self {
        Self {
            content: FileContent::Data,
            path: path.to_owned(),
            format: "PARQUET",
            partition: Vec::new(),
            records: 1,
            metrics: Vec::new(),
            referenced: None,
            equality_ids: Vec::new(),
            deleted: false,
        }
    }
}

/// A manifest of a spec with fields of these ids and Avro types, as the snapshot with this sequence number adds it.
pub(crate) fn manifest(
    path: &str,
    spec_id: i64,
    partition: &[(i64, &str)],
    sequence_number: i64,
    files: &[SampleFile],
) -> (Bytes, ManifestFile) {
    let header = Header::new(&schema(partition), &[("format-version", "2".to_owned())]).unwrap();
    let bytes = header.file(files.iter().map(|file| record(partition, file))).unwrap();
    let of = |deleted: bool| Count {
        files: files.iter().filter(|file| file.deleted == deleted).count() as i64,
        rows: files.iter().filter(|file| file.deleted == deleted).map(|file| file.records).sum(),
    };
    let is_data = files.iter().all(|file| file.content == FileContent::Data);
    let listed = ManifestFile {
        path: path.to_owned(),
        length: bytes.len() as i64,
        spec_id,
        content: if is_data { FileContent::Data } else { FileContent::PositionDeletes },
        sequence_number,
        min_sequence_number: sequence_number,
        added_snapshot_id: sequence_number,
        added: of(false),
        existing: Count::default(),
        deleted: of(true),
        partitions: None,
        key_metadata: None,
        first_row_id: None,
    };
    (bytes, listed)
}

fn schema(partition: &[(i64, &str)]) -> String {
    let required =
        |id: i64, name: &str, kind: serde_json::Value| json!({"name": name, "type": kind, "field-id": id});
    let optional = |id: i64, name: &str, kind: serde_json::Value| json!({"name": name, "type": ["null", kind], "default": null, "field-id": id});
    let pairs = |key: i64, kind: &str| {
        let record = json!({"type": "record", "name": format!("k{key}_v{}", key + 1), "fields": [
            required(key, "key", json!("int")),
            required(key + 1, "value", json!(kind)),
        ]});
        json!({"type": "array", "items": record, "logicalType": "map"})
    };
    let fields = partition.iter().map(|(id, kind)| {
        let kind = match *kind {
            "date" => json!({"type": "int", "logicalType": "date"}),
            "timestamp" => json!({"type": "long", "logicalType": "timestamp-micros"}),
            plain => json!(plain),
        };
        optional(*id, &format!("p{id}"), kind)
    });
    let partition = json!({"type": "record", "name": "r102", "fields": fields.collect::<Vec<_>>()});
    let file = json!({"type": "record", "name": "r2", "fields": [
        required(134, "content", json!("int")),
        required(100, "file_path", json!("string")),
        required(101, "file_format", json!("string")),
        required(102, "partition", partition),
        required(103, "record_count", json!("long")),
        required(104, "file_size_in_bytes", json!("long")),
        optional(108, "column_sizes", pairs(117, "long")),
        optional(109, "value_counts", pairs(119, "long")),
        optional(110, "null_value_counts", pairs(121, "long")),
        optional(137, "nan_value_counts", pairs(138, "long")),
        optional(125, "lower_bounds", pairs(126, "bytes")),
        optional(128, "upper_bounds", pairs(129, "bytes")),
        optional(135, "equality_ids", json!({"type": "array", "items": "int"})),
        optional(143, "referenced_data_file", json!("string")),
        optional(144, "content_offset", json!("long")),
        optional(145, "content_size_in_bytes", json!("long")),
    ]});
    json!({"type": "record", "name": "manifest_entry", "fields": [
        required(0, "status", json!("int")),
        optional(1, "snapshot_id", json!("long")),
        optional(3, "sequence_number", json!("long")),
        optional(4, "file_sequence_number", json!("long")),
        required(2, "data_file", file),
    ]})
    .to_string()
}

fn record(partition: &[(i64, &str)], file: &SampleFile) -> Value {
    let optional = |value: Option<Value>| match value {
        None => Value::Union(0, Box::new(Value::Null)),
        Some(value) => Value::Union(1, Box::new(value)),
    };
    let named = |fields: Vec<(&str, Value)>| {
        Value::Record(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    };
    let pairs = |of: &dyn Fn(&ColumnMetrics) -> Option<Value>| {
        let pair = |(id, metrics): &(i64, ColumnMetrics)| {
            Some(named(vec![("key", Value::Int(*id as i32)), ("value", of(metrics)?)]))
        };
        optional(Some(Value::Array(file.metrics.iter().filter_map(pair).collect())))
    };
    let is_vector = file.format == "PUFFIN";
    let values = partition.iter().zip(&file.partition);
    let values = values.map(|((id, _), value)| (format!("p{id}"), optional(value.clone()))).collect();
    let ids = file.equality_ids.iter().map(|id| Value::Int(*id as i32)).collect();
    let data = named(vec![
        ("content", Value::Int(file.content as i32)),
        ("file_path", Value::String(file.path.clone())),
        ("file_format", Value::String(file.format.to_owned())),
        ("partition", Value::Record(values)),
        ("record_count", Value::Long(file.records)),
        ("file_size_in_bytes", Value::Long(100)),
        ("column_sizes", pairs(&|metrics| metrics.bytes.map(Value::Long))),
        ("value_counts", pairs(&|metrics| metrics.values.map(Value::Long))),
        ("null_value_counts", pairs(&|metrics| metrics.nulls.map(Value::Long))),
        ("nan_value_counts", pairs(&|metrics| metrics.nans.map(Value::Long))),
        ("lower_bounds", pairs(&|metrics| metrics.lower.clone().map(Value::Bytes))),
        ("upper_bounds", pairs(&|metrics| metrics.upper.clone().map(Value::Bytes))),
        ("equality_ids", optional((!file.equality_ids.is_empty()).then_some(Value::Array(ids)))),
        ("referenced_data_file", optional(file.referenced.clone().map(Value::String))),
        ("content_offset", optional(is_vector.then_some(Value::Long(4)))),
        ("content_size_in_bytes", optional(is_vector.then_some(Value::Long(40)))),
    ]);
    named(vec![
        ("status", Value::Int(if file.deleted { 2 } else { 1 })),
        ("snapshot_id", optional(None)),
        ("sequence_number", optional(None)),
        ("file_sequence_number", optional(None)),
        ("data_file", data),
    ])
}
