//! Rows that follow from rows: new ones from new ones, and with a key also changed ones from changed ones.

use std::sync::Arc;

use datafusion::{
    arrow::array::RecordBatch,
    catalog::TableProvider,
    dataframe::DataFrame,
    error::Result as QueryResult,
    physical_plan::{SendableRecordBatchStream, stream::RecordBatchStreamAdapter},
};
use firn_table::TableScan;
use futures::StreamExt;

use super::{Changed, Keeps, MOST_CHANGED_ROWS, ModelRun, Output, Step};
use crate::{
    CompactorError, Dedup,
    engine::{Repeats, find_repeats, locate},
    promotion::receipt::ModelReceipt,
};

impl ModelRun<'_> {
    pub(super) async fn append(
        &self,
        changed: Option<&Changed>,
        receipt: &mut ModelReceipt,
    ) -> Result<Step, CompactorError> {
        if changed.is_some_and(|changed| changed.removed.is_some()) {
            let input = self.model.driving_input();
            return Ok(Step::Full(format!("rows of {input} were changed or removed")));
        }
        let driving = match changed {
            Some(changed) => Arc::clone(&changed.added),
            None => self.all().await?,
        };
        let rows = self.query(driving).await?;
        let table = self.output_of(&rows).await?;
        let stream = match &self.model.dedup {
            None => rows.execute_stream().await.map_err(|error| self.failed(&error))?,
            Some(dedup) => {
                let kept: Option<Arc<dyn TableProvider>> = match (changed, table.current_snapshot()) {
                    (Some(_), Some(_)) => Some(Arc::new(TableScan::new(&table, None).await?)),
                    _ => None,
                };
                let read = match changed {
                    Some(changed) => changed.rows,
                    None => TableScan::new(self.input()?, None).await?.known_rows(),
                };
                let candidates = (rows.clone().into_view(), read);
                let repeats = find_repeats(&self.session(), dedup, candidates, kept)
                    .await
                    .map_err(|error| self.failed(&error))?;
                receipt.dropped += repeats.len() as u64;
                let rows = rows.execute_stream().await.map_err(|error| self.failed(&error))?;
                without(rows, dedup.clone(), repeats)
            }
        };
        let keeps = if changed.is_some() { Keeps::All } else { Keeps::Nothing };
        Ok(Step::Output(Output::new(table, stream, keeps)))
    }

    /// Computes the keys of changed rows anew, from the input's rows of these keys.
    pub(super) async fn append_by_key(&self, changed: Option<&Changed>) -> Result<Step, CompactorError> {
        let (session, key) = (self.session(), &self.model.key);
        let Some(changed) = changed else { return self.full().await };
        if changed.rows > MOST_CHANGED_ROWS {
            return Ok(Step::Full(format!("{} rows changed", changed.rows)));
        }
        let keys = self.changed_keys(changed, key).await?;
        let (input, mut reading) = (self.input()?, None);
        if let Some(places) = locate(&session, input, key, &keys).await? {
            let scan: Arc<dyn TableProvider> = Arc::new(TableScan::at(input, &places).await?);
            reading = Some(self.query(scan).await?);
        }
        let Some(rows) = reading else {
            return Ok(Step::Full(format!("rows of {} were deleted by equality", input.ident())));
        };
        let table = self.output_of(&rows).await?;
        let Some(replaced) = locate(&session, &table, key, &keys).await? else {
            return Ok(Step::Full(format!("rows of {} were deleted by equality", table.ident())));
        };
        let rows = rows.execute_stream().await.map_err(|error| self.failed(&error))?;
        Ok(Step::Output(Output::new(table, rows, Keeps::all_but(replaced))))
    }

    /// Keys of changed input rows, each once, in memory.
    pub(super) async fn changed_keys(
        &self,
        changed: &Changed,
        key: &[String],
    ) -> Result<DataFrame, CompactorError> {
        let session = self.session();
        let columns: Vec<_> = key.iter().map(String::as_str).collect();
        let keys_of = |rows: Arc<dyn TableProvider>| -> QueryResult<DataFrame> {
            session.read_table(rows)?.select_columns(&columns)
        };
        let keys = async {
            let mut keys = keys_of(changed.added.clone())?;
            if let Some(removed) = &changed.removed {
                keys = keys.union(keys_of(Arc::clone(removed))?)?;
            }
            keys.distinct()?.cache().await
        };
        keys.await.map_err(|error| self.failed(&error))
    }
}

/// The stream without the rows that repeat others.
fn without(rows: SendableRecordBatchStream, dedup: Dedup, repeats: Repeats) -> SendableRecordBatchStream {
    let schema = rows.schema();
    let kept = rows.map(move |batch: QueryResult<RecordBatch>| Ok(repeats.remove_from(&dedup, &batch?)?));
    Box::pin(RecordBatchStreamAdapter::new(schema, kept))
}
