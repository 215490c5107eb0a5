//! Rewrites that are sorted elsewhere: what goes there, what stays here, and what is made of rows that come back changed.

use std::sync::{Arc, Mutex};

use datafusion::{
    execution::SendableRecordBatchStream,
    prelude::{ParquetReadOptions, SessionContext, col, lit},
};
use firn_table::{
    RewriteOptions, RewriteScan, RewrittenFiles, RowOrder, SortCluster, SortJob, Table, TableError,
    TableErrorKind, WriteOptions,
};

use crate::{
    deletes::{append, delete, table_of_format},
    evolution::change_schema,
    harness::{Lake, files_below},
};

/// Another engine: it reads files by their columns' names, as any does.
#[derive(Debug, Default)]
struct Elsewhere {
    min_bytes: u64,
    /// It gets a value wrong.
    errs: bool,
    jobs: Mutex<Vec<(String, usize)>>,
}

#[async_trait::async_trait]
impl SortCluster for Elsewhere {
    fn takes(&self, bytes: u64) -> bool {
        bytes >= self.min_bytes
    }

    async fn sort(&self, _: &SessionContext, job: SortJob) -> Result<SendableRecordBatchStream, TableError> {
        self.jobs.lock().unwrap().push((format!("{} {}", job.table, job.store), job.files.len()));
        let paths = job.files.iter().map(|(path, _)| format!("/{path}")).collect::<Vec<_>>();
        let read = SessionContext::new().read_parquet(paths, ParquetReadOptions::default()).await.unwrap();
        let by = job.by.iter().map(|by| col(&by.name).sort(!by.descending, by.nulls_first)).collect();
        let sorted = read.sort(by).unwrap();
        let value = if self.errs { col("value") + lit(1) } else { col("value") };
        let sorted = sorted.with_column("value", value).unwrap();
        Ok(sorted.execute_stream().await.unwrap())
    }
}

async fn sort(table: &Table, order: &str, elsewhere: &Arc<Elsewhere>) -> Result<RewrittenFiles, TableError> {
    let files = table.data_files(None).await?.into_iter().map(|file| file.location).collect::<Vec<_>>();
    let options = RewriteOptions {
        write: WriteOptions::default(),
        order: RowOrder::parse(order).unwrap(),
        cluster: Some(Arc::clone(elsewhere) as Arc<dyn SortCluster>),
        ..RewriteOptions::default()
    };
    RewriteScan::new(table, &files).await?.write(&SessionContext::new(), &options).await
}

fn jobs(elsewhere: &Elsewhere) -> Vec<(String, usize)> {
    std::mem::take(&mut *elsewhere.jobs.lock().unwrap())
}

/// The table with two files of ten rows each.
async fn filled(lake: &Lake, version: u8) -> Table {
    let table = table_of_format(lake, version).await;
    append(lake, &table, 10, 20).await;
    append(lake, &table, 0, 10).await;
    lake.load(&table).await
}

#[tokio::test]
async fn large_files_are_sorted_elsewhere() {
    let lake = Lake::start().await;
    let table = filled(&lake, 2).await;
    let large = Arc::new(Elsewhere::default());
    let rewritten = sort(&table, "sort(host_id)", &large).await.unwrap();
    assert_eq!((rewritten.files.len(), rewritten.read_rows, rewritten.deleted_rows), (1, 20, 0));
    assert_eq!(jobs(&large), [("bronze.v2 file:///".to_owned(), 2)]);

    let small = Arc::new(Elsewhere { min_bytes: 1 << 20, ..Elsewhere::default() });
    sort(&table, "sort(host_id)", &small).await.unwrap();
    assert_eq!(jobs(&small), []);
}

#[tokio::test]
async fn what_the_table_alone_understands_is_sorted_here() {
    let lake = Lake::start().await;
    let elsewhere = Arc::new(Elsewhere::default());
    let sorted_here = async |table: &Table, order: &str, rows: u64| {
        let rewritten = sort(table, order, &elsewhere).await.unwrap();
        let written = rewritten.files.iter().map(|file| file.record_count).sum::<u64>();
        assert_eq!((jobs(&elsewhere), written), (vec![], rows), "{} {order}", table.ident());
    };
    let lineage = filled(&lake, 3).await;
    sorted_here(&lineage, "sort(host_id)", 20).await;
    let table = filled(&lake, 2).await;
    sorted_here(&table, "zorder(host_id, at)", 20).await;

    let location = table.data_files(None).await.unwrap()[0].location.clone();
    lake.commit(vec![delete(&table, &location, &[0, 3])]).await.unwrap();
    let table = lake.load(&table).await;
    sorted_here(&table, "sort(host_id)", 18).await;
}

#[tokio::test]
async fn files_with_columns_of_another_name_are_sorted_here() {
    let lake = Lake::start().await;
    let table = filled(&lake, 2).await;
    change_schema(&lake, &table, |fields| fields[0]["name"] = "host".into()).await;
    let (table, elsewhere) = (lake.load(&table).await, Arc::new(Elsewhere::default()));
    let rewritten = sort(&table, "sort(host)", &elsewhere).await.unwrap();
    assert_eq!((jobs(&elsewhere), rewritten.read_rows), (vec![], 20));
}

#[tokio::test]
async fn values_that_come_back_changed_are_never_committed() {
    let lake = Lake::start().await;
    let table = filled(&lake, 2).await;
    let elsewhere = Arc::new(Elsewhere { errs: true, ..Elsewhere::default() });
    let error = sort(&table, "sort(host_id)", &elsewhere).await.unwrap_err();
    let wanted = "new files of table bronze.v2 hold other values in column 'value'; nothing was rewritten";
    assert_eq!((error.kind, error.context.as_str()), (TableErrorKind::Invalid, wanted));
    assert_eq!(files_below(&table, "data").await, 2, "what was written is removed");
}
