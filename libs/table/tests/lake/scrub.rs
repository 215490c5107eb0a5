//! Rows that go from everything below a folder, and a history that stays.

use std::collections::BTreeMap;

use datafusion::{arrow::util::pretty::pretty_format_batches, prelude::SessionContext};
use firn_catalog_client::{ErasureJob, ErasureRequest, Subject};
use firn_table::{
    FileIo, NewTable, Operation, Partitioning, RewriteOptions, RewriteScan, RowMatch, Scrub, Table,
    TableScan, ensure_table,
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::{
    deletes::{append, delete, table_of_format},
    harness::{DAY, Lake, operation, query, rows, rows_of, sample_schema, samples, write},
};

fn hosts(names: &[&str]) -> RowMatch {
    RowMatch::default().with_keys(&["host_id"], names.iter().map(|name| vec![(*name).to_owned()]))
}

fn location(table: &Table) -> String {
    table.metadata()["location"].as_str().unwrap().to_owned()
}

/// Files below a folder that hold a text, as it is or in Parquet.
async fn mentions(file_io: &FileIo, folder: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (location, _) in file_io.list(folder).await.unwrap() {
        let bytes = file_io.read(&location).await.unwrap();
        let plain = bytes.windows(text.len()).any(|window| window == text.as_bytes());
        let decoded = location.ends_with(".parquet").then(|| {
            let batches = ParquetRecordBatchReaderBuilder::try_new(bytes.clone()).unwrap().build().unwrap();
            let batches = batches.collect::<Result<Vec<_>, _>>().unwrap();
            pretty_format_batches(&batches).unwrap().to_string()
        });
        if plain || location.contains(text) || decoded.is_some_and(|decoded| decoded.contains(text)) {
            found.push(location);
        }
    }
    found
}

/// Makes the catalog read replaced metadata, as whoever carries an erasure out does.
async fn forget(lake: &Lake) {
    let request = ErasureRequest {
        subject: Subject { column: "host_id".to_owned(), value: "nobody".to_owned() },
        with_hosts: false,
        dry_run: true,
        reason: String::new(),
    };
    let erasure = lake.client.erase(&request).await.unwrap();
    let job = ErasureJob { erasure, version: 1, ..ErasureJob::default() };
    lake.client.keep_erasure(&job).await.unwrap();
}

/// Values of all rows of every snapshot, by its id.
async fn history(table: &Table) -> BTreeMap<i64, Vec<i64>> {
    let mut history = BTreeMap::new();
    for snapshot in table.snapshots() {
        let scan = TableScan::new(table, Some(snapshot.id)).await.unwrap();
        let values = rows_of(scan).await.into_iter().map(|row| row.1.unwrap()).collect();
        history.insert(snapshot.id, values);
    }
    history
}

async fn scrub(lake: &Lake, folder: &str, rows: RowMatch) -> u64 {
    let mut scrub = Scrub::new(&lake.file_io, folder, rows);
    let survey = scrub.survey().await.unwrap();
    let applied = scrub.apply(&survey).await.unwrap();
    let survey = scrub.survey().await.unwrap();
    assert!(survey.is_clean(), "{:?}", survey.files);
    let doomed = scrub.doomed(&survey, i64::MIN).await.unwrap();
    scrub.remove(&doomed.files).await.unwrap();
    assert!(doomed.young.is_empty(), "{:?}", doomed.young);
    applied.rows
}

#[tokio::test]
async fn rows_go_from_every_snapshot_and_deletes_by_position_go_on_to_fit() {
    for version in [2, 3] {
        let lake = Lake::start().await;
        let table = table_of_format(&lake, version).await;
        let one = append(&lake, &table, 0, 10).await;
        let two = append(&lake, &table, 10, 20).await;
        append(&lake, &table, 20, 30).await;
        lake.commit(vec![delete(&table, &one, &[0, 3, 9])]).await.unwrap();
        lake.commit(vec![delete(&table, &two, &[5])]).await.unwrap();
        let packed = RewriteScan::new(&lake.load(&table).await, std::slice::from_ref(&two)).await.unwrap();
        let rewritten = packed.write(&SessionContext::new(), &RewriteOptions::default()).await.unwrap();
        let base_snapshot_id = packed.base_snapshot_id();
        let rewrite = Operation::Rewrite { remove: vec![two], add: rewritten.files, base_snapshot_id };
        lake.commit(vec![operation(&table, rewrite)]).await.unwrap();
        let before = lake.load(&table).await;
        let (head, told) = (lake.client.reference("main").await.unwrap(), history(&before).await);

        // One is deleted already, one stands in front of a deleted row, and one was packed.
        let gone = [3, 4, 12];
        let folder = location(&table);
        assert_eq!(
            scrub(&lake, &folder, hosts(&["h003", "h004", "h012"])).await,
            4,
            "one stands in two files"
        );
        forget(&lake).await;

        let after = lake.load(&table).await;
        let mut expected = told;
        expected.values_mut().for_each(|values| values.retain(|value| !gone.contains(value)));
        assert_eq!(history(&after).await, expected, "format {version}");
        assert_eq!(lake.client.reference("main").await.unwrap(), head, "no commit was made");
        for host in ["h003", "h004", "h012"] {
            assert_eq!(mentions(&lake.file_io, &folder, host).await, [""; 0], "format {version}");
        }
        let total = &after.current_snapshot().unwrap().summary["total-records"];
        assert_eq!(total, "26", "the summary counts rows of data files as they are now");
        // Nothing stands in the way of who goes on.
        append(&lake, &table, 30, 32).await;
        lake.commit(vec![delete(&table, &file_of(&after, "h001").await, &[1])]).await.unwrap();
        let values: Vec<i64> =
            rows(&lake.load(&table).await).await.into_iter().filter_map(|row| row.1).collect();
        let stay = (1..32).filter(|value| ![1, 3, 4, 9, 12, 15].contains(value)).collect::<Vec<_>>();
        assert_eq!(values, stay, "format {version}");
    }
}

/// The data file that holds a host's row.
async fn file_of(table: &Table, host: &str) -> String {
    for file in table.data_files(None).await.unwrap() {
        let scan = TableScan::of_files(table, std::slice::from_ref(&file.location)).await.unwrap();
        let found = query(scan, &format!("SELECT count(*) AS n FROM t WHERE host_id = '{host}'")).await;
        if found.contains("| 1 |") {
            return file.location;
        }
    }
    panic!("no file holds {host}");
}

#[tokio::test]
async fn a_partition_of_nobody_else_goes_with_its_name() {
    let lake = Lake::start().await;
    let new = NewTable {
        ident: firn_catalog_client::iceberg::TableIdent::new("bronze", "by_host"),
        schema: sample_schema(),
        partitioning: vec![Partitioning { column: "host_id".to_owned(), transform: "identity".to_owned() }],
        properties: BTreeMap::new(),
    };
    let table = ensure_table(&lake.client, &lake.file_io, "main", &new).await.unwrap();
    lake.append(&table, &samples(&[("only-me", DAY, 1)])).await;
    lake.append(&table, &samples(&[("only-me", DAY, 2), ("another", DAY, 3)])).await;
    scrub(&lake, &location(&table), hosts(&["only-me"])).await;
    forget(&lake).await;
    let after = lake.load(&table).await;
    assert_eq!(rows(&after).await, [("another".to_owned(), Some(3))]);
    let first = TableScan::new(&after, Some(after.snapshots()[0].id)).await.unwrap();
    assert_eq!(rows_of(first).await, [], "the first snapshot held nobody else");
    assert_eq!(mentions(&lake.file_io, &location(&table), "only-me").await, [""; 0]);
}

#[tokio::test]
async fn what_nothing_leads_to_goes_once_it_is_old() {
    let lake = Lake::start().await;
    let table = lake.samples("t", &[]).await;
    lake.append(&table, &samples(&[("stays", DAY, 1)])).await;
    let lost = write(&table, &samples(&[("stray", DAY, 2), ("other", DAY, 3)])).await;
    let mut scrub = Scrub::new(&lake.file_io, &location(&table), hosts(&["stray"]));
    let survey = scrub.survey().await.unwrap();
    assert!(survey.is_clean() && survey.files.len() == 1, "{:?}", survey.files);
    let doomed = scrub.doomed(&survey, i64::MIN).await.unwrap();
    assert_eq!(doomed.young, [lost[0].location.clone()], "a commit under way may bring it");
    let doomed = scrub.doomed(&survey, i64::MAX).await.unwrap();
    assert_eq!((doomed.files.len(), doomed.young.len()), (1, 0));
    scrub.remove(&doomed.files).await.unwrap();
    assert_eq!(mentions(&lake.file_io, &location(&table), "stray").await, [""; 0]);
    assert_eq!(rows(&lake.load(&table).await).await, [("stays".to_owned(), Some(1))]);
}

#[tokio::test]
async fn renamed_columns_are_known_by_what_they_were_called() {
    let lake = Lake::start().await;
    let table = lake.samples("t", &[]).await;
    lake.append(&table, &samples(&[("a", DAY, 1), ("b", DAY, 2)])).await;
    let mut schema = table.metadata()["schemas"][0].clone();
    schema["fields"][0]["name"] = "machine".into();
    let change = firn_catalog_client::iceberg::TableChange {
        identifier: None,
        requirements: Vec::new(),
        updates: vec![
            serde_json::json!({"action": "add-schema", "schema": schema}),
            serde_json::json!({"action": "set-current-schema", "schema-id": -1}),
        ],
    };
    lake.client
        .commit_table("main", table.ident(), &change, &uuid::Uuid::new_v4().to_string())
        .await
        .unwrap();
    let renamed = RowMatch::default().with_keys(&["machine"], [vec!["a".to_owned()]]);
    assert_eq!(scrub(&lake, &location(&table), renamed).await, 1);
    forget(&lake).await;
    let scan = TableScan::new(&lake.load(&table).await, None).await.unwrap();
    let left = query(scan, "SELECT machine, value FROM t").await;
    assert!(left.contains("| b ") && !left.contains("| a "), "{left}");
}
