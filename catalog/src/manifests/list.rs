//! Manifest lists of format versions 2 and 3; lists of version 1 are read.

use apache_avro::types::Value;
use bytes::Bytes;
use serde_json::{Value as Json, json};

use super::{
    FileContent, ManifestError,
    avro::{self, Fields, Header, items},
};

/// A manifest as a manifest list shows it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ManifestFile {
    pub(crate) path: String,
    pub(crate) length: i64,
    pub(crate) spec_id: i64,
    /// `Data`, or `PositionDeletes` for a manifest of any delete files.
    pub(crate) content: FileContent,
    pub(crate) sequence_number: i64,
    pub(crate) min_sequence_number: i64,
    pub(crate) added_snapshot_id: i64,
    pub(crate) added: Count,
    pub(crate) existing: Count,
    pub(crate) deleted: Count,
    pub(crate) partitions: Option<Vec<FieldSummary>>,
    pub(crate) key_metadata: Option<Vec<u8>>,
    /// Row id of the first row, in format version 3.
    pub(crate) first_row_id: Option<i64>,
}

/// Files of one status, and their rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) files: i64,
    pub(crate) rows: i64,
}

/// Range of one partition field.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FieldSummary {
    pub(crate) contains_null: bool,
    pub(crate) contains_nan: Option<bool>,
    pub(crate) lower: Option<Vec<u8>>,
    pub(crate) upper: Option<Vec<u8>>,
}

/// The manifests of a snapshot.
pub(crate) fn read_list(bytes: &[u8]) -> Result<Vec<ManifestFile>, ManifestError> {
    let (header, records) = avro::read(bytes)?;
    let fields = Fields::of(&header.schema)?;
    let summary = fields.schema(507).and_then(items).map(Fields::of).transpose()?;
    records.iter().map(|record| manifest_file(&fields, summary.as_ref(), record)).collect()
}

fn manifest_file(
    fields: &Fields,
    summary: Option<&Fields>,
    record: &Value,
) -> Result<ManifestFile, ManifestError> {
    let missing = |what: &str| ManifestError::new(format!("a manifest in the list has no {what}"));
    // Version 1 may leave counts out; a manifest is then taken to have files of each kind.
    let count = |files, rows| Count {
        files: fields.long(record, files).unwrap_or(1),
        rows: fields.long(record, rows).unwrap_or_default(),
    };
    let partitions = match (fields.get(record, 507), summary) {
        (Some(Value::Array(all)), Some(summary)) => {
            Some(all.iter().map(|field| field_summary(summary, field)).collect())
        }
        _ => None,
    };
    let sequence_number = fields.long(record, 515).unwrap_or_default();
    Ok(ManifestFile {
        path: fields.text(record, 500).ok_or_else(|| missing("path"))?.to_owned(),
        length: fields.long(record, 501).ok_or_else(|| missing("length"))?,
        spec_id: fields.long(record, 502).ok_or_else(|| missing("partition spec"))?,
        content: FileContent::of(fields.long(record, 517).unwrap_or_default())?,
        sequence_number,
        min_sequence_number: fields.long(record, 516).unwrap_or(sequence_number),
        added_snapshot_id: fields.long(record, 503).ok_or_else(|| missing("snapshot"))?,
        added: count(504, 512),
        existing: count(505, 513),
        deleted: count(506, 514),
        partitions,
        key_metadata: fields.bytes(record, 519),
        first_row_id: fields.long(record, 520),
    })
}

fn field_summary(fields: &Fields, record: &Value) -> FieldSummary {
    let flag = |id| match fields.get(record, id) {
        Some(Value::Boolean(flag)) => Some(*flag),
        _ => None,
    };
    FieldSummary {
        contains_null: flag(509).unwrap_or(true),
        contains_nan: flag(518),
        lower: fields.bytes(record, 510),
        upper: fields.bytes(record, 511),
    }
}

/// What a new manifest list says about its snapshot.
pub(crate) struct NewManifestList {
    /// 2 or 3.
    pub(crate) format_version: i64,
    pub(crate) snapshot_id: i64,
    pub(crate) parent_id: Option<i64>,
    pub(crate) sequence_number: i64,
    /// Version 3: the table's next row id.
    pub(crate) next_row_id: i64,
}

impl NewManifestList {
    /// The file, and in version 3 how many row ids its data manifests took.
    pub(crate) fn write(&self, manifests: &[ManifestFile]) -> Result<(Bytes, i64), ManifestError> {
        let mut fields = vec![
            ("format-version", self.format_version.to_string()),
            ("snapshot-id", self.snapshot_id.to_string()),
            ("sequence-number", self.sequence_number.to_string()),
            ("parent-snapshot-id", self.parent_id.map_or_else(|| "null".to_owned(), |id| id.to_string())),
        ];
        let with_row_ids = self.format_version >= 3;
        if with_row_ids {
            fields.push(("first-row-id", self.next_row_id.to_string()));
        }
        let header = Header::new(&schema(with_row_ids).to_string(), &fields)?;
        let mut next = self.next_row_id;
        let mut records = Vec::with_capacity(manifests.len());
        for manifest in manifests {
            let mut first = manifest.first_row_id;
            if with_row_ids && manifest.content == FileContent::Data && first.is_none() {
                first = Some(next);
                next += manifest.added.rows + manifest.existing.rows;
            }
            records.push(record(manifest, with_row_ids.then_some(first)));
        }
        Ok((header.file(records)?, next - self.next_row_id))
    }
}

/// One manifest as a record of [`schema`]; `first_row_id` only where the schema has it.
fn record(manifest: &ManifestFile, first_row_id: Option<Option<i64>>) -> Value {
    let content = i32::from(manifest.content != FileContent::Data);
    let int = |number: i64| Value::Int(i32::try_from(number).unwrap_or(i32::MAX));
    let partitions = manifest.partitions.as_ref().map(|all| Value::Array(all.iter().map(summary).collect()));
    let mut fields = vec![
        ("manifest_path", Value::String(manifest.path.clone())),
        ("manifest_length", Value::Long(manifest.length)),
        ("partition_spec_id", int(manifest.spec_id)),
        ("content", Value::Int(content)),
        ("sequence_number", Value::Long(manifest.sequence_number)),
        ("min_sequence_number", Value::Long(manifest.min_sequence_number)),
        ("added_snapshot_id", Value::Long(manifest.added_snapshot_id)),
        ("added_files_count", int(manifest.added.files)),
        ("existing_files_count", int(manifest.existing.files)),
        ("deleted_files_count", int(manifest.deleted.files)),
        ("added_rows_count", Value::Long(manifest.added.rows)),
        ("existing_rows_count", Value::Long(manifest.existing.rows)),
        ("deleted_rows_count", Value::Long(manifest.deleted.rows)),
        ("partitions", optional(partitions)),
        ("key_metadata", optional(manifest.key_metadata.clone().map(Value::Bytes))),
    ];
    if let Some(first) = first_row_id {
        fields.push(("first_row_id", optional(first.map(Value::Long))));
    }
    Value::Record(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn summary(field: &FieldSummary) -> Value {
    let fields = [
        ("contains_null", Value::Boolean(field.contains_null)),
        ("contains_nan", optional(field.contains_nan.map(Value::Boolean))),
        ("lower_bound", optional(field.lower.clone().map(Value::Bytes))),
        ("upper_bound", optional(field.upper.clone().map(Value::Bytes))),
    ];
    Value::Record(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn optional(value: Option<Value>) -> Value {
    match value {
        None => Value::Union(0, Box::new(Value::Null)),
        Some(value) => Value::Union(1, Box::new(value)),
    }
}

/// The specification's schema of a manifest list.
fn schema(with_row_ids: bool) -> Json {
    let required = |id: i64, name: &str, kind: &str| json!({"name": name, "type": kind, "field-id": id});
    let optional = |id: i64, name: &str, kind: Json| json!({"name": name, "type": ["null", kind], "default": null, "field-id": id});
    let summary = json!({"type": "record", "name": "r508", "fields": [
        required(509, "contains_null", "boolean"),
        optional(518, "contains_nan", json!("boolean")),
        optional(510, "lower_bound", json!("bytes")),
        optional(511, "upper_bound", json!("bytes")),
    ]});
    let mut fields = vec![
        required(500, "manifest_path", "string"),
        required(501, "manifest_length", "long"),
        required(502, "partition_spec_id", "int"),
        required(517, "content", "int"),
        required(515, "sequence_number", "long"),
        required(516, "min_sequence_number", "long"),
        required(503, "added_snapshot_id", "long"),
        required(504, "added_files_count", "int"),
        required(505, "existing_files_count", "int"),
        required(506, "deleted_files_count", "int"),
        required(512, "added_rows_count", "long"),
        required(513, "existing_rows_count", "long"),
        required(514, "deleted_rows_count", "long"),
        optional(507, "partitions", json!({"type": "array", "items": summary, "element-id": 508})),
        optional(519, "key_metadata", json!("bytes")),
    ];
    if with_row_ids {
        fields.push(optional(520, "first_row_id", json!("long")));
    }
    json!({"type": "record", "name": "manifest_file", "fields": fields})
}
