//! Bringing one model's output up to date on the run's branch.

mod aggregate;
mod append;
mod latest;
mod rules;
mod write;

pub(crate) use aggregate::PARTIALS_SUFFIX;
pub(crate) use rules::in_log_order;

use std::sync::{Arc, Mutex};

use datafusion::{
    arrow::datatypes::SchemaRef,
    catalog::TableProvider,
    dataframe::DataFrame,
    error::{DataFusionError, Result as QueryResult},
    physical_plan::SendableRecordBatchStream,
    prelude::SessionContext,
};
use firn_catalog_client::TenantClient;
use firn_table::{Increment, NewTable, RowPositions, Table, TableScan, ensure_table, increment};

use super::{
    Promotion,
    commit::Change,
    receipt::ModelReceipt,
    state::{Loaded, RULES},
};
use crate::{
    CheckResult, CompactorError, FailingCheck, Model, ModelKind,
    engine::{documented_schema, judged, register},
};

/// Changed rows of which keys are held in memory at the most. Beyond that all rows are computed anew, which spills.
const MOST_CHANGED_ROWS: u64 = 1_000_000;

/// One model in one run.
pub(super) struct ModelRun<'a> {
    pub(super) promotion: &'a Promotion,
    pub(super) client: &'a TenantClient,
    pub(super) branch: &'a str,
    pub(super) run: &'a str,
    pub(super) model: &'a Model,
    pub(super) loaded: Loaded,
}

/// What is to be read of the driving input.
enum Driving {
    /// Nothing: no rows were added or removed.
    Nothing,
    /// All rows; says why.
    All(String),
    Changed(Changed),
}

/// What changed in the driving input.
#[derive(Clone)]
struct Changed {
    added: Arc<TableScan>,
    removed: Option<Arc<dyn TableProvider>>,
    /// Rows of both.
    rows: u64,
}

/// What a model makes of what it read.
enum Step {
    Output(Output),
    /// It can't go on from what its output holds: everything is to be computed. Says why.
    Full(String),
}

/// The rows to write, and how they become the output.
struct Output {
    table: Table,
    rows: SendableRecordBatchStream,
    keeps: Keeps,
    /// What checks found that were made on the way.
    checked: Checked,
}

/// What stays of the rows that an output has.
enum Keeps {
    Nothing,
    All,
    /// All but those at the places, which are complete when the new rows have come to their end.
    AllBut(Arc<Mutex<RowPositions>>),
}

/// What checks found.
#[derive(Default)]
struct Checked {
    shared: Option<crate::engine::SharedChecks>,
}

impl Output {
    fn new(table: Table, rows: SendableRecordBatchStream, keeps: Keeps) -> Self {
        Self { table, rows, keeps, checked: Checked::default() }
    }
}

impl Keeps {
    fn all_but(places: RowPositions) -> Self {
        Self::AllBut(Arc::new(Mutex::new(places)))
    }
}

impl Checked {
    fn take(&self) -> (Vec<CheckResult>, Vec<FailingCheck>, u64) {
        let Some(shared) = &self.shared else { return (Vec::new(), Vec::new(), 0) };
        let checks = shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        (checks.results(), checks.broken(), checks.dropped())
    }
}

impl ModelRun<'_> {
    /// Computes, writes, checks and commits. `full` says why everything is computed; `None` tries the increment.
    pub(super) async fn execute(
        mut self,
        full: Option<String>,
        receipt: &mut ModelReceipt,
    ) -> Result<Vec<FailingCheck>, CompactorError> {
        if let Some(rules) = &self.loaded.rules {
            receipt.notes.clone_from(&rules.broken);
        }
        let mut driving = self.driving(full).await?;
        loop {
            "increment".clone_into(&mut receipt.action);
            match &driving {
                Driving::Nothing => {
                    self.commit(Change::PositionsOnly, None, receipt).await?;
                    return Ok(Vec::new());
                }
                Driving::All(reason) => {
                    "full".clone_into(&mut receipt.action);
                    receipt.reason.clone_from(reason);
                }
                Driving::Changed(_) => {}
            }
            match self.step(&driving, receipt).await? {
                Step::Output(output) => return self.write(output, receipt).await,
                Step::Full(reason) if matches!(driving, Driving::All(_)) => {
                    let what = self.model.table.to_string();
                    return Err(CompactorError::Query { what, message: reason });
                }
                Step::Full(reason) => driving = Driving::All(reason),
            }
        }
    }

    async fn step(&self, driving: &Driving, receipt: &mut ModelReceipt) -> Result<Step, CompactorError> {
        let changed = match driving {
            Driving::Changed(changed) => Some(changed),
            Driving::All(_) | Driving::Nothing => None,
        };
        match self.model.kind {
            ModelKind::Append if self.model.key.is_empty() => self.append(changed, receipt).await,
            ModelKind::Append => self.append_by_key(changed).await,
            ModelKind::Latest => self.latest(changed).await,
            ModelKind::Aggregate => self.aggregate(changed, receipt).await,
            ModelKind::Full => self.full().await,
            ModelKind::Rules => self.rules(changed).await,
        }
    }

    fn failed(&self, error: &DataFusionError) -> CompactorError {
        CompactorError::query(&self.model.table, error)
    }

    /// A session of its own.
    fn session(&self) -> SessionContext {
        self.promotion.engine.session()
    }

    /// What is to be read of the driving input.
    async fn driving(&self, full: Option<String>) -> Result<Driving, CompactorError> {
        let name = self.model.driving_input();
        let Some(Some(table)) = self.loaded.inputs.get(name) else { return Ok(Driving::Nothing) };
        if let Some(reason) = full {
            return Ok(Driving::All(reason));
        }
        if self.model.judged.is_some() && self.rules_changed() {
            return Ok(Driving::All("the rules changed".to_owned()));
        }
        let held = self.loaded.held.as_ref().and_then(|held| held.inputs.get(&name.to_string()));
        let Some(from) = held.and_then(|position| position.parse().ok()) else {
            let reason = format!("the output does not say which snapshot of {name} it holds");
            return Ok(Driving::All(reason));
        };
        Ok(match increment(table, Some(from), None).await? {
            Increment::Appended(added) => {
                let rows = added.known_rows();
                Driving::Changed(Changed { added: Arc::new(*added), removed: None, rows })
            }
            Increment::Changed { added, removed } => {
                let rows = added.known_rows() + removed.known_rows();
                Driving::Changed(Changed { added: Arc::new(*added), removed: Some(Arc::new(*removed)), rows })
            }
            Increment::Full(reason) => Driving::All(reason),
            Increment::Empty if self.rules_changed() => {
                let none = TableScan::at(table, &RowPositions::default()).await?;
                Driving::Changed(Changed { added: Arc::new(none), removed: None, rows: 0 })
            }
            Increment::Empty => Driving::Nothing,
        })
    }

    fn rules_changed(&self) -> bool {
        let held = self.loaded.held.as_ref().and_then(|held| held.inputs.get(RULES));
        self.loaded.rules.is_some() && held != self.loaded.positions.get(RULES)
    }

    /// The driving input.
    fn input(&self) -> Result<&Table, CompactorError> {
        let input = self.loaded.inputs.get(self.model.driving_input()).and_then(Option::as_ref);
        input.ok_or_else(|| CompactorError::Query {
            what: self.model.table.to_string(),
            message: format!("{} does not exist", self.model.driving_input()),
        })
    }

    /// All rows of the driving input.
    async fn all(&self) -> Result<Arc<TableScan>, CompactorError> {
        Ok(Arc::new(TableScan::new(self.input()?, None).await?))
    }

    /// The output table, created or widened to what the query gives.
    async fn output_of(&self, rows: &DataFrame) -> Result<Table, CompactorError> {
        self.output_table(documented_schema(self.model, rows.schema().as_arrow())).await
    }

    async fn output_table(&self, schema: SchemaRef) -> Result<Table, CompactorError> {
        let mut properties = self.loaded.settings.clone();
        properties.insert("comment".to_owned(), self.model.description.clone());
        let wanted = NewTable {
            ident: self.model.table.clone(),
            schema,
            partitioning: self.model.partitioning.clone(),
            properties,
        };
        Ok(ensure_table(self.client, &self.promotion.file_io, self.branch, &wanted).await?)
    }

    /// The model's query with the given rows as its driving input.
    async fn query(&self, driving: Arc<dyn TableProvider>) -> Result<DataFrame, CompactorError> {
        let session = self.session();
        let driving = match (&self.model.judged, &self.loaded.rules) {
            (Some(columns), Some(rules)) => {
                let rows = session.read_table(driving).map_err(|error| self.failed(&error))?;
                judged(rows, rules, columns).await.map_err(|error| self.failed(&error))?
            }
            _ => driving,
        };
        self.query_with(driving, &session).await.map_err(|error| self.failed(&error))
    }

    async fn query_with(
        &self,
        driving: Arc<dyn TableProvider>,
        session: &SessionContext,
    ) -> QueryResult<DataFrame> {
        register(session, self.model.driving_input(), driving)?;
        session.sql(&self.model.sql).await
    }

    async fn full(&self) -> Result<Step, CompactorError> {
        if self.model.inputs.len() == 1 {
            let rows = self.query(self.all().await?).await?;
            return self.all_of(rows).await;
        }
        let (session, driving) = (self.session(), self.model.driving_input());
        for (name, input) in self.loaded.inputs.iter().filter(|(name, _)| *name != driving) {
            let Some(input) = input else { continue };
            let scan = Arc::new(TableScan::new(input, None).await?);
            register(&session, name, scan).map_err(|error| self.failed(&error))?;
        }
        let rows = self.query_with(self.all().await?, &session).await.map_err(|error| self.failed(&error))?;
        self.all_of(rows).await
    }

    /// The rows as all of the output.
    async fn all_of(&self, rows: DataFrame) -> Result<Step, CompactorError> {
        let table = self.output_of(&rows).await?;
        let rows = rows.execute_stream().await.map_err(|error| self.failed(&error))?;
        Ok(Step::Output(Output::new(table, rows, Keeps::Nothing)))
    }
}
