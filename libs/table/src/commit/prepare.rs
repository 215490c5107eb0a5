//! One operation applied to one table as it is now: checks, files and the request to be.

use std::collections::{BTreeMap, BTreeSet};

use firn_catalog_client::iceberg::{TableChange, TableIdent};
use serde_json::{Value, json};

use super::{Operation, TableOperation, expire::expirable, snapshot::SnapshotBuilder};
use crate::{FileIo, Table, TableError};

/// One table's part of a request, with the files that were written for it.
pub(super) struct Prepared {
    pub(super) ident: TableIdent,
    /// `None` if there is nothing to do.
    pub(super) change: Option<TableChange>,
    pub(super) snapshot_id: Option<i64>,
    /// Manifests and manifest lists of this attempt alone.
    pub(super) written: Vec<String>,
    /// The table's file access, absent where nothing was written.
    pub(super) file_io: Option<FileIo>,
}

/// Checks the operation against `table` and writes its manifests; after an error nothing of it is left.
pub(super) async fn prepare(table: &Table, operation: &TableOperation) -> Result<Prepared, TableError> {
    check_properties(table, &operation.assert_properties)?;
    let mut change = TableChange {
        identifier: Some(table.ident().clone()),
        requirements: vec![json!({"type": "assert-table-uuid", "uuid": table.uuid()})],
        updates: Vec::new(),
    };
    let mut prepared = Prepared {
        ident: table.ident().clone(),
        change: None,
        snapshot_id: None,
        written: Vec::new(),
        file_io: None,
    };
    match &operation.operation {
        Operation::Append { files } if files.is_empty() && operation.summary.is_empty() => {}
        Operation::DeleteRows { rows } if rows.values().all(BTreeSet::is_empty) => {}
        Operation::RowDelta { delete, add } if delete.is_empty() && add.is_empty() => {}
        Operation::ExpireSnapshots { older_than_ms, keep_last } => {
            let expired = expirable(table.metadata(), *older_than_ms, *keep_last);
            if !expired.is_empty() {
                change.requirements.push(base_unchanged(table));
                change.updates.push(json!({"action": "remove-snapshots", "snapshot-ids": expired}));
            }
        }
        Operation::SetCurrent { snapshot_id, base_snapshot_id } => {
            check_base(table, *base_snapshot_id)?;
            table.resolve_snapshot(Some(*snapshot_id))?;
            change.requirements.push(base_unchanged(table));
            change.updates.push(main_at(table, *snapshot_id));
        }
        change_files => {
            let mut builder = SnapshotBuilder::new(table)?;
            let snapshot = match builder.build(change_files, &operation.summary).await {
                Ok(snapshot) => snapshot,
                Err(error) => {
                    table.file_io().delete_unreferenced(&builder.into_written()).await;
                    return Err(error);
                }
            };
            change.requirements.push(base_unchanged(table));
            change.updates.extend(snapshot_updates(table, snapshot, builder.snapshot_id()));
            prepared.snapshot_id = Some(builder.snapshot_id());
            prepared.file_io = Some(table.file_io().clone());
            prepared.written = builder.into_written();
        }
    }
    for (key, value) in &operation.assert_properties {
        change.requirements.push(json!({"type": "assert-property", "key": key, "value": value}));
    }
    if !operation.set_properties.is_empty() {
        change.updates.push(json!({"action": "set-properties", "updates": operation.set_properties}));
    }
    // An assertion alone still has to hold at the commit; nothing at all needs no request.
    let empty = change.updates.is_empty() && operation.assert_properties.is_empty();
    prepared.change = (!empty).then_some(change);
    Ok(prepared)
}

/// What the server will check again: failing here saves the attempt, and names the property.
fn check_properties(table: &Table, expected: &BTreeMap<String, Option<String>>) -> Result<(), TableError> {
    let properties = table.properties();
    for (key, expected) in expected {
        let actual = properties.get(key);
        if actual != expected.as_ref() {
            let show = |value: Option<&String>| {
                value.map_or_else(|| "absent".to_owned(), |value| format!("'{value}'"))
            };
            return Err(TableError::conflict(format!(
                "property '{key}' of table {} is {}, but the commit expects {}; another writer was here: load the table \
                 again and go on from there",
                table.ident(),
                show(actual),
                show(expected.as_ref()),
            )));
        }
    }
    Ok(())
}

fn base_unchanged(table: &Table) -> Value {
    let snapshot_id = table.current_snapshot().map(|snapshot| snapshot.id);
    json!({"type": "assert-ref-snapshot-id", "ref": "main", "snapshot-id": snapshot_id})
}

/// For operations that only make sense from where their caller saw the table.
pub(super) fn check_base(table: &Table, expected: Option<i64>) -> Result<(), TableError> {
    let current = table.current_snapshot().map(|snapshot| snapshot.id);
    if current == expected {
        return Ok(());
    }
    let show = |id: Option<i64>| id.map_or_else(|| "no snapshot".to_owned(), |id| format!("snapshot {id}"));
    Err(TableError::conflict(format!(
        "table {} is at {} and no longer at {}; look at what was written meanwhile, and ask again",
        table.ident(),
        show(current),
        show(expected)
    )))
}

fn snapshot_updates(table: &Table, snapshot: Value, snapshot_id: i64) -> [Value; 2] {
    [json!({"action": "add-snapshot", "snapshot": snapshot}), main_at(table, snapshot_id)]
}

/// Makes a snapshot the current one. The reference's retention settings stay as they are.
fn main_at(table: &Table, snapshot_id: i64) -> Value {
    let mut reference = table.metadata()["refs"]["main"].as_object().cloned().unwrap_or_default();
    reference.insert("action".to_owned(), json!("set-snapshot-ref"));
    reference.insert("ref-name".to_owned(), json!("main"));
    reference.insert("type".to_owned(), json!("branch"));
    reference.insert("snapshot-id".to_owned(), json!(snapshot_id));
    Value::Object(reference)
}
