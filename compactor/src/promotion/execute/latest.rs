//! The newest row per key.

use std::sync::{Arc, Mutex, PoisonError};

use datafusion::{
    arrow::datatypes::SchemaRef,
    catalog::TableProvider,
    datasource::empty::EmptyTable,
    physical_plan::{SendableRecordBatchStream, stream::RecordBatchStreamAdapter},
};
use firn_table::{PositionScan, RowPositions, TableScan};
use futures::StreamExt;

use super::{Changed, Checked, Keeps, MOST_CHANGED_ROWS, ModelRun, Output, Step};
use crate::{
    CheckSeverity, CompactorError,
    engine::{
        Arrived, Checks, Newest, SharedChecks, clean, collect, columns_for_places, lake_schema, locate,
        newest_places, ranges, with_places,
    },
};

impl ModelRun<'_> {
    pub(super) async fn latest(&self, changed: Option<&Changed>) -> Result<Step, CompactorError> {
        let mut driving = match changed {
            Some(changed) => Arc::clone(&changed.added),
            None => self.all().await?,
        };
        let only_adds = changed.is_none_or(|changed| changed.removed.is_none());
        let by_place = if only_adds { self.newest_by_place(&driving).await? } else { None };
        let chosen = by_place.is_some();
        if let Some(newest) = by_place {
            driving = Arc::new(newest);
            if changed.is_none() {
                let rows = self.query(driving).await?;
                return self.all_of(rows).await;
            }
        }
        let session = self.session();
        let (model, failed) = (self.model, |error| self.failed(&error));
        let rows = self.query(driving).await?;
        let table = self.output_of(&rows).await?;
        // Files of the output without any of the keys need not be looked at; removed rows may have others.
        let filters = match changed {
            Some(_) if only_adds => ranges(&model.key, &rows).await.map_err(failed)?,
            _ => Vec::new(),
        };
        let schema = lake_schema(rows.schema().as_arrow());
        // What is dropped must not hide an older row, so it goes before the newest is chosen.
        let drops = Checks::compile(&session, model, &schema, &[CheckSeverity::Drop]).map_err(failed)?;
        let drops: SharedChecks = Arc::new(Mutex::new(drops));
        let added = clean(rows, &schema, Some(&drops)).await.map_err(failed)?;
        let newest = Newest { key: &model.key, order: &model.order };
        let checked = Checked { shared: Some(Arc::clone(&drops)) };

        let Some(changed) = changed.filter(|_| table.current_snapshot().is_some()) else {
            let arrived = Arrived { added, chosen, affected: None, prior: None };
            let rows = newest.arrive(&session, arrived).await.map_err(failed)?;
            let rows = rows.execute_stream().await.map_err(failed)?;
            return Ok(Step::Output(Output { table, rows, keeps: Keeps::Nothing, checked }));
        };
        let columns: Vec<_> = model.key.iter().chain(&model.order).map(String::as_str).collect();
        let Some(prior) = PositionScan::new(&table, &session, &columns, &filters).await? else {
            return Ok(Step::Full(format!("rows of {} were deleted by equality", table.ident())));
        };
        let (mut affected, mut places) = (None, RowPositions::default());
        if let Some(removed) = &changed.removed {
            if changed.rows > MOST_CHANGED_ROWS {
                return Ok(Step::Full(format!("{} rows changed", changed.rows)));
            }
            let keys: Vec<_> = model.key.iter().map(String::as_str).collect();
            let removed = self.query(Arc::clone(removed)).await?;
            let removed = clean(removed, &schema, None).await.map_err(failed)?;
            let removed = session.read_table(removed).and_then(|rows| rows.select_columns(&keys)?.distinct());
            let removed = removed.map_err(failed)?.cache().await.map_err(failed)?;
            let Some(found) = locate(&session, &table, &model.key, &removed).await? else {
                return Ok(Step::Full(format!("rows of {} were deleted by equality", table.ident())));
            };
            places = found;
            let input = clean(self.query(self.all().await?).await?, &schema, Some(&drops)).await;
            affected = Some((removed, input.map_err(failed)?));
        }
        let provider: Arc<dyn TableProvider> = prior.provider().map_err(failed)?;
        let arrived = Arrived { added, chosen, affected, prior: Some(provider) };
        let rows = newest.arrive(&session, arrived).await.map_err(failed)?;
        let rows = rows.execute_stream().await.map_err(failed)?;
        let places = Arc::new(Mutex::new(places));
        let rows = collecting(rows, &schema, prior, Arc::clone(&places));
        Ok(Step::Output(Output { table, rows, keeps: Keeps::AllBut(places), checked }))
    }

    /// The newest row of each key among some of the input, where places tell them: whole rows are then read of the newest alone.
    async fn newest_by_place(&self, rows: &Arc<TableScan>) -> Result<Option<TableScan>, CompactorError> {
        // What is dropped must not hide an older row, and a check may look at any column.
        if self.model.checks.iter().any(|check| check.severity == CheckSeverity::Drop) {
            return Ok(None);
        }
        let failed = |error| self.failed(&error);
        let newest = Newest { key: &self.model.key, order: &self.model.order };
        let planned = EmptyTable::new(with_places(rows.schema().as_ref()));
        let planned = self.query(Arc::new(planned)).await?;
        let Some(columns) = columns_for_places(&planned, newest).map_err(failed)? else { return Ok(None) };
        let columns: Vec<_> = columns.iter().map(String::as_str).collect();
        let Some(scan) = PositionScan::of(Arc::clone(rows), &self.session(), &columns, &[]).await? else {
            return Ok(None);
        };
        let rows = self.query(scan.provider().map_err(failed)?).await?;
        let Some(places) = newest_places(rows, newest, &scan).await.map_err(failed)? else { return Ok(None) };
        Ok(Some(scan.rows_at(&places)?))
    }
}

/// The rows without the places of those that they replace, which are noted.
fn collecting(
    rows: SendableRecordBatchStream,
    schema: &SchemaRef,
    prior: PositionScan,
    places: Arc<Mutex<RowPositions>>,
) -> SendableRecordBatchStream {
    let (columns, inner) = ((0..schema.fields().len()).collect::<Vec<_>>(), Arc::clone(schema));
    let rows = rows.map(move |batch| {
        let batch = batch?;
        collect(&batch, &prior, &mut places.lock().unwrap_or_else(PoisonError::into_inner))?;
        let batch = batch.project(&columns)?;
        Ok(datafusion::arrow::array::RecordBatch::try_new(Arc::clone(&inner), batch.columns().to_vec())?)
    });
    Box::pin(RecordBatchStreamAdapter::new(Arc::clone(schema), rows))
}
