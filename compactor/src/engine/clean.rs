//! Rows of a query under a given schema.
//!
//! A scan's fields carry their table's field ids, so that rows of two tables never have quite the same type. A clean scan
//! gives them one, column by column, as they stream.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use datafusion::{
    arrow::datatypes::SchemaRef,
    catalog::{TableProvider, streaming::StreamingTable},
    dataframe::DataFrame,
    error::{DataFusionError, Result},
    execution::TaskContext,
    physical_plan::{
        ExecutionPlan, ExecutionPlanProperties, SendableRecordBatchStream, stream::RecordBatchStreamAdapter,
        streaming::PartitionStream,
    },
};
use futures::StreamExt;

use super::{checks::Checks, columns::conform};

/// Checks that several streams share.
pub(crate) type SharedChecks = Arc<Mutex<Checks>>;

struct CleanPartition {
    plan: Arc<dyn ExecutionPlan>,
    partition: usize,
    schema: SchemaRef,
    checks: Option<SharedChecks>,
}

impl fmt::Debug for CleanPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CleanPartition({})", self.partition)
    }
}

impl PartitionStream for CleanPartition {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let schema = Arc::clone(&self.schema);
        match self.plan.execute(self.partition, context) {
            Ok(rows) => clean_stream(rows, schema, self.checks.clone()),
            Err(error) => {
                let failed = futures::stream::iter([Err(error)]);
                Box::pin(RecordBatchStreamAdapter::new(schema, failed))
            }
        }
    }
}

fn clean_stream(
    rows: SendableRecordBatchStream,
    schema: SchemaRef,
    checks: Option<SharedChecks>,
) -> SendableRecordBatchStream {
    let wanted = Arc::clone(&schema);
    let cleaned = rows.map(move |batch| {
        let batch = conform(&batch?, &wanted).map_err(DataFusionError::from)?;
        match &checks {
            Some(checks) => checks.lock().unwrap_or_else(PoisonError::into_inner).apply(batch),
            None => Ok(batch),
        }
    });
    Box::pin(RecordBatchStreamAdapter::new(schema, cleaned))
}

/// The query's rows as a table of `schema`; columns are matched by name. Rows that `checks` drop are not in it.
pub(crate) async fn clean(
    rows: DataFrame,
    schema: &SchemaRef,
    checks: Option<&SharedChecks>,
) -> Result<Arc<dyn TableProvider>> {
    let plan = rows.create_physical_plan().await?;
    let count = plan.output_partitioning().partition_count();
    let partitions = (0..count)
        .map(|partition| {
            let part = CleanPartition {
                plan: Arc::clone(&plan),
                partition,
                schema: Arc::clone(schema),
                checks: checks.cloned(),
            };
            Arc::new(part) as Arc<dyn PartitionStream>
        })
        .collect();
    Ok(Arc::new(StreamingTable::try_new(Arc::clone(schema), partitions)?))
}
