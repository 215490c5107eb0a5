//! Tables that both sides of a merge changed.

use std::collections::BTreeMap;

use firn_catalog_client::{
    ClientError, ClientErrorKind,
    iceberg::TableChange,
    nessie::{MergeRequest, MergeResponse, TableMerge},
};
use firn_table::{Increment, Operation, Table, TableOperation, increment};
use serde_json::json;

use crate::harness::{DAY, Lake, files_below, operation, rows, rows_of, samples, write};

/// `main` with rows 1 and 2 in two files, and `dev` made from it.
async fn forked(lake: &Lake, name: &str) -> Table {
    let table = lake.samples(name, &[("at", "day")]).await;
    lake.append(&table, &samples(&[("h", DAY, 1)])).await;
    lake.append(&table, &samples(&[("h", 2 * DAY, 2)])).await;
    lake.client.create_branch("dev", "main").await.unwrap();
    lake.load(&table).await
}

async fn merge_with(
    lake: &Lake,
    dry_run: bool,
    table_merge: TableMerge,
) -> Result<MergeResponse, ClientError> {
    let request = MergeRequest {
        from_ref_name: "dev".to_owned(),
        from_hash: lake.client.reference("dev").await.unwrap().hash().to_owned(),
        message: None,
        commit_meta: None,
        dry_run,
        table_merge,
    };
    lake.client.merge("main", &request).await
}

async fn merge(lake: &Lake) {
    let merged = merge_with(lake, false, TableMerge::All).await.unwrap();
    assert!(merged.was_applied);
}

/// The message of a merge that must conflict, and leave no file behind.
async fn conflict(lake: &Lake, table: &Table) -> String {
    let (head, files) = (lake.client.reference("main").await.unwrap(), files_below(table, "metadata").await);
    let error = merge_with(lake, false, TableMerge::All).await.unwrap_err();
    assert_eq!(error.kind, ClientErrorKind::Conflict, "{error:?}");
    assert_eq!(lake.client.reference("main").await.unwrap(), head);
    assert_eq!(files_below(table, "metadata").await, files);
    error.message
}

async fn values(table: &Table) -> Vec<i64> {
    rows(table).await.into_iter().map(|row| row.1.unwrap()).collect()
}

/// Values that a reader who stopped at `from` gets.
async fn since(table: &Table, from: i64) -> Vec<i64> {
    match increment(table, Some(from), None).await.unwrap() {
        Increment::Empty => Vec::new(),
        Increment::Appended(scan) => rows_of(*scan).await.into_iter().map(|row| row.1.unwrap()).collect(),
        Increment::Changed { .. } => panic!("rows were removed"),
        Increment::Full(reason) => panic!("{reason}"),
    }
}

/// Rewrites all files of a reference into one per day.
async fn compact(lake: &Lake, reference: &str, table: &Table, rows: &[(&str, i64, i64)]) {
    let base = lake.load_on(reference, table).await;
    let remove = base.data_files(None).await.unwrap().into_iter().map(|file| file.location).collect();
    let add = write(&base, &samples(rows)).await;
    let base_snapshot_id = base.current_snapshot().unwrap().id;
    let rewrite = Operation::Rewrite { remove, add, base_snapshot_id };
    lake.commit_on(reference, vec![operation(table, rewrite)]).await.unwrap();
}

async fn overwrite(lake: &Lake, reference: &str, table: &Table, value: i64) {
    let add = write(table, &samples(&[("h", DAY, value)])).await;
    let overwrite = Operation::Overwrite { remove: None, add, base_snapshot_id: None };
    lake.commit_on(reference, vec![operation(table, overwrite)]).await.unwrap();
}

async fn set(lake: &Lake, reference: &str, table: &Table, key: &str, value: &str) {
    let properties = BTreeMap::from([(key.to_owned(), value.to_owned())]);
    let nothing = Operation::Append { files: Vec::new() };
    let set = TableOperation { set_properties: properties, ..operation(table, nothing) };
    lake.commit_on(reference, vec![set]).await.unwrap();
}

/// Adds an optional or required column.
async fn add_column(lake: &Lake, reference: &str, table: &Table, required: bool) {
    let table = lake.load_on(reference, table).await;
    let mut schema = table.metadata()["schemas"][0].clone();
    schema["fields"]
        .as_array_mut()
        .unwrap()
        .push(json!({"id": 4, "name": "extra", "type": "string", "required": required}));
    let change = TableChange {
        identifier: None,
        requirements: vec![json!({"type": "assert-table-uuid", "uuid": table.metadata()["table-uuid"]})],
        updates: vec![
            json!({"action": "add-schema", "schema": schema}),
            json!({"action": "set-current-schema", "schema-id": -1}),
        ],
    };
    let key = uuid::Uuid::new_v4().to_string();
    lake.client.commit_table(reference, table.ident(), &change, &key).await.unwrap();
}

#[tokio::test]
async fn two_branches_that_append_to_one_table_merge() {
    let lake = Lake::start().await;
    let table = forked(&lake, "appended").await;
    let fork = table.current_snapshot().unwrap().id;
    lake.append_on("dev", &table, &samples(&[("h", DAY, 10)])).await;
    let on_dev = lake.append_on("dev", &table, &samples(&[("h", 3 * DAY, 11)])).await;
    let on_main = lake.append(&table, &samples(&[("h", DAY, 20)])).await;
    let dry = merge_with(&lake, true, TableMerge::All).await.unwrap();
    assert!(dry.was_successful && !dry.was_applied);
    assert_eq!(values(&lake.load(&table).await).await, [1, 2, 20]);

    merge(&lake).await;

    let merged = lake.load(&table).await;
    assert_eq!(values(&merged).await, [1, 2, 10, 11, 20]);
    let snapshot = merged.current_snapshot().unwrap();
    assert_eq!((snapshot.parent_id, snapshot.operation.as_str()), (Some(on_main), "append"));
    assert_eq!(snapshot.summary["total-records"], "5");
    assert_eq!(snapshot.summary["added-data-files"], "2");
    assert!(snapshot.summary["firn.replays"].ends_with(&on_dev.to_string()));
    assert_eq!(since(&merged, on_main).await, [10, 11], "rows new to readers of main");
    assert_eq!(since(&merged, on_dev).await, [20], "rows new to readers of dev");
    assert_eq!(since(&merged, fork).await, [10, 11, 20]);
    assert_eq!(values(&lake.load_on("dev", &table).await).await, [1, 2, 10, 11]);

    // A merged branch goes on, and merges again.
    lake.append_on("dev", &table, &samples(&[("h", DAY, 12)])).await;
    lake.append(&merged, &samples(&[("h", DAY, 21)])).await;
    merge(&lake).await;
    assert_eq!(values(&lake.load(&table).await).await, [1, 2, 10, 11, 12, 20, 21]);
}

#[tokio::test]
async fn compaction_on_main_merges_with_rows_of_a_branch() {
    let lake = Lake::start().await;
    let table = forked(&lake, "compacted").await;
    lake.append_on("dev", &table, &samples(&[("h", DAY, 10)])).await;
    compact(&lake, "main", &table, &[("h", DAY, 1), ("h", 2 * DAY, 2)]).await;
    merge(&lake).await;
    assert_eq!(values(&lake.load(&table).await).await, [1, 2, 10]);
}

#[tokio::test]
async fn compaction_on_a_branch_merges_with_rows_of_main() {
    let lake = Lake::start().await;
    let table = forked(&lake, "tidied").await;
    let on_main = lake.append(&table, &samples(&[("h", DAY, 20)])).await;
    compact(&lake, "dev", &table, &[("h", DAY, 1), ("h", 2 * DAY, 2)]).await;
    merge(&lake).await;
    let merged = lake.load(&table).await;
    assert_eq!(values(&merged).await, [1, 2, 20]);
    let snapshot = merged.current_snapshot().unwrap();
    assert_eq!((snapshot.parent_id, snapshot.operation.as_str()), (Some(on_main), "replace"));
    assert_eq!(merged.data_files(None).await.unwrap().len(), 3);
    assert_eq!(snapshot.summary["total-records"], "3");
    assert_eq!(since(&merged, on_main).await, [0i64; 0], "nothing new for readers of main");
}

#[tokio::test]
async fn appends_merge_with_a_changed_schema_on_either_side() {
    let lake = Lake::start().await;
    let table = forked(&lake, "evolved").await;
    add_column(&lake, "main", &table, false).await;
    lake.append_on("dev", &table, &samples(&[("h", DAY, 10)])).await;
    merge(&lake).await;
    let merged = lake.load(&table).await;
    assert_eq!(values(&merged).await, [1, 2, 10]);
    assert_eq!(merged.metadata()["current-schema-id"], 1);

    lake.client.delete_reference("dev").await.unwrap();
    let table = lake.samples("evolved_on_branch", &[]).await;
    let before = lake.append(&table, &samples(&[("h", DAY, 1)])).await;
    lake.client.create_branch("dev", "main").await.unwrap();
    add_column(&lake, "dev", &table, false).await;
    let changed = lake.load_on("dev", &table).await;
    let new = write(&changed, &samples(&[("h", DAY, 10)])).await;
    lake.commit_on("dev", vec![operation(&table, Operation::Append { files: new })]).await.unwrap();
    let on_main = lake.append(&table, &samples(&[("h", DAY, 20)])).await;
    merge(&lake).await;
    let merged = lake.load(&table).await;
    assert_eq!(values(&merged).await, [1, 10, 20]);
    assert_eq!(merged.metadata()["current-schema-id"], 1);
    assert_eq!(since(&merged, on_main).await, [10], "main's rows were replayed, and its readers go on");
    assert_eq!(since(&merged, before).await, [10, 20]);
}

#[tokio::test]
async fn rows_that_lack_a_new_required_column_conflict() {
    let lake = Lake::start().await;
    let table = forked(&lake, "required").await;
    add_column(&lake, "main", &table, true).await;
    lake.append_on("dev", &table, &samples(&[("h", DAY, 10)])).await;
    let message = conflict(&lake, &table).await;
    assert!(message.contains("required column 'extra'"), "{message}");
}

#[tokio::test]
async fn properties_merge_unless_both_sides_changed_one() {
    let lake = Lake::start().await;
    let table = forked(&lake, "described").await;
    set(&lake, "dev", &table, "owner", "ann").await;
    lake.append(&table, &samples(&[("h", DAY, 20)])).await;
    set(&lake, "main", &table, "comment", "of main").await;
    merge(&lake).await;
    let merged = lake.load(&table).await;
    assert_eq!(
        (merged.properties()["owner"].as_str(), merged.properties()["comment"].as_str()),
        ("ann", "of main")
    );
    assert_eq!(values(&merged).await, [1, 2, 20]);

    set(&lake, "dev", &table, "owner", "bob").await;
    set(&lake, "main", &table, "owner", "eve").await;
    let message = conflict(&lake, &table).await;
    assert!(message.contains("the property 'owner' was changed on both sides"), "{message}");
}

#[tokio::test]
async fn positions_travel_with_their_rows_and_conflict_where_both_sides_moved() {
    let lake = Lake::start().await;
    let table = forked(&lake, "positioned").await;
    set(&lake, "dev", &table, "firn.position.t.0", "7").await;
    overwrite(&lake, "dev", &table, 10).await;
    set(&lake, "main", &table, "firn.position.t.1", "9").await;
    lake.append(&table, &samples(&[("h", DAY, 20)])).await;
    merge(&lake).await;
    let merged = lake.load(&table).await;
    let positions = merged.properties();
    assert_eq!(
        (positions["firn.position.t.0"].as_str(), positions["firn.position.t.1"].as_str()),
        ("7", "9")
    );
    assert_eq!(values(&merged).await, [10, 20], "rows that main appended are replayed onto the overwrite");

    // Both took the same records: their rows must not be there twice.
    set(&lake, "dev", &table, "firn.position.t.0", "8").await;
    set(&lake, "main", &table, "firn.position.t.0", "8").await;
    let message = conflict(&lake, &table).await;
    assert!(message.contains("'firn.position.t.0' was changed on both sides"), "{message}");
}

#[tokio::test]
async fn changed_rows_on_both_sides_conflict_and_say_why() {
    let lake = Lake::start().await;
    let table = forked(&lake, "contested").await;
    overwrite(&lake, "dev", &table, 10).await;
    overwrite(&lake, "main", &table, 20).await;
    let message = conflict(&lake, &table).await;
    assert!(message.contains("bronze.contested"), "{message}");
    assert!(message.contains("the source changed or removed rows"), "{message}");
    assert!(message.contains("the target changed or removed rows"), "{message}");
}

#[tokio::test]
async fn compaction_of_files_that_the_other_side_removed_conflicts() {
    let lake = Lake::start().await;
    let table = forked(&lake, "gone").await;
    compact(&lake, "dev", &table, &[("h", DAY, 1), ("h", 2 * DAY, 2)]).await;
    overwrite(&lake, "main", &table, 20).await;
    let message = conflict(&lake, &table).await;
    assert!(message.contains("which was rewritten"), "{message}");
}

#[tokio::test]
async fn who_asks_for_rewrites_only_gets_no_rows_twice() {
    let lake = Lake::start().await;
    let table = forked(&lake, "promoted").await;
    lake.append_on("dev", &table, &samples(&[("h", DAY, 10)])).await;
    compact(&lake, "main", &table, &[("h", DAY, 1), ("h", 2 * DAY, 2)]).await;
    assert!(merge_with(&lake, false, TableMerge::None).await.is_err());
    assert!(merge_with(&lake, false, TableMerge::Rewrites).await.unwrap().was_applied);
    lake.client.delete_reference("dev").await.unwrap();
    lake.client.create_branch("dev", "main").await.unwrap();
    let table = lake.load(&table).await;
    lake.append_on("dev", &table, &samples(&[("h", DAY, 11)])).await;
    lake.append(&table, &samples(&[("h", DAY, 11)])).await;
    let error = merge_with(&lake, false, TableMerge::Rewrites).await.unwrap_err();
    assert!(error.message.contains("operation 'append'"), "{error}");
    assert_eq!(values(&lake.load(&table).await).await, [1, 2, 10, 11]);
}

#[tokio::test]
async fn row_ids_of_format_3_stay_unique() {
    let lake = Lake::start().await;
    let table = lake.samples("lineage", &[]).await;
    let upgrade = TableChange {
        identifier: None,
        requirements: Vec::new(),
        updates: vec![json!({"action": "upgrade-format-version", "format-version": 3})],
    };
    let key = uuid::Uuid::new_v4().to_string();
    lake.client.commit_table("main", table.ident(), &upgrade, &key).await.unwrap();
    let table = lake.load(&table).await;
    lake.append(&table, &samples(&[("h", DAY, 1)])).await;
    lake.client.create_branch("dev", "main").await.unwrap();
    lake.append_on("dev", &table, &samples(&[("h", DAY, 10), ("h", DAY, 11)])).await;
    lake.append(&table, &samples(&[("h", DAY, 20)])).await;
    merge(&lake).await;
    let merged = lake.load(&table).await;
    assert_eq!(values(&merged).await, [1, 10, 11, 20]);
    let current = merged.metadata()["current-snapshot-id"].as_i64().unwrap();
    let snapshots = merged.metadata()["snapshots"].as_array().unwrap();
    let snapshot = snapshots.iter().find(|snapshot| snapshot["snapshot-id"] == current).unwrap();
    assert_eq!((&snapshot["first-row-id"], &snapshot["added-rows"]), (&json!(2), &json!(2)));
    assert_eq!(merged.metadata()["next-row-id"], 4);
}
