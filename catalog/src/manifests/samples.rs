//! Manifests for tests, and that they read back.

#![allow(clippy::unwrap_used)]

use apache_avro::types::Value;
use bytes::Bytes;
use serde_json::json;

use super::{
    Entry, FileContent, Manifest, ManifestFile, NewManifestList, Status, avro::Header, list::Count, read_list,
};

/// A manifest's schema with an attribute that the Avro library doesn't know, and a field that Firn doesn't.
fn schema() -> String {
    let optional = |id: i64, name: &str, kind: serde_json::Value| json!({"name": name, "type": ["null", kind], "default": null, "field-id": id});
    let required =
        |id: i64, name: &str, kind: serde_json::Value| json!({"name": name, "type": kind, "field-id": id});
    let partition = json!({"type": "record", "name": "r102", "fields": [
        optional(1000, "at", json!({"type": "long", "logicalType": "timestamp-micros", "adjust-to-utc": true})),
    ]});
    let file = json!({"type": "record", "name": "r2", "fields": [
        required(134, "content", json!("int")),
        required(100, "file_path", json!("string")),
        required(101, "file_format", json!("string")),
        required(102, "partition", partition),
        required(103, "record_count", json!("long")),
        required(104, "file_size_in_bytes", json!("long")),
        optional(142, "first_row_id", json!("long")),
        optional(9999, "of_tomorrow", json!("string")),
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

fn some(value: Value) -> Value {
    Value::Union(1, Box::new(value))
}

fn none() -> Value {
    Value::Union(0, Box::new(Value::Null))
}

fn record(fields: Vec<(&str, Value)>) -> Value {
    Value::Record(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// A manifest of added data files of ten rows, as its snapshot writes it.
pub(crate) fn manifest(path: &str, snapshot_id: i64, files: &[String]) -> (Bytes, ManifestFile) {
    let entries = files.iter().map(|file| {
        let file = record(vec![
            ("content", Value::Int(0)),
            ("file_path", Value::String(file.clone())),
            ("file_format", Value::String("PARQUET".to_owned())),
            ("partition", record(vec![("at", some(Value::TimestampMicros(7)))])),
            ("record_count", Value::Long(10)),
            ("file_size_in_bytes", Value::Long(100)),
            ("first_row_id", none()),
            ("of_tomorrow", some(Value::String("kept".to_owned()))),
        ]);
        record(vec![
            ("status", Value::Int(1)),
            ("snapshot_id", none()),
            ("sequence_number", none()),
            ("file_sequence_number", none()),
            ("data_file", file),
        ])
    });
    let fields = [("format-version", "2".to_owned()), ("schema", "{\"of\":\"the table\"}".to_owned())];
    let bytes = Header::new(&schema(), &fields).unwrap().file(entries).unwrap();
    let count = files.len() as i64;
    let listed = ManifestFile {
        path: path.to_owned(),
        length: bytes.len() as i64,
        spec_id: 0,
        content: FileContent::Data,
        sequence_number: 1,
        min_sequence_number: 1,
        added_snapshot_id: snapshot_id,
        added: Count { files: count, rows: 10 * count },
        existing: Count::default(),
        deleted: Count::default(),
        partitions: None,
        key_metadata: None,
        first_row_id: None,
    };
    (bytes, listed)
}

/// A manifest list of a snapshot.
pub(crate) fn list(snapshot_id: i64, manifests: &[ManifestFile]) -> Bytes {
    let list = NewManifestList {
        format_version: 2,
        snapshot_id,
        parent_id: None,
        sequence_number: 1,
        next_row_id: 0,
    };
    list.write(manifests).unwrap().0
}

#[test]
fn a_manifest_list_reads_back() {
    let (_, mut one) = manifest("file:///m1", 7, &["file:///a".to_owned()]);
    one.key_metadata = Some(vec![1, 2]);
    let list = NewManifestList {
        format_version: 3,
        snapshot_id: 9,
        parent_id: Some(8),
        sequence_number: 5,
        next_row_id: 100,
    };
    let assigned = ManifestFile { first_row_id: Some(40), ..one.clone() };
    let (bytes, taken) = list.write(&[one.clone(), assigned.clone(), one.clone()]).unwrap();
    assert_eq!(taken, 20, "manifests without row ids get them, in order");
    let first = |id| ManifestFile { first_row_id: Some(id), ..one.clone() };
    assert_eq!(read_list(&bytes).unwrap(), [first(100), assigned, first(110)]);
}

#[test]
fn entries_keep_what_only_their_writer_knows() {
    let (bytes, listed) = manifest("file:///m1", 7, &["file:///a".to_owned(), "file:///b".to_owned()]);
    let listed = ManifestFile { first_row_id: Some(50), sequence_number: 4, ..listed };
    let read = Manifest::parse(&bytes, &listed).unwrap();
    let (first, second) = (&read.entries[0], &read.entries[1]);
    assert_eq!((first.snapshot_id, first.sequence_number, first.first_row_id), (Some(7), Some(4), Some(50)));
    assert_eq!((second.first_row_id, second.records), (Some(60), 10));

    let removed = Entry { status: Status::Deleted, snapshot_id: Some(9), ..first.clone() };
    let kept = Entry { status: Status::Existing, ..second.clone() };
    let (bytes, new) = read.with_entries(vec![removed, kept], &listed, "file:///m2", 9, 6).unwrap();
    assert_eq!((new.deleted.files, new.existing.rows, new.added.files), (1, 10, 0));
    assert_eq!((new.min_sequence_number, new.sequence_number, new.first_row_id), (4, 6, None));
    let again = Manifest::parse(&bytes, &ManifestFile { first_row_id: Some(500), ..new }).unwrap();
    assert_eq!(again.entries[0].status, Status::Deleted);
    assert_eq!((again.entries[1].path.as_str(), again.entries[1].first_row_id), ("file:///b", Some(60)));
    assert!(format!("{:?}", again.entries[1]).contains("kept"), "an unknown field");
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("adjust-to-utc") && text.contains("{\"of\":\"the table\"}"), "the header");
}

#[test]
fn other_files_are_refused() {
    assert!(read_list(b"PAR1").is_err());
    let (bytes, listed) = manifest("file:///m1", 7, &[]);
    assert!(read_list(&bytes[..bytes.len() / 2]).is_err());
    let encrypted = ManifestFile { key_metadata: Some(vec![1]), ..listed };
    assert!(Manifest::parse(&bytes, &encrypted).is_err());
}
