//! Bringing one model's output up to date on the run's branch.

use std::sync::Arc;

use datafusion::{
    arrow::{array::RecordBatch, datatypes::SchemaRef},
    catalog::TableProvider,
    dataframe::DataFrame,
    error::{DataFusionError, Result as QueryResult},
    physical_plan::{SendableRecordBatchStream, stream::RecordBatchStreamAdapter},
    prelude::SessionContext,
};
use firn_catalog_client::{TenantClient, iceberg::TableIdent};
use firn_table::{Increment, NewTable, Table, TableScan, WriteOptions, ensure_table, increment};
use futures::StreamExt;

use super::{
    Promotion,
    commit::Change,
    receipt::ModelReceipt,
    state::{Loaded, RULES},
};
use crate::{
    CompactorError, Dedup, FailingCheck, Model, ModelKind,
    engine::{
        Checks, Repeats, clean, documented_schema, find_repeats, judge, lake_schema, merge_latest, pour,
        register, verdict_schema,
    },
};

/// One model in one run.
pub(super) struct ModelRun<'a> {
    pub(super) promotion: &'a Promotion,
    pub(super) client: &'a TenantClient,
    pub(super) branch: &'a str,
    pub(super) run: &'a str,
    pub(super) model: &'a Model,
    pub(super) loaded: Loaded,
}

/// The rows to write, and how they become the output.
struct Output {
    table: Table,
    rows: SendableRecordBatchStream,
    /// Whether they are all rows of the output, or only new ones.
    replaces: bool,
}

impl ModelRun<'_> {
    /// Computes, writes, checks and commits. `full` says why everything is computed; `None` tries the increment.
    pub(super) async fn execute(
        mut self,
        full: Option<String>,
        receipt: &mut ModelReceipt,
    ) -> Result<Vec<FailingCheck>, CompactorError> {
        let session = self.promotion.engine.session();
        if let Some(rules) = &self.loaded.rules {
            receipt.notes.clone_from(&rules.broken);
        }
        let (driving, full) = self.driving_rows(full).await?;
        receipt.action = if full.is_some() { "full" } else { "increment" }.to_owned();
        let incremental = full.is_none();
        receipt.reason = full.unwrap_or_default();
        let Some(driving) = driving else {
            self.commit(Change::PositionsOnly, None, receipt).await?;
            return Ok(Vec::new());
        };
        let output = match self.model.kind {
            ModelKind::Append => self.append(&session, driving, incremental, receipt).await?,
            ModelKind::Latest => self.latest(&session, driving, incremental).await?,
            ModelKind::Aggregate | ModelKind::Full => self.full(&session, driving).await?,
            ModelKind::Rules => self.rules(&session, driving, incremental).await?,
        };
        let mut checks = Checks::compile(&session, self.model, &output.table.arrow_schema()?)
            .map_err(|error| self.failed(&error))?;
        let poured = pour(&output.table, WriteOptions::default(), output.rows, Some(&mut checks)).await?;
        receipt.rows = poured.rows;
        receipt.dropped += poured.dropped;
        receipt.checks = checks.results();
        self.loaded.output = Some(output.table);
        let change = if output.replaces { Change::Replace(poured.files) } else { Change::Add(poured.files) };
        self.commit(change, poured.newest_received_us, receipt).await?;
        Ok(checks.broken())
    }

    fn failed(&self, error: &DataFusionError) -> CompactorError {
        CompactorError::query(&self.model.table, error)
    }

    /// The rows of the driving input that are to be read (none: nothing was added), and why all of them if it is all.
    async fn driving_rows(
        &self,
        full: Option<String>,
    ) -> Result<(Option<Arc<dyn TableProvider>>, Option<String>), CompactorError> {
        let name = self.model.driving_input();
        let Some(Some(table)) = self.loaded.inputs.get(name) else { return Ok((None, full)) };
        let all = async |reason: String| -> Result<_, CompactorError> {
            let scan: Arc<dyn TableProvider> = Arc::new(TableScan::new(table, None).await?);
            Ok((Some(scan), Some(reason)))
        };
        if let Some(reason) = full {
            return all(reason).await;
        }
        let held = self.loaded.held.as_ref().and_then(|held| held.inputs.get(&name.to_string()));
        let Some(from) = held.and_then(|position| position.parse().ok()) else {
            return all(format!("the output does not say which snapshot of {name} it holds")).await;
        };
        match increment(table, Some(from), None).await? {
            Increment::Appended(scan) => Ok((Some(Arc::new(*scan)), None)),
            Increment::Full(reason) => all(reason).await,
            Increment::Empty if self.rules_changed() => {
                let none = datafusion::datasource::empty::EmptyTable::new(table.arrow_schema()?);
                Ok((Some(Arc::new(none)), None))
            }
            Increment::Empty => Ok((None, None)),
        }
    }

    fn rules_changed(&self) -> bool {
        let held = self.loaded.held.as_ref().and_then(|held| held.inputs.get(RULES));
        self.loaded.rules.is_some() && held != self.loaded.positions.get(RULES)
    }

    /// The output table, created or widened to `schema`.
    async fn output_table(&self, schema: SchemaRef) -> Result<Table, CompactorError> {
        let comment = ("comment".to_owned(), self.model.description.clone());
        let wanted = NewTable {
            ident: self.model.table.clone(),
            schema,
            partitioning: self.model.partitioning.clone(),
            properties: [comment].into(),
        };
        Ok(ensure_table(self.client, &self.promotion.file_io, self.branch, &wanted).await?)
    }

    /// The model's query over its input.
    async fn query(
        &self,
        session: &SessionContext,
        driving: Arc<dyn TableProvider>,
    ) -> QueryResult<DataFrame> {
        register(session, self.model.driving_input(), driving)?;
        session.sql(&self.model.sql).await
    }

    async fn append(
        &self,
        session: &SessionContext,
        driving: Arc<dyn TableProvider>,
        incremental: bool,
        receipt: &mut ModelReceipt,
    ) -> Result<Output, CompactorError> {
        let rows = self.query(session, driving).await.map_err(|error| self.failed(&error))?;
        let table = self.output_table(documented_schema(self.model, rows.schema().as_arrow())).await?;
        let stream = match &self.model.dedup {
            None => rows.execute_stream().await.map_err(|error| self.failed(&error))?,
            Some(dedup) => {
                let kept: Option<Arc<dyn TableProvider>> = match (incremental, table.current_snapshot()) {
                    (true, Some(_)) => Some(Arc::new(TableScan::new(&table, None).await?)),
                    _ => None,
                };
                let repeats = find_repeats(session, dedup, rows.clone().into_view(), kept)
                    .await
                    .map_err(|error| self.failed(&error))?;
                receipt.dropped += repeats.len() as u64;
                let rows = rows.execute_stream().await.map_err(|error| self.failed(&error))?;
                without(rows, dedup.clone(), repeats)
            }
        };
        Ok(Output { table, rows: stream, replaces: !incremental })
    }

    async fn latest(
        &self,
        session: &SessionContext,
        driving: Arc<dyn TableProvider>,
        incremental: bool,
    ) -> Result<Output, CompactorError> {
        let failed = |error: DataFusionError| self.failed(&error);
        let rows = self.query(session, driving).await.map_err(failed)?;
        let table = self.output_table(documented_schema(self.model, rows.schema().as_arrow())).await?;
        let schema = lake_schema(rows.schema().as_arrow());
        let added = clean(rows, &schema).await.map_err(failed)?;
        let mut previous = None;
        if incremental && table.current_snapshot().is_some() {
            let known = session.read_table(Arc::new(TableScan::new(&table, None).await?)).map_err(failed)?;
            previous = Some(clean(known, &schema).await.map_err(failed)?);
        }
        let newest = merge_latest(session, added, previous, &self.model.key, &self.model.order)
            .await
            .map_err(failed)?;
        let rows = newest.execute_stream().await.map_err(failed)?;
        Ok(Output { table, rows, replaces: true })
    }

    async fn full(
        &self,
        session: &SessionContext,
        driving: Arc<dyn TableProvider>,
    ) -> Result<Output, CompactorError> {
        for (name, input) in self.loaded.inputs.iter().filter(|(name, _)| *name != self.model.driving_input())
        {
            let Some(input) = input else { continue };
            let scan = Arc::new(TableScan::new(input, None).await?);
            register(session, name, scan).map_err(|error| self.failed(&error))?;
        }
        let rows = self.query(session, driving).await.map_err(|error| self.failed(&error))?;
        let table = self.output_table(documented_schema(self.model, rows.schema().as_arrow())).await?;
        let rows = rows.execute_stream().await.map_err(|error| self.failed(&error))?;
        Ok(Output { table, rows, replaces: true })
    }

    async fn rules(
        &self,
        session: &SessionContext,
        driving: Arc<dyn TableProvider>,
        incremental: bool,
    ) -> Result<Output, CompactorError> {
        let failed = |error: DataFusionError| self.failed(&error);
        let rules = self.loaded.rules.clone().ok_or_else(|| CompactorError::Query {
            what: self.model.table.to_string(),
            message: "its input has no rows to judge".to_owned(),
        })?;
        let table = self.output_table(verdict_schema()).await?;
        let rows = self.query(session, driving).await.map_err(failed)?;
        let columns = rules.columns(rows.schema().as_arrow());
        let columns: Vec<_> = columns.iter().map(String::as_str).collect();
        let rows = rows.select_columns(&columns).map_err(failed)?;
        let schema = lake_schema(rows.schema().as_arrow());
        let mut records = session.read_table(clean(rows, &schema).await.map_err(failed)?).map_err(failed)?;
        let again = if incremental && self.rules_changed() { self.current_records().await? } else { None };
        if let Some(again) = again {
            let again =
                session.read_table(again).and_then(|rows| rows.select_columns(&columns)).map_err(failed)?;
            let again = session.read_table(clean(again, &schema).await.map_err(failed)?).map_err(failed)?;
            records = records.union(again).map_err(failed)?;
        }
        let records = sorted(records, &["host_id", "log_partition", "log_offset"]).map_err(failed)?;
        let records = records.execute_stream().await.map_err(failed)?;
        let mut prior = None;
        if incremental && table.current_snapshot().is_some() {
            let known = session.read_table(Arc::new(TableScan::new(&table, None).await?)).map_err(failed)?;
            let known = sorted(known, &["host_id", "rule_id"]).map_err(failed)?;
            prior = Some(known.execute_stream().await.map_err(failed)?);
        }
        Ok(Output { table, rows: judge(rules, records, prior), replaces: true })
    }

    /// The latest record of each host, to be judged again by changed rules.
    async fn current_records(&self) -> Result<Option<Arc<dyn TableProvider>>, CompactorError> {
        let current: Option<&TableIdent> = self.model.current.as_ref();
        match current.and_then(|name| self.loaded.inputs.get(name)) {
            Some(Some(table)) if table.current_snapshot().is_some() => {
                Ok(Some(Arc::new(TableScan::new(table, None).await?)))
            }
            _ => Ok(None),
        }
    }
}

fn sorted(rows: DataFrame, columns: &[&str]) -> QueryResult<DataFrame> {
    rows.sort(columns.iter().map(|column| datafusion::prelude::col(*column).sort(true, true)).collect())
}

/// The stream without the rows that repeat others.
fn without(rows: SendableRecordBatchStream, dedup: Dedup, repeats: Repeats) -> SendableRecordBatchStream {
    let schema = rows.schema();
    let kept = rows.map(move |batch: QueryResult<RecordBatch>| Ok(repeats.remove_from(&dedup, &batch?)?));
    Box::pin(RecordBatchStreamAdapter::new(schema, kept))
}
