//! Computing a model over rows in memory, as a run computes it over tables: for tests of models.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use datafusion::{
    arrow::{array::RecordBatch, datatypes::SchemaRef},
    catalog::{MemTable, TableProvider},
    dataframe::DataFrame,
    error::Result,
    prelude::SessionContext,
};
use firn_catalog_client::iceberg::TableIdent;

use super::{
    Arrived, Checks, Engine, Newest, Partials, RuleSet, SharedChecks, clean, columns::conform, find_repeats,
    judge, judged, lake_schema, register,
};
use crate::{CheckSeverity, FailingCheck, Model, ModelKind, promotion::in_log_order};

/// Batches with the columns of a schema.
pub(crate) fn as_columns(batches: &[RecordBatch], schema: &SchemaRef) -> Result<Vec<RecordBatch>> {
    batches.iter().map(|batch| Ok(conform(batch, schema)?)).collect()
}

/// The rows for which a SQL boolean is true.
pub(crate) async fn matching(
    engine: &Engine,
    rows: Vec<RecordBatch>,
    condition: &str,
) -> Result<Vec<RecordBatch>> {
    if rows.is_empty() {
        return Ok(rows);
    }
    let session = engine.session();
    let rows = session.read_batches(rows)?;
    let condition = session.parse_sql_expr(condition, rows.schema())?;
    rows.filter(condition)?.collect().await
}

/// A model with rows for its inputs.
pub(crate) struct Trial<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) model: &'a Model,
    /// Rows of each input; every input has some, or an empty batch.
    pub(crate) inputs: BTreeMap<TableIdent, RecordBatch>,
    /// For a model that judges.
    pub(crate) rules: RuleSet,
    /// Columns of the output.
    pub(crate) schema: SchemaRef,
}

impl Trial<'_> {
    /// The output's rows, without those that checks drop, and the checks that are broken.
    pub(crate) async fn compute(&self) -> Result<(Vec<RecordBatch>, Vec<FailingCheck>)> {
        let session = self.engine.session();
        let severities = match self.model.kind {
            // It has dropped what is to be dropped before it chose.
            ModelKind::Latest => &[CheckSeverity::Warn, CheckSeverity::Fail][..],
            _ => &CheckSeverity::ALL,
        };
        let (batches, mut broken) = self.rows().await?;
        let mut checks = Checks::compile(&session, self.model, &self.schema, severities)?;
        let mut kept = Vec::new();
        for batch in batches {
            kept.push(checks.apply(conform(&batch, &self.schema)?)?);
        }
        broken.extend(checks.broken());
        Ok((kept, broken))
    }

    /// The output's rows before checks, and the checks that were needed to choose them.
    async fn rows(&self) -> Result<(Vec<RecordBatch>, Vec<FailingCheck>)> {
        let session = self.engine.session();
        let query = self.query(&session).await?;
        let rows = match (self.model.kind, &self.model.dedup) {
            (ModelKind::Append, Some(dedup)) => {
                let rows = self.inputs.values().map(|batch| batch.num_rows() as u64).sum();
                let candidates = (query.clone().into_view(), rows);
                let repeats = find_repeats(&session, dedup, candidates, None).await?;
                let mut kept = Vec::new();
                for batch in query.collect().await? {
                    kept.push(repeats.remove_from(dedup, &batch)?);
                }
                kept
            }
            (ModelKind::Append | ModelKind::Full, _) => query.collect().await?,
            (ModelKind::Latest, _) => return self.newest(&session, query).await,
            (ModelKind::Aggregate, _) => match Partials::of(query.clone())? {
                Ok(partials) => partials.finished(partials.partials()?)?.collect().await?,
                Err(_) => query.collect().await?,
            },
            (ModelKind::Rules, _) => {
                let columns = self.rules.columns(query.schema().as_arrow());
                let rows = query.select_columns(&columns.iter().map(String::as_str).collect::<Vec<_>>())?;
                let schema = lake_schema(rows.schema().as_arrow());
                let rows = session.read_table(clean(rows, &schema, None).await?)?;
                let records = in_log_order(rows)?.execute_stream().await?;
                datafusion::physical_plan::common::collect(judge(self.rules.clone(), records, None)).await?
            }
        };
        Ok((rows, Vec::new()))
    }

    async fn newest(
        &self,
        session: &SessionContext,
        query: DataFrame,
    ) -> Result<(Vec<RecordBatch>, Vec<FailingCheck>)> {
        let schema = lake_schema(query.schema().as_arrow());
        let drops = Checks::compile(session, self.model, &schema, &[CheckSeverity::Drop])?;
        let drops: SharedChecks = Arc::new(Mutex::new(drops));
        let added = clean(query, &schema, Some(&drops)).await?;
        let newest = Newest { key: &self.model.key, order: &self.model.order };
        let rows =
            newest.arrive(session, Arrived { added, chosen: false, affected: None, prior: None }).await?;
        let rows = rows.collect().await?;
        let broken = drops.lock().unwrap_or_else(PoisonError::into_inner).broken();
        Ok((rows, broken))
    }

    /// The model's query over its inputs.
    async fn query(&self, session: &SessionContext) -> Result<DataFrame> {
        for (table, batch) in &self.inputs {
            let rows = MemTable::try_new(batch.schema(), vec![vec![batch.clone()]])?;
            let mut rows: Arc<dyn TableProvider> = Arc::new(rows);
            if let (Some(columns), true) = (&self.model.judged, table == self.model.driving_input()) {
                rows = judged(session.read_table(rows)?, &self.rules, columns).await?;
            }
            register(session, table, rows)?;
        }
        session.sql(&self.model.sql).await
    }
}
