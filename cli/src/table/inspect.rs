//! `firn table show|files|snapshots|history`: what a table's metadata says.

use anyhow::Result;
use chrono::{DateTime, SecondsFormat};
use firn_table::{DataFileEntry, SnapshotInfo};
use serde_json::{Value, json};

use super::{TableArgs, load};
use crate::{connection::ConnectionArgs, output};

/// Arguments of `firn table files`.
#[derive(clap::Args)]
pub(crate) struct FilesArgs {
    /// Its name, such as bronze.inventory
    table: String,
    /// Branch, tag, hash, or Nessie's reference syntax
    #[arg(long = "ref", default_value = "main")]
    reference: String,
    /// Files of this snapshot instead of the current one
    #[arg(long, value_name = "ID")]
    snapshot: Option<i64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// `firn table show`.
pub(super) async fn show(args: &TableArgs) -> Result<()> {
    let table = load(&args.table, &args.reference, &args.connection).await?;
    let metadata = table.metadata();
    let described = describe(metadata);
    if args.json {
        return output::json(&described);
    }
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut facts = vec![
        ("table", args.table.clone()),
        ("uuid", text(&described["uuid"])),
        ("location", text(&described["location"])),
        ("format", text(&described["format_version"])),
        ("partitioned by", list(&described["partitioning"])),
        ("sorted by", list(&described["sort_order"])),
    ];
    match table.current_snapshot() {
        None => facts.push(("snapshot", "none yet".to_owned())),
        Some(snapshot) => {
            facts.push(("snapshot", format!("{} of {}", snapshot.id, instant(snapshot.timestamp_ms))));
            for (name, key) in [
                ("rows", "total-records"),
                ("files", "total-data-files"),
                ("bytes", "total-files-size"),
                ("delete files", "total-delete-files"),
            ] {
                facts.extend(snapshot.summary.get(key).map(|value| (name, value.clone())));
            }
        }
    }
    let facts = facts.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
    output::rows(&["what", "value"], facts, "")?;
    let columns = described["columns"].as_array().into_iter().flatten();
    let columns = columns.map(|column| {
        let required = if column["required"] == true { "yes" } else { "" };
        vec![
            text(&column["name"]),
            text(&column["type"]),
            required.to_owned(),
            column["doc"].as_str().unwrap_or_default().to_owned(),
        ]
    });
    output::line("")?;
    output::rows(&["column", "type", "required", "what it is"], columns.collect(), "no columns")?;
    let properties = table.properties().into_iter().map(|(key, value)| vec![key, value]).collect();
    output::line("")?;
    output::rows(&["property", "value"], properties, "no properties")
}

/// The present state of a metadata document, without history.
fn describe(metadata: &Value) -> Value {
    let current = |list: &str, id: &str, wanted: &str| {
        let all = metadata[list].as_array().map(Vec::as_slice).unwrap_or_default();
        all.iter().find(|one| one[id] == metadata[wanted]).cloned().unwrap_or_default()
    };
    let schema = current("schemas", "schema-id", "current-schema-id");
    let fields = schema["fields"].as_array().map(Vec::as_slice).unwrap_or_default();
    let name_of = |id: &Value| {
        let field = fields.iter().find(|field| field["id"] == *id);
        field.and_then(|field| field["name"].as_str()).map_or_else(|| format!("column {id}"), str::to_owned)
    };
    let transformed = |field: &Value| {
        let (name, transform) =
            (name_of(&field["source-id"]), field["transform"].as_str().unwrap_or_default());
        if transform == "identity" { name } else { format!("{transform}({name})") }
    };
    let fields_of = |holder: &Value| holder["fields"].as_array().cloned().unwrap_or_default();
    let spec = current("partition-specs", "spec-id", "default-spec-id");
    let order = current("sort-orders", "order-id", "default-sort-order-id");
    let sorted =
        |field: &Value| format!("{} {}", transformed(field), field["direction"].as_str().unwrap_or_default());
    json!({
        "uuid": metadata["table-uuid"],
        "location": metadata["location"],
        "format_version": metadata["format-version"],
        "columns": fields.iter().map(|field| json!({
            "id": field["id"],
            "name": field["name"],
            "type": type_name(&field["type"]),
            "required": field["required"],
            "doc": field["doc"],
        })).collect::<Vec<_>>(),
        "partitioning": fields_of(&spec).iter().map(transformed).collect::<Vec<_>>(),
        "sort_order": fields_of(&order).iter().map(sorted).collect::<Vec<_>>(),
        "properties": metadata["properties"],
        "current_snapshot_id": metadata["current-snapshot-id"],
        "refs": metadata["refs"],
    })
}

/// A type as SQL engines write it.
fn type_name(data_type: &Value) -> String {
    match data_type["type"].as_str() {
        Some("struct") => {
            let fields = data_type["fields"].as_array().map(Vec::as_slice).unwrap_or_default();
            let field = |field: &Value| {
                format!("{}: {}", field["name"].as_str().unwrap_or_default(), type_name(&field["type"]))
            };
            format!("struct<{}>", fields.iter().map(field).collect::<Vec<_>>().join(", "))
        }
        Some("list") => format!("list<{}>", type_name(&data_type["element"])),
        Some("map") => format!("map<{}, {}>", type_name(&data_type["key"]), type_name(&data_type["value"])),
        _ => data_type.as_str().map_or_else(|| data_type.to_string(), str::to_owned),
    }
}

fn list(names: &Value) -> String {
    let names = names.as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>();
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

/// `firn table files`.
pub(super) async fn files(args: &FilesArgs) -> Result<()> {
    let table = load(&args.table, &args.reference, &args.connection).await?;
    let files = table.data_files(args.snapshot).await?;
    if args.json {
        return output::json(&files.iter().map(file_json).collect::<Vec<_>>());
    }
    let row = |file: &DataFileEntry| {
        let partition = file.partition.iter().map(|(name, value)| format!("{name}={value}"));
        vec![
            file.location.clone(),
            file.record_count.to_string(),
            file.size_bytes.to_string(),
            partition.collect::<Vec<_>>().join(" "),
            file.delete_files.to_string(),
            file.deleted_rows.to_string(),
        ]
    };
    let headings = ["file", "rows", "bytes", "partition", "delete files", "deleted rows"];
    output::rows(&headings, files.iter().map(row).collect(), "no files")
}

fn file_json(file: &DataFileEntry) -> Value {
    json!({
        "location": file.location,
        "rows": file.record_count,
        "bytes": file.size_bytes,
        "partition": file.partition,
        "spec_id": file.spec_id,
        "sequence_number": file.sequence_number,
        "added_snapshot_id": file.added_snapshot_id,
        "delete_files": file.delete_files,
        "deleted_rows": file.deleted_rows,
    })
}

/// `firn table snapshots`.
pub(super) async fn snapshots(args: &TableArgs) -> Result<()> {
    let table = load(&args.table, &args.reference, &args.connection).await?;
    let mut snapshots = table.snapshots();
    snapshots.reverse();
    print_snapshots(&snapshots, args.json, "no snapshots yet")
}

pub(super) fn print_snapshots(snapshots: &[SnapshotInfo], as_json: bool, nothing: &str) -> Result<()> {
    if as_json {
        let json = |snapshot: &SnapshotInfo| {
            json!({
                "id": snapshot.id,
                "parent_id": snapshot.parent_id,
                "sequence_number": snapshot.sequence_number,
                "time": instant(snapshot.timestamp_ms),
                "operation": snapshot.operation,
                "summary": snapshot.summary,
            })
        };
        return output::json(&snapshots.iter().map(json).collect::<Vec<_>>());
    }
    let row = |snapshot: &SnapshotInfo| {
        let summary = |key: &str| snapshot.summary.get(key).cloned().unwrap_or_default();
        vec![
            snapshot.id.to_string(),
            instant(snapshot.timestamp_ms),
            snapshot.operation.clone(),
            summary("added-records"),
            summary("deleted-records"),
            summary("total-records"),
            summary("total-data-files"),
        ]
    };
    let headings = ["snapshot", "time", "operation", "added", "deleted", "rows", "files"];
    output::rows(&headings, snapshots.iter().map(row).collect(), nothing)
}

/// `firn table history`.
pub(super) async fn history(args: &TableArgs) -> Result<()> {
    let table = load(&args.table, &args.reference, &args.connection).await?;
    let known = table.snapshots();
    let log = table.metadata()["snapshot-log"].as_array().cloned().unwrap_or_default();
    let entries = log.iter().rev().filter_map(|entry| {
        let (id, time_ms) = (entry["snapshot-id"].as_i64()?, entry["timestamp-ms"].as_i64()?);
        let snapshot = known.iter().find(|snapshot| snapshot.id == id);
        Some((id, time_ms, snapshot.map_or("expired", |snapshot| &snapshot.operation)))
    });
    if args.json {
        let json = |(id, time_ms, operation): (i64, i64, &str)| json!({"snapshot_id": id, "current_since": instant(time_ms), "operation": operation});
        return output::json(&entries.map(json).collect::<Vec<_>>());
    }
    let row = |(id, time_ms, operation): (i64, i64, &str)| {
        vec![instant(time_ms), id.to_string(), operation.to_owned()]
    };
    output::rows(&["current since", "snapshot", "operation"], entries.map(row).collect(), "no history yet")
}

/// Milliseconds since the epoch as an instant.
pub(super) fn instant(time_ms: i64) -> String {
    DateTime::from_timestamp_millis(time_ms)
        .map_or_else(|| time_ms.to_string(), |time| time.to_rfc3339_opts(SecondsFormat::Millis, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_described_by_its_present_state() {
        let metadata = json!({
            "table-uuid": "u", "location": "file:///t", "format-version": 2,
            "current-schema-id": 1, "default-spec-id": 1, "default-sort-order-id": 0,
            "schemas": [
                {"schema-id": 0, "fields": []},
                {"schema-id": 1, "fields": [
                    {"id": 1, "name": "at", "type": "timestamptz", "required": true, "doc": "when"},
                    {"id": 2, "name": "tags", "required": false, "type":
                        {"type": "list", "element": {"type": "struct", "fields": [{"name": "k", "type": "string"}]}}},
                ]},
            ],
            "partition-specs": [
                {"spec-id": 1, "fields": [
                    {"source-id": 1, "transform": "day"}, {"source-id": 1, "transform": "identity"}]},
            ],
            "sort-orders": [{"order-id": 0, "fields": []}],
        });
        let described = describe(&metadata);
        assert_eq!(described["partitioning"], json!(["day(at)", "at"]));
        assert_eq!(described["columns"][1]["type"], "list<struct<k: string>>");
        assert_eq!(described["columns"][0]["doc"], "when");
        assert_eq!(list(&described["sort_order"]), "nothing");
    }
}
