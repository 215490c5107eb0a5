//! Rows with what each rule says of them: as many rows as there are rules for each one.

use std::{fmt, sync::Arc};

use datafusion::{
    arrow::{
        array::{ArrayRef, RecordBatch, StringArray},
        datatypes::{DataType, Field, Schema, SchemaRef},
    },
    catalog::{TableProvider, streaming::StreamingTable},
    dataframe::DataFrame,
    error::Result,
    execution::TaskContext,
    physical_plan::{
        ExecutionPlan, ExecutionPlanProperties, SendableRecordBatchStream, stream::RecordBatchStreamAdapter,
        streaming::PartitionStream,
    },
};
use futures::{StreamExt, stream};

use super::{
    columns::{conform, lake_schema},
    verdicts::{RuleSet, state_name},
};

/// Names of the columns with the rule and with what it says.
pub(crate) type VerdictColumns = (String, String);

struct JudgedPartition {
    plan: Arc<dyn ExecutionPlan>,
    partition: usize,
    rules: Arc<RuleSet>,
    /// The rows' own columns.
    rows: SchemaRef,
    schema: SchemaRef,
}

impl fmt::Debug for JudgedPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JudgedPartition({})", self.partition)
    }
}

impl PartitionStream for JudgedPartition {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let schema = Arc::clone(&self.schema);
        let (rules, rows, judged_schema) =
            (Arc::clone(&self.rules), Arc::clone(&self.rows), Arc::clone(&self.schema));
        let batches = match self.plan.execute(self.partition, context) {
            Ok(batches) => batches,
            Err(error) => {
                let failed = stream::iter([Err(error)]);
                return Box::pin(RecordBatchStreamAdapter::new(schema, failed));
            }
        };
        let judged = batches.flat_map(move |batch| {
            let judged = batch.and_then(|batch| judge(&rules, &conform(&batch, &rows)?, &judged_schema));
            stream::iter(match judged {
                Ok(batches) => batches.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            })
        });
        Box::pin(RecordBatchStreamAdapter::new(schema, judged))
    }
}

/// The batch once per rule.
fn judge(rules: &RuleSet, batch: &RecordBatch, schema: &SchemaRef) -> Result<Vec<RecordBatch>> {
    let mut judged = Vec::new();
    for (id, verdicts) in rules.verdicts_by_id(batch) {
        let mut columns = batch.columns().to_vec();
        columns.push(Arc::new(StringArray::from(vec![id; batch.num_rows()])) as ArrayRef);
        let states = verdicts.into_iter().map(|verdict| Some(state_name(verdict)));
        columns.push(Arc::new(states.collect::<StringArray>()));
        judged.push(RecordBatch::try_new(Arc::clone(schema), columns)?);
    }
    Ok(judged)
}

/// `schema` with the columns of a verdict.
pub(super) fn judged_schema(schema: &Schema, (rule, state): &VerdictColumns) -> SchemaRef {
    let verdict = [rule, state].map(|name| Arc::new(Field::new(name, DataType::Utf8, false)));
    Arc::new(Schema::new(schema.fields().iter().cloned().chain(verdict).collect::<Vec<_>>()))
}

/// The rows once per rule, with the rule's id and state in the named columns. Of nested columns only those are kept that a
/// rule reads.
pub(crate) async fn judged(
    rows: DataFrame,
    rules: &RuleSet,
    columns: &VerdictColumns,
) -> Result<Arc<dyn TableProvider>> {
    let of_rules = rules.columns(rows.schema().as_arrow());
    let fields = rows.schema().fields();
    let kept =
        fields.iter().filter(|field| !field.data_type().is_nested() || of_rules.contains(field.name()));
    let kept: Vec<_> = kept.map(|field| field.name().clone()).collect();
    let rows = rows.select_columns(&kept.iter().map(String::as_str).collect::<Vec<_>>())?;
    let own = lake_schema(rows.schema().as_arrow());
    let schema = judged_schema(&own, columns);
    let plan = rows.create_physical_plan().await?;
    let rules = Arc::new(rules.clone());
    let partition = |partition| -> Arc<dyn PartitionStream> {
        Arc::new(JudgedPartition {
            plan: Arc::clone(&plan),
            partition,
            rules: Arc::clone(&rules),
            rows: Arc::clone(&own),
            schema: Arc::clone(&schema),
        })
    };
    let partitions = (0..plan.output_partitioning().partition_count()).map(partition).collect();
    Ok(Arc::new(StreamingTable::try_new(schema, partitions)?))
}
