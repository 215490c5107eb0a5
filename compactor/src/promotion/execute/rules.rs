//! The tenant's rules over records.

use std::sync::Arc;

use datafusion::{
    catalog::TableProvider, dataframe::DataFrame, error::Result as QueryResult,
    physical_plan::SendableRecordBatchStream,
};
use firn_table::{RowPositions, Table, TableScan};

use super::{Changed, Keeps, MOST_CHANGED_ROWS, ModelRun, Output, Step};
use crate::{
    CompactorError,
    engine::{clean, judge, lake_schema, locate, verdict_schema},
};

/// Column by which records and verdicts belong together.
const HOST: &str = "host_id";

impl ModelRun<'_> {
    pub(super) async fn rules(&self, changed: Option<&Changed>) -> Result<Step, CompactorError> {
        if changed.is_some_and(|changed| changed.removed.is_some()) {
            let input = self.model.driving_input();
            return Ok(Step::Full(format!("rows of {input} were changed or removed")));
        }
        let (session, failed) = (self.session(), |error| self.failed(&error));
        let rules = self.loaded.rules.clone().ok_or_else(|| CompactorError::Query {
            what: self.model.table.to_string(),
            message: "its input has no rows to judge".to_owned(),
        })?;
        let table = self.output_table(verdict_schema()).await?;
        let driving = match changed {
            Some(changed) => Arc::clone(&changed.added),
            None => self.all().await?,
        };
        let rows = self.query(driving).await?;
        let columns = rules.columns(rows.schema().as_arrow());
        let columns: Vec<_> = columns.iter().map(String::as_str).collect();
        let rows = rows.select_columns(&columns).map_err(failed)?;
        let schema = lake_schema(rows.schema().as_arrow());
        let mut records =
            session.read_table(clean(rows, &schema, None).await.map_err(failed)?).map_err(failed)?;
        let again =
            if changed.is_some() && self.rules_changed() { self.current_records().await? } else { None };
        if let Some(again) = again {
            let again =
                session.read_table(again).and_then(|rows| rows.select_columns(&columns)).map_err(failed)?;
            let again = clean(again, &schema, None).await.map_err(failed)?;
            let again = session.read_table(again).map_err(failed)?;
            records = records.union(again).map_err(failed)?;
        }
        let records = in_log_order(records).map_err(failed)?;
        let records = records.execute_stream().await.map_err(failed)?;
        let (prior, keeps) = match changed.filter(|_| table.current_snapshot().is_some()) {
            None => (None, Keeps::Nothing),
            Some(changed) => match self.judged_before(&table, changed).await? {
                Some(places) => {
                    let rows = TableScan::at(&table, &places).await?;
                    (Some(self.prior(rows).await?), Keeps::all_but(places))
                }
                None => (Some(self.prior(TableScan::new(&table, None).await?).await?), Keeps::Nothing),
            },
        };
        Ok(Step::Output(Output::new(table, judge(rules, records, prior), keeps)))
    }

    /// Where the verdicts on the hosts of new records are; `None` if all are to be written anew.
    async fn judged_before(
        &self,
        table: &Table,
        changed: &Changed,
    ) -> Result<Option<RowPositions>, CompactorError> {
        if self.rules_changed() || changed.rows > MOST_CHANGED_ROWS {
            return Ok(None);
        }
        let key = [HOST.to_owned()];
        let hosts = self.changed_keys(changed, &key).await?;
        locate(&self.session(), table, &key, &hosts).await
    }

    /// Verdicts in the order in which judging wants them.
    async fn prior(&self, rows: TableScan) -> Result<SendableRecordBatchStream, CompactorError> {
        let known =
            self.session().read_table(Arc::new(rows)).and_then(|rows| sorted(rows, &[HOST, "rule_id"]));
        let known = known.map_err(|error| self.failed(&error))?;
        known.execute_stream().await.map_err(|error| self.failed(&error))
    }

    /// The latest record of each host, to be judged again by changed rules.
    async fn current_records(&self) -> Result<Option<Arc<dyn TableProvider>>, CompactorError> {
        let current = self.model.current.as_ref();
        match current.and_then(|name| self.loaded.inputs.get(name)) {
            Some(Some(table)) if table.current_snapshot().is_some() => {
                Ok(Some(Arc::new(TableScan::new(table, None).await?)))
            }
            _ => Ok(None),
        }
    }
}

/// Records as the judging of rules wants them.
pub(crate) fn in_log_order(records: DataFrame) -> QueryResult<DataFrame> {
    sorted(records, &[HOST, "log_partition", "log_offset"])
}

fn sorted(rows: DataFrame, columns: &[&str]) -> QueryResult<DataFrame> {
    rows.sort(columns.iter().map(|column| datafusion::prelude::col(*column).sort(true, true)).collect())
}
