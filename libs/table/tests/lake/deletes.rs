//! Rows that are deleted where they are, and files that are rewritten without them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use datafusion::{
    arrow::{array::AsArray, datatypes::Int64Type},
    prelude::SessionContext,
};
use firn_catalog_client::iceberg::TableIdent;
use firn_table::{
    NewTable, Operation, RewriteOptions, RewriteScan, Table, TableErrorKind, TableScan, WrittenFile,
    ensure_table,
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::harness::{DAY, Lake, files_below, operation, query, rows, sample_schema, samples};

pub(crate) async fn table_of_format(lake: &Lake, version: u8) -> Table {
    let new = NewTable {
        ident: TableIdent::new("bronze", format!("v{version}")),
        schema: sample_schema(),
        partitioning: vec![],
        properties: BTreeMap::from([("format-version".to_owned(), version.to_string())]),
    };
    let table = ensure_table(&lake.client, &lake.file_io, "main", &new).await.unwrap();
    assert_eq!(table.metadata()["format-version"], version);
    table
}

/// Appends a file of rows `first..last`, by host and value, and answers its location.
pub(crate) async fn append(lake: &Lake, table: &Table, first: i64, last: i64) -> String {
    let hosts = (first..last).map(|n| format!("h{n:03}")).collect::<Vec<_>>();
    let batch = hosts.iter().zip(first..last).map(|(host, n)| (host.as_str(), DAY, n)).collect::<Vec<_>>();
    let snapshot = lake.append(table, &samples(&batch)).await;
    let files = lake.load(table).await.data_files(None).await.unwrap();
    files.into_iter().find(|file| file.added_snapshot_id == snapshot).unwrap().location
}

pub(crate) fn delete(table: &Table, location: &str, positions: &[u64]) -> firn_table::TableOperation {
    let rows = BTreeMap::from([(location.to_owned(), positions.iter().copied().collect::<BTreeSet<_>>())]);
    operation(table, Operation::DeleteRows { rows })
}

async fn values(lake: &Lake, table: &Table) -> Vec<i64> {
    rows(&lake.load(table).await).await.into_iter().map(|row| row.1.unwrap()).collect()
}

async fn all_files(lake: &Lake, table: &Table) -> Vec<String> {
    let files = lake.load(table).await.data_files(None).await.unwrap();
    files.into_iter().map(|file| file.location).collect()
}

/// Writes the files anew, but doesn't commit yet.
async fn rewrite(table: &Table, locations: &[String]) -> (Operation, Vec<WrittenFile>) {
    let scan = RewriteScan::new(table, locations).await.unwrap();
    let rewritten = scan.write(&SessionContext::new(), &RewriteOptions::default()).await.unwrap();
    let (remove, add, base_snapshot_id) =
        (locations.to_vec(), rewritten.files.clone(), scan.base_snapshot_id());
    (Operation::Rewrite { remove, add, base_snapshot_id }, rewritten.files)
}

#[tokio::test]
async fn deleted_rows_are_gone_for_every_kind_of_read() {
    for version in [2, 3] {
        let lake = Lake::start().await;
        let table = table_of_format(&lake, version).await;
        let (one, two) = (append(&lake, &table, 0, 10).await, append(&lake, &table, 10, 20).await);
        let before = lake.load(&table).await.current_snapshot().unwrap().id;
        lake.commit(vec![delete(&table, &one, &[0, 1, 9])]).await.unwrap();
        // Again, with rows that are deleted already: a vector is replaced, position deletes add up.
        lake.commit(vec![delete(&table, &one, &[1, 5])]).await.unwrap();
        lake.commit(vec![delete(&table, &two, &(0..10).collect::<Vec<_>>())]).await.unwrap();

        assert_eq!(values(&lake, &table).await, [2, 3, 4, 6, 7, 8], "format {version}");
        let table = lake.load(&table).await;
        let scan = async || TableScan::new(&table, None).await.unwrap();
        let counted = query(scan().await, "SELECT count(*) AS n FROM t").await;
        assert!(counted.contains("| 6 |"), "{counted}");
        let limited =
            query(scan().await, "SELECT count(*) AS n FROM (SELECT 1 FROM t WHERE value >= 0 LIMIT 5)").await;
        assert!(limited.contains("| 5 |"), "{limited}");
        let pruned = query(scan().await, "SELECT host_id FROM t WHERE value < 3").await;
        assert!(pruned.contains("h002") && !pruned.contains("h000"), "{pruned}");
        let then = TableScan::new(&table, Some(before)).await.unwrap();
        assert!(query(then, "SELECT count(*) AS n FROM t").await.contains("| 20 |"), "history stays");

        let current = table.current_snapshot().unwrap();
        assert_eq!(current.operation, "delete");
        assert_eq!(current.summary["total-delete-files"], if version == 2 { "3" } else { "2" });
        let files = table.data_files(None).await.unwrap();
        let first = files.iter().find(|file| file.location == one).unwrap();
        assert_eq!(first.deleted_rows, if version == 2 { 5 } else { 4 });
    }
}

#[tokio::test]
async fn a_rewrite_drops_deleted_rows_and_the_files_that_deleted_them() {
    for version in [2, 3] {
        let lake = Lake::start().await;
        let table = table_of_format(&lake, version).await;
        let one = append(&lake, &table, 0, 5).await;
        append(&lake, &table, 5, 10).await;
        let kept = append(&lake, &table, 10, 15).await;
        lake.commit(vec![delete(&table, &one, &[0, 3])]).await.unwrap();
        lake.commit(vec![delete(&table, &kept, &[4])]).await.unwrap();
        let expected = values(&lake, &table).await;

        let base = lake.load(&table).await;
        let mut chosen = all_files(&lake, &table).await;
        chosen.retain(|location| *location != kept);
        let (operation_, written) = rewrite(&base, &chosen).await;
        assert_eq!(written[0].record_count, 8);
        lake.commit(vec![operation(&table, operation_)]).await.unwrap();

        assert_eq!(values(&lake, &table).await, expected, "format {version}");
        let now = lake.load(&table).await;
        let files = now.data_files(None).await.unwrap();
        let deletes =
            files.iter().map(|file| (file.location == kept, file.delete_files)).collect::<BTreeSet<_>>();
        assert_eq!(
            deletes,
            [(true, 1), (false, 0)].into(),
            "only the delete of the file that stayed is left"
        );
        let summary = now.current_snapshot().unwrap().summary;
        assert_eq!(
            (summary["total-delete-files"].as_str(), summary["removed-delete-files"].as_str()),
            ("1", "1")
        );
        assert_eq!(summary["total-records"], "13", "of which one is deleted");
    }
}

#[tokio::test]
async fn rewritten_rows_of_format_3_keep_their_ids() {
    let lake = Lake::start().await;
    let table = table_of_format(&lake, 3).await;
    let one = append(&lake, &table, 0, 4).await;
    append(&lake, &table, 4, 8).await;
    lake.commit(vec![delete(&table, &one, &[1])]).await.unwrap();
    let lineage = async |location: &str| {
        let bytes = lake.file_io.read(location).await.unwrap();
        let mut reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
        let batch = reader.next().unwrap().unwrap();
        let column =
            |name: &str| batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().values().to_vec();
        (column("value"), column("_row_id"), column("_last_updated_sequence_number"))
    };
    let mut previous = None;
    // The second time the ids come from the file itself.
    for _ in 0..2 {
        let base = lake.load(&table).await;
        let (operation_, written) = rewrite(&base, &all_files(&lake, &table).await).await;
        lake.commit(vec![operation(&table, operation_)]).await.unwrap();
        let (values, ids, updates) = lineage(&written[0].location).await;
        assert_eq!(values.len(), 7);
        assert_eq!(ids, values, "rows were numbered as they came, each equal to its value");
        assert_eq!(updates, values.iter().map(|value| if *value < 4 { 1 } else { 2 }).collect::<Vec<_>>());
        assert!(previous.is_none_or(|previous| previous == ids));
        previous = Some(ids);
    }
    append(&lake, &table, 8, 10).await;
    assert_eq!(values(&lake, &table).await, [0, 2, 3, 4, 5, 6, 7, 8, 9]);
}

#[tokio::test]
async fn deletes_of_rewritten_rows_conflict_and_nothing_else_does() {
    for version in [2, 3] {
        let lake = Lake::start().await;
        let table = table_of_format(&lake, version).await;
        let (one, two) = (append(&lake, &table, 0, 5).await, append(&lake, &table, 5, 10).await);
        let base = lake.load(&table).await;
        let (of_one, written) = rewrite(&base, std::slice::from_ref(&one)).await;
        let (of_two, _) = rewrite(&base, std::slice::from_ref(&two)).await;

        append(&lake, &table, 10, 12).await;
        lake.commit(vec![delete(&table, &one, &[2])]).await.unwrap();
        let lost = lake.commit(vec![operation(&table, of_one)]).await.unwrap_err();
        assert_eq!(lost.kind, TableErrorKind::Conflict, "{lost}");
        assert!(lost.context.contains(&one), "{lost}");
        assert_eq!(lake.file_io.read(&written[0].location).await.unwrap_err().kind, TableErrorKind::NotFound);
        lake.commit(vec![operation(&table, of_two)]).await.unwrap();
        assert_eq!(values(&lake, &table).await, [0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11], "format {version}");

        // The other way round: the rows moved before they were deleted.
        let lost = lake.commit(vec![delete(&table, &two, &[0])]).await.unwrap_err();
        assert_eq!(lost.kind, TableErrorKind::Conflict, "{lost}");
    }
}

#[tokio::test]
async fn racing_deletes_of_one_file_all_hold() {
    for version in [2, 3] {
        let lake = Lake::start().await;
        let table = table_of_format(&lake, version).await;
        let one = append(&lake, &table, 0, 8).await;
        let deletes = (0..4).map(|n| lake.commit(vec![delete(&table, &one, &[n, n + 1])]));
        for outcome in futures::future::join_all(deletes).await {
            outcome.unwrap();
        }
        assert_eq!(values(&lake, &table).await, [5, 6, 7], "format {version}");
        let lost_races = files_below(&table, "data").await - 1;
        assert_eq!(lost_races, 4, "delete files of lost attempts are removed");
    }
}

#[tokio::test]
async fn damaged_delete_files_are_errors_and_never_bring_rows_back() {
    for version in [2, 3] {
        let lake = Lake::start().await;
        let table = table_of_format(&lake, version).await;
        let one = append(&lake, &table, 0, 8).await;
        lake.commit(vec![delete(&table, &one, &[3])]).await.unwrap();
        let root = table.metadata()["location"].as_str().unwrap().to_owned();
        let files = lake.file_io.list(&format!("{root}/data")).await.unwrap();
        let (location, _) = files.into_iter().find(|(location, _)| location.contains("-deletes.")).unwrap();
        let path = location.strip_prefix("file://").unwrap().to_owned();
        let mut bytes = std::fs::read(&path).unwrap();
        match version {
            2 => bytes.truncate(bytes.len() / 2),
            _ => bytes[20] ^= 0xff,
        }
        std::fs::write(&path, &bytes).unwrap();
        let read = async || {
            let session = SessionContext::new();
            let scan = TableScan::new(&lake.load(&table).await, None).await.unwrap();
            session.read_table(Arc::new(scan)).unwrap().collect().await
        };
        let error = read().await.unwrap_err().to_string();
        assert!(error.contains("deletes."), "{error}");
        std::fs::remove_file(&path).unwrap();
        assert!(read().await.is_err());
    }
}

#[tokio::test]
async fn rows_beyond_the_end_of_a_file_cannot_be_deleted() {
    let lake = Lake::start().await;
    let table = table_of_format(&lake, 2).await;
    let one = append(&lake, &table, 0, 8).await;
    let error = lake.commit(vec![delete(&table, &one, &[8])]).await.unwrap_err();
    assert_eq!(error.kind, TableErrorKind::Invalid);
    let nothing = lake.commit(vec![delete(&table, &one, &[])]).await.unwrap();
    assert!(nothing.snapshots.is_empty());
}
