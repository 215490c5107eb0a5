//! Transactions that race, fail, and lose their answers.

use std::{collections::BTreeMap, sync::atomic::Ordering};

use firn_table::{DataFileWriter, Operation, TableErrorKind, TableOperation, WriteOptions};

use crate::harness::{DAY, Lake, files_below, operation, rows, samples, write};

fn position(
    expected: Option<&str>,
    next: &str,
) -> (BTreeMap<String, Option<String>>, BTreeMap<String, String>) {
    let key = "firn.position.topic.0".to_owned();
    (BTreeMap::from([(key.clone(), expected.map(str::to_owned))]), BTreeMap::from([(key, next.to_owned())]))
}

#[tokio::test]
async fn concurrent_appends_all_land_exactly_once() {
    let lake = Lake::start().await;
    let table = lake.samples("raced", &[]).await;
    let append = |writer: i64| {
        let (lake, table) = (&lake, &table);
        async move {
            for n in 0..3 {
                lake.append(table, &samples(&[("h", DAY, writer * 10 + n)])).await;
            }
        }
    };
    futures::future::join_all((0..5).map(append)).await;
    let table = lake.load(&table).await;
    let values = rows(&table).await.into_iter().map(|row| row.1.unwrap()).collect::<Vec<_>>();
    assert_eq!(values, (0..5).flat_map(|writer| (0..3).map(move |n| writer * 10 + n)).collect::<Vec<_>>());
    assert_eq!(table.snapshots().len(), 15);
    assert_eq!(table.current_snapshot().unwrap().summary["total-records"], "15");
    // A snapshot's manifest and manifest list, and nothing of the attempts that lost.
    let avro = table.file_io().list(table.metadata()["location"].as_str().unwrap()).await.unwrap();
    assert_eq!(avro.iter().filter(|(location, _)| location.ends_with(".avro")).count(), 30);
}

#[tokio::test]
async fn several_tables_change_together_or_not_at_all() {
    let lake = Lake::start().await;
    let (one, two) = (lake.samples("one", &[]).await, lake.samples("two", &[]).await);
    let (assert_properties, set_properties) = position(None, "5");
    let transaction = |one_files, two_files| {
        vec![
            TableOperation {
                assert_properties: assert_properties.clone(),
                set_properties: set_properties.clone(),
                ..operation(&one, Operation::Append { files: one_files })
            },
            operation(&two, Operation::Append { files: two_files }),
        ]
    };
    let batch = samples(&[("a", DAY, 1)]);
    let outcome =
        lake.commit(transaction(write(&one, &batch).await, write(&two, &batch).await)).await.unwrap();
    assert_eq!(outcome.snapshots.len(), 2);
    assert_eq!(lake.load(&one).await.properties()["firn.position.topic.0"], "5");

    // The same again is a zombie: its position is gone, and so is everything that it brought.
    let error =
        lake.commit(transaction(write(&one, &batch).await, write(&two, &batch).await)).await.unwrap_err();
    assert_eq!(error.kind, TableErrorKind::Conflict);
    assert!(
        error.context.contains("property 'firn.position.topic.0'") && error.context.contains("bronze.one"),
        "{error}"
    );
    for table in [&one, &two] {
        let table = lake.load(table).await;
        assert_eq!(rows(&table).await.len(), 1);
        assert_eq!(files_below(&table, "data").await, 1);
    }
}

#[tokio::test]
async fn racing_positions_let_one_writer_through() {
    let lake = Lake::start().await;
    let table = lake.samples("positions", &[]).await;
    let commit = |n: i64| {
        let (lake, table) = (&lake, &table);
        async move {
            let files = write(table, &samples(&[("h", DAY, n)])).await;
            let (assert_properties, set_properties) = position(None, "1");
            let append = operation(table, Operation::Append { files });
            lake.commit(vec![TableOperation { assert_properties, set_properties, ..append }]).await
        }
    };
    let outcomes = futures::future::join_all((0..4).map(commit)).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    for error in outcomes.into_iter().filter_map(Result::err) {
        assert_eq!(error.kind, TableErrorKind::Conflict);
        assert!(error.context.contains("property"), "{error}");
    }
    assert_eq!(rows(&lake.load(&table).await).await.len(), 1);
}

#[tokio::test]
async fn properties_change_without_a_snapshot() {
    let lake = Lake::start().await;
    let table = lake.samples("properties", &[]).await;
    let (assert_properties, set_properties) = position(None, "9");
    let none = operation(&table, Operation::Append { files: vec![] });
    let outcome =
        lake.commit(vec![TableOperation { assert_properties, set_properties, ..none }]).await.unwrap();
    assert!(outcome.snapshots.is_empty());
    let table = lake.load(&table).await;
    assert_eq!(table.properties()["firn.position.topic.0"], "9");
    assert!(table.current_snapshot().is_none());
}

#[tokio::test]
async fn a_rewrite_replaces_files_beside_new_appends_but_never_files_that_are_gone() {
    let lake = Lake::start().await;
    let table = lake.samples("compacted", &[]).await;
    for n in 0..3 {
        lake.append(&table, &samples(&[("h", DAY, n)])).await;
    }
    let base = lake.load(&table).await;
    let remove =
        base.data_files(None).await.unwrap().into_iter().map(|file| file.location).collect::<Vec<_>>();
    let compacted = samples(&[("h", DAY, 0), ("h", DAY, 1), ("h", DAY, 2)]);
    let add = write(&base, &compacted).await;
    lake.append(&table, &samples(&[("late", DAY, 9)])).await;
    let base_snapshot_id = base.current_snapshot().unwrap().id;
    let rewrite =
        |add| operation(&table, Operation::Rewrite { remove: remove.clone(), add, base_snapshot_id });
    lake.commit(vec![rewrite(add)]).await.unwrap();

    let table_now = lake.load(&table).await;
    assert_eq!(table_now.current_snapshot().unwrap().operation, "replace");
    assert_eq!(table_now.data_files(None).await.unwrap().len(), 2);
    assert_eq!(rows(&table_now).await.len(), 4);
    assert_eq!(table_now.current_snapshot().unwrap().summary["total-records"], "4");

    let again = write(&table_now, &compacted).await;
    let location = again[0].location.clone();
    let error = lake.commit(vec![rewrite(again)]).await.unwrap_err();
    assert_eq!(error.kind, TableErrorKind::Conflict);
    assert!(error.context.contains("bronze.compacted"), "{error}");
    assert_eq!(lake.file_io.read(&location).await.unwrap_err().kind, TableErrorKind::NotFound);
}

#[tokio::test]
async fn an_overwrite_of_a_moved_base_conflicts() {
    let lake = Lake::start().await;
    let table = lake.samples("model", &[]).await;
    let overwrite = |add, base| {
        operation(&table, Operation::Overwrite { remove: None, add, base_snapshot_id: Some(base) })
    };
    let first =
        lake.commit(vec![overwrite(write(&table, &samples(&[("a", 0, 1)])).await, None)]).await.unwrap();
    let first = first.snapshots[table.ident()];
    lake.commit(vec![overwrite(write(&table, &samples(&[("b", 0, 2)])).await, Some(first))]).await.unwrap();
    let stale =
        lake.commit(vec![overwrite(write(&table, &samples(&[("c", 0, 3)])).await, Some(first))]).await;
    assert_eq!(stale.unwrap_err().kind, TableErrorKind::Conflict);
    let table = lake.load(&table).await;
    assert_eq!(rows(&table).await, vec![("b".into(), Some(2))]);
    assert_eq!(table.current_snapshot().unwrap().operation, "overwrite");
}

#[tokio::test]
async fn a_lost_answer_commits_once() {
    let lake = Lake::start().await;
    let (one, two) = (lake.samples("one", &[]).await, lake.samples("two", &[]).await);
    lake.answers_to_lose.store(2, Ordering::SeqCst);
    lake.append(&one, &samples(&[("a", DAY, 1)])).await;
    assert_eq!(lake.answers_to_lose.load(Ordering::SeqCst), 0);
    assert_eq!(lake.load(&one).await.snapshots().len(), 1);

    lake.answers_to_lose.store(1, Ordering::SeqCst);
    let batch = samples(&[("b", DAY, 2)]);
    let operations = vec![
        operation(&one, Operation::Append { files: write(&one, &batch).await }),
        operation(&two, Operation::Append { files: write(&two, &batch).await }),
    ];
    lake.commit(operations).await.unwrap();
    assert_eq!(rows(&lake.load(&one).await).await.len(), 2);
    assert_eq!(rows(&lake.load(&two).await).await.len(), 1);
}

#[tokio::test]
async fn expired_snapshots_go_but_not_the_rows() {
    let lake = Lake::start().await;
    let table = lake.samples("expiring", &[]).await;
    for n in 0..4 {
        lake.append(&table, &samples(&[("h", DAY, n)])).await;
    }
    let expire = Operation::ExpireSnapshots { older_than_ms: i64::MAX, keep_last: 2 };
    lake.commit(vec![operation(&table, expire.clone())]).await.unwrap();
    let table = lake.load(&table).await;
    assert_eq!(table.snapshots().len(), 2);
    assert_eq!(rows(&table).await.len(), 4);
    let outcome = lake.commit(vec![operation(&table, expire)]).await.unwrap();
    assert!(outcome.snapshots.is_empty());
}

#[tokio::test]
async fn small_manifests_are_merged_before_they_pile_up() {
    let lake = Lake::start().await;
    let table = lake.samples("many", &[]).await;
    for n in 0..104 {
        lake.append(&table, &samples(&[("h", DAY, n)])).await;
    }
    let table = lake.load(&table).await;
    assert_eq!(rows(&table).await.len(), 104);
    let files = table.data_files(None).await.unwrap();
    assert_eq!(files.len(), 104);
    // Merging changes neither when a file came nor with which snapshot.
    let mut added = files.iter().map(|file| file.added_snapshot_id).collect::<Vec<_>>();
    added.sort_unstable();
    added.dedup();
    assert_eq!(added.len(), 104);
    let current = table.current_snapshot().unwrap();
    let list = table.metadata()["snapshots"].as_array().unwrap().iter();
    let list = list.clone().find(|snapshot| snapshot["snapshot-id"] == current.id).unwrap();
    let bytes = table.file_io().read(list["manifest-list"].as_str().unwrap()).await.unwrap();
    assert!(bytes.len() < 5_000, "the manifest list still names every append: {} bytes", bytes.len());
}

#[tokio::test]
async fn rows_that_do_not_fit_write_nothing() {
    let lake = Lake::start().await;
    let table = lake.samples("strict", &[]).await;
    let mut writer = DataFileWriter::new(&table, WriteOptions::default()).unwrap();
    let batch = samples(&[("a", 0, 1)]);
    let error = writer.write(&batch.project(&[0, 2]).unwrap()).await.unwrap_err();
    assert_eq!(error.kind, TableErrorKind::Invalid);
    assert!(error.context.contains("'at'"), "{error}");
    // The writer goes on: nothing of the refused batch was taken.
    writer.write(&batch).await.unwrap();
    assert_eq!(writer.close().await.unwrap()[0].record_count, 1);
}
