//! Rewrites that go wrong, or are given up: neither the table nor its folder has anything of them.

use std::{pin::pin, sync::Arc, time::Duration};

use datafusion::{
    common::config::ConfigOptions,
    error::Result as DataFusionResult,
    execution::SessionStateBuilder,
    physical_expr::{
        PhysicalExpr,
        expressions::{Column, lit},
    },
    physical_optimizer::PhysicalOptimizerRule,
    physical_plan::{ExecutionPlan, projection::ProjectionExec},
    prelude::{SessionConfig, SessionContext},
};
use firn_table::{RewriteOptions, RewriteScan, RowOrder, Table, TableErrorKind, WriteOptions};

use crate::harness::{DAY, Lake, files_below, samples};

/// An engine that forgets the values of one column whenever it is asked for anything.
#[derive(Debug)]
struct Forgetful;

impl PhysicalOptimizerRule for Forgetful {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _: &ConfigOptions,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let schema = plan.schema();
        let columns = schema.fields().iter().enumerate().map(|(index, field)| {
            let own: Arc<dyn PhysicalExpr> = Arc::new(Column::new(field.name(), index));
            (if field.name() == "value" { lit(7_i64) } else { own }, field.name().clone())
        });
        Ok(Arc::new(ProjectionExec::try_new(columns.collect::<Vec<_>>(), plan)?))
    }

    fn name(&self) -> &str {
        "forgetful"
    }

    fn schema_check(&self) -> bool {
        false
    }
}

/// A scan of the table's one file.
async fn scan_of(table: &Table) -> RewriteScan {
    let files = table.data_files(None).await.unwrap();
    let locations = files.into_iter().map(|file| file.location).collect::<Vec<_>>();
    RewriteScan::new(table, &locations).await.unwrap()
}

#[tokio::test]
async fn values_that_are_not_those_that_were_read_are_never_committed() {
    let lake = Lake::start().await;
    let table = lake.samples("forgotten", &[]).await;
    lake.append(&table, &samples(&[("a", DAY, 1), ("b", DAY, 7), ("c", DAY, 3)])).await;
    let scan = scan_of(&lake.load(&table).await).await;
    let forgetful = SessionStateBuilder::new_with_default_features()
        .with_physical_optimizer_rule(Arc::new(Forgetful))
        .build();
    let order = |text: &str| RewriteOptions { order: RowOrder::parse(text).unwrap(), ..Default::default() };
    let session = SessionContext::new_with_state(forgetful);
    let error = scan.write(&session, &order("sort(host_id)")).await.unwrap_err();
    let wanted =
        "new files of table bronze.forgotten hold other values in column 'value'; nothing was rewritten";
    assert_eq!((error.kind, error.context.as_str()), (TableErrorKind::Invalid, wanted));
    assert_eq!(files_below(&table, "data").await, 1, "what was written is removed");

    let written = scan.write(&SessionContext::new(), &order("sort(host_id)")).await.unwrap();
    assert_eq!((written.files.len(), written.read_rows), (1, 3));
}

#[tokio::test]
async fn a_rewrite_that_is_given_up_leaves_no_file() {
    let lake = Lake::start().await;
    let table = lake.samples("given_up", &[]).await;
    lake.append(&table, &samples(&(0..20_000).map(|value| ("a", DAY, value)).collect::<Vec<_>>())).await;
    let scan = scan_of(&lake.load(&table).await).await;
    // Two hundred files, so that there is time to give it up.
    let session = SessionContext::new_with_config(SessionConfig::new().with_batch_size(100));
    let write = WriteOptions { target_file_bytes: 1, ..WriteOptions::default() };
    let options = RewriteOptions { write, ..RewriteOptions::default() };
    {
        let mut write = pin!(scan.write(&session, &options));
        while files_below(&table, "data").await < 4 {
            tokio::select! {
                biased;
                () = tokio::time::sleep(Duration::from_millis(1)) => {}
                _ = &mut write => panic!("it came to its end"),
            }
        }
    }
    let removed = async {
        while files_below(&table, "data").await > 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), removed).await.expect("what was written is removed");
}
