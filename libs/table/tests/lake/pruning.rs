//! How many files a query reads.

use std::sync::Arc;

use datafusion::{
    datasource::{physical_plan::FileScanConfig, source::DataSourceExec},
    physical_plan::{ExecutionPlan, collect},
    prelude::{SessionConfig, SessionContext},
};
use firn_table::{Operation, RewriteOptions, RewriteScan, RowOrder, Table, TableScan, WriteOptions};

use crate::harness::{DAY, Lake, operation, rows, samples};

/// Files that a query's plan reads, and the rows that it answers.
async fn scanned(table: &Table, condition: &str) -> (usize, usize) {
    let session = SessionContext::new();
    session.register_table("t", Arc::new(TableScan::new(table, None).await.unwrap())).unwrap();
    let frame = session.sql(&format!("SELECT * FROM t WHERE {condition}")).await.unwrap();
    let plan = frame.create_physical_plan().await.unwrap();
    let files = files_of(plan.as_ref());
    let batches = collect(plan, session.task_ctx()).await.unwrap();
    (files, batches.iter().map(|batch| batch.num_rows()).sum())
}

fn files_of(plan: &dyn ExecutionPlan) -> usize {
    let own = plan
        .downcast_ref::<DataSourceExec>()
        .and_then(|scan| scan.data_source().downcast_ref::<FileScanConfig>())
        .map_or(0, |config| config.file_groups.iter().map(|group| group.len()).sum());
    own + plan.children().into_iter().map(|child| files_of(child.as_ref())).sum::<usize>()
}

#[tokio::test]
async fn partitions_and_metrics_leave_files_out() {
    let lake = Lake::start().await;
    let table = lake.samples("pruned", &[("at", "day")]).await;
    for day in 0..5 {
        lake.append(&table, &samples(&[("a", day * DAY, day), ("b", day * DAY + 5, day * 10)])).await;
    }
    let table = lake.load(&table).await;
    assert_eq!(table.data_files(None).await.unwrap().len(), 5);

    for (condition, files, rows) in [
        ("true", 5, 10),
        ("at >= TIMESTAMP '1970-01-03T00:00:00Z'", 3, 6),
        ("at = TIMESTAMP '1970-01-03T00:00:00.000005Z'", 1, 1),
        ("at < TIMESTAMP '1970-01-01T00:00:00Z'", 0, 0),
        ("value > 25", 2, 2),
        ("value IN (3, 40)", 4, 2),
        ("host_id = 'c'", 0, 0),
        ("host_id LIKE 'a%'", 5, 5),
        ("value IS NULL", 0, 0),
        ("value + 1 = 41", 5, 1),
    ] {
        assert_eq!(scanned(&table, condition).await, (files, rows), "{condition}");
    }
}

#[tokio::test]
async fn nan_is_never_pruned_away() {
    use datafusion::arrow::{
        array::{ArrayRef, Float64Array, RecordBatch},
        datatypes::{DataType, Field, Schema},
    };
    use firn_catalog_client::iceberg::TableIdent;
    use firn_table::{NewTable, ensure_table};
    let lake = Lake::start().await;
    let schema = Arc::new(Schema::new(vec![Field::new("load", DataType::Float64, true)]));
    let new = NewTable {
        ident: TableIdent::new("bronze", "loads"),
        schema: Arc::clone(&schema),
        partitioning: vec![],
        properties: std::collections::BTreeMap::new(),
    };
    let table = ensure_table(&lake.client, &lake.file_io, "main", &new).await.unwrap();
    for values in [vec![0.1, f64::NAN], vec![0.2, 0.3]] {
        let column: ArrayRef = Arc::new(Float64Array::from(values));
        lake.append(&table, &RecordBatch::try_new(Arc::clone(&schema), vec![column]).unwrap()).await;
    }
    let table = lake.load(&table).await;
    // To DataFusion NaN is greater than any number.
    assert_eq!(scanned(&table, "load > 0.25").await, (2, 2));
    assert_eq!(scanned(&table, "load > 0.5").await, (1, 1));
}

#[tokio::test]
async fn a_count_needs_no_file() {
    let lake = Lake::start().await;
    let table = lake.samples("counted", &[]).await;
    for n in 0..3 {
        lake.append(&table, &samples(&[("a", 0, n)])).await;
    }
    let table = lake.load(&table).await;
    let session = SessionContext::new();
    session.register_table("t", Arc::new(TableScan::new(&table, None).await.unwrap())).unwrap();
    let plan = session.sql("SELECT count(*) FROM t").await.unwrap().create_physical_plan().await.unwrap();
    assert_eq!(files_of(plan.as_ref()), 0);
}

/// Rewrites all files in an order, a hundred rows to each.
async fn rewrite(lake: &Lake, table: &Table, order: &str) -> Table {
    let table = lake.load(table).await;
    let files = table.data_files(None).await.unwrap();
    let remove: Vec<String> = files.into_iter().map(|file| file.location).collect();
    let scan = RewriteScan::new(&table, &remove).await.unwrap();
    let session = SessionContext::new_with_config(SessionConfig::new().with_batch_size(100));
    let write = WriteOptions { target_file_bytes: 1, ..WriteOptions::default() };
    let options =
        RewriteOptions { write, order: RowOrder::parse(order).unwrap(), ..RewriteOptions::default() };
    let rewritten = scan.write(&session, &options).await.unwrap();
    let base_snapshot_id = scan.base_snapshot_id();
    let rewrite = Operation::Rewrite { remove, add: rewritten.files, base_snapshot_id };
    lake.commit(vec![operation(&table, rewrite)]).await.unwrap();
    lake.load(&table).await
}

#[tokio::test]
async fn rows_in_order_leave_files_out() {
    let lake = Lake::start().await;
    let table = lake.samples("ordered", &[]).await;
    // All pairs of 60 times and 60 values, in an order of neither.
    let pair = |number: i64| {
        let mixed = number * 1_013 % 3_600;
        ("a", mixed / 60 * DAY, mixed % 60)
    };
    lake.append(&table, &samples(&(0..3_600).map(pair).collect::<Vec<_>>())).await;
    let (by_value, by_time) = ("value = 7", "at = TIMESTAMP '1970-01-08T00:00:00Z'");
    let before = rows(&lake.load(&table).await).await;

    for (order, of_value, of_time) in [
        ("none", 30..=36, 30..=36),
        ("sort(value)", 1..=2, 30..=36),
        ("sort(at desc, value)", 30..=36, 1..=2),
        ("zorder(at, value)", 2..=12, 2..=12),
    ] {
        let table = rewrite(&lake, &table, order).await;
        assert_eq!(table.data_files(None).await.unwrap().len(), 36, "{order}");
        let (value, time) = (scanned(&table, by_value).await, scanned(&table, by_time).await);
        assert_eq!((value.1, time.1), (60, 60), "{order}");
        assert!(of_value.contains(&value.0) && of_time.contains(&time.0), "{order}: {value:?} {time:?}");
        assert_eq!(rows(&table).await, before, "{order}");
    }
}

#[tokio::test]
async fn rows_that_cannot_be_ordered_stay_as_they_are() {
    let lake = Lake::start().await;
    let table = lake.samples("unordered", &[]).await;
    lake.append(&table, &samples(&[("a", 0, 1), ("b", 1, 2)])).await;
    let table = lake.load(&table).await;
    let files = table.data_files(None).await.unwrap();
    let scan = RewriteScan::new(&table, &[files[0].location.clone()]).await.unwrap();
    for (order, reason) in [("sort(missing)", "missing"), ("zorder(at, missing)", "it has no such column")] {
        let options = RewriteOptions { order: RowOrder::parse(order).unwrap(), ..RewriteOptions::default() };
        let refused = scan.write(&SessionContext::new(), &options).await.unwrap_err();
        assert!(format!("{refused} {:?}", refused.source).contains(reason), "{refused:?}");
    }
    let location = table.metadata()["location"].as_str().unwrap();
    assert_eq!(table.file_io().list(&format!("{location}/data")).await.unwrap().len(), 1, "nothing is left");
}
