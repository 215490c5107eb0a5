//! How many files a query reads.

use std::sync::Arc;

use datafusion::{
    datasource::{physical_plan::FileScanConfig, source::DataSourceExec},
    physical_plan::{ExecutionPlan, collect},
    prelude::SessionContext,
};
use firn_table::{Table, TableScan};

use crate::harness::{DAY, Lake, samples};

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
