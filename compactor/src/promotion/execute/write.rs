//! Writing what a model made, checked, into its table.

use std::sync::PoisonError;

use datafusion::prelude::SessionContext;
use firn_table::{Table, TableScan, WriteOptions};

use super::{Keeps, ModelRun, Output};
use crate::{
    CheckSeverity, CompactorError, FailingCheck, ModelKind,
    engine::{Checks, Pour},
    promotion::{commit::Change, receipt::ModelReceipt},
};

/// Share of rows, as one of so many, above which deleting them costs readers more than writing the others anew.
const REWRITTEN_SHARE: u64 = 4;

/// What was written of an output.
struct Written {
    change: Change,
    rows: u64,
    removed: u64,
    dropped: u64,
    newest_received_us: Option<i64>,
}

impl ModelRun<'_> {
    pub(super) async fn write(
        &mut self,
        output: Output,
        receipt: &mut ModelReceipt,
    ) -> Result<Vec<FailingCheck>, CompactorError> {
        // A `latest` has dropped what is to be dropped before it chose.
        let severities = match self.model.kind {
            ModelKind::Latest => &[CheckSeverity::Warn, CheckSeverity::Fail][..],
            _ => &CheckSeverity::ALL,
        };
        let session = self.session();
        let schema = output.table.arrow_schema()?;
        let mut checks = Checks::compile(&session, self.model, &schema, severities)
            .map_err(|error| self.failed(&error))?;
        self.loaded.output = Some(output.table.clone());
        let checked = super::Checked { shared: output.checked.shared.clone() };
        let written = self.pour(&session, output, Some(&mut checks)).await?;
        let (mut results, mut broken, dropped) = checked.take();
        results.extend(checks.results());
        broken.extend(checks.broken());
        receipt.rows = written.rows;
        receipt.removed = written.removed;
        receipt.dropped += written.dropped + dropped;
        receipt.checks = results;
        self.commit(written.change, written.newest_received_us, receipt).await?;
        Ok(broken)
    }

    /// Writes partials and commits them.
    pub(super) async fn write_partials(&self, output: Output) -> Result<(), CompactorError> {
        let table = output.table.clone();
        let written = self.pour(&self.session(), output, None).await?;
        self.commit_partials(&table, written.change).await
    }

    async fn pour(
        &self,
        session: &SessionContext,
        output: Output,
        checks: Option<&mut Checks>,
    ) -> Result<Written, CompactorError> {
        let Output { table, rows, keeps, .. } = output;
        let max_buffered_bytes = self.promotion.config.write_bytes();
        let pour = Pour::new(&table, WriteOptions { max_buffered_bytes, ..WriteOptions::default() })?;
        let (mut pour, poured) = pour.add(rows, checks).await?;
        let held = if table.current_snapshot().is_some() {
            TableScan::new(&table, None).await?.known_rows()
        } else {
            0
        };
        let (mut removed, mut delete) = (0, None);
        match keeps {
            Keeps::Nothing => removed = held,
            Keeps::All => delete = Some(firn_table::RowPositions::default()),
            Keeps::AllBut(places) => {
                let places = std::mem::take(&mut *places.lock().unwrap_or_else(PoisonError::into_inner));
                removed = places.len();
                let few = held < self.promotion.config.rewrite_below_rows;
                if !places.is_empty() && (few || places.len().saturating_mul(REWRITTEN_SHARE) > held) {
                    pour = self.add_others(session, &table, &places, pour).await?;
                } else {
                    delete = Some(places);
                }
            }
        }
        let files = pour.close().await?;
        let change = match delete {
            None => Change::Replace(files),
            Some(places) if places.is_empty() => Change::Add(files),
            Some(places) => Change::Delta(places, files),
        };
        Ok(Written {
            change,
            rows: poured.rows,
            removed,
            dropped: poured.dropped,
            newest_received_us: poured.newest_received_us,
        })
    }

    /// Writes the rows that stay, too.
    async fn add_others(
        &self,
        session: &SessionContext,
        table: &Table,
        places: &firn_table::RowPositions,
        pour: Pour,
    ) -> Result<Pour, CompactorError> {
        let others = TableScan::without(table, places).await?;
        let others = session.read_table(std::sync::Arc::new(others));
        let others = others.map_err(|error| self.failed(&error))?;
        let others = others.execute_stream().await.map_err(|error| self.failed(&error))?;
        Ok(pour.add(others, None).await?.0)
    }
}
