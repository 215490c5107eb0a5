//! Rewriting small files into larger ones with the same rows.

use std::sync::Arc;

use firn_table::{DataFileEntry, Operation, Table, TableScan, WriteOptions};

use super::{Maintenance, plan::Settings};
use crate::{CompactorError, engine::pour};

impl Maintenance {
    /// Rewrites `files` and answers how many were written. Refuses to commit if the rows don't add up.
    pub(super) async fn pack(
        &self,
        table: &Table,
        files: &[DataFileEntry],
        settings: &Settings,
    ) -> Result<usize, CompactorError> {
        let remove: Vec<_> = files.iter().map(|file| file.location.clone()).collect();
        let expected = files.iter().map(|file| file.record_count).sum();
        let failed = |error| CompactorError::query(table.ident(), &error);
        let scan = Arc::new(TableScan::of_files(table, &remove).await?);
        let rows = self.engine.session().read_table(scan).map_err(failed)?;
        let rows = rows.execute_stream().await.map_err(failed)?;
        let options =
            WriteOptions { target_file_bytes: settings.target_file_bytes, ..WriteOptions::default() };
        let poured = pour(table, options, rows, None).await?;
        if poured.rows != expected {
            for file in &poured.files {
                table.file_io().delete(&file.location).await?;
            }
            return Err(CompactorError::RowCount {
                table: table.ident().to_string(),
                expected,
                read: poured.rows,
            });
        }
        let written = poured.files.len();
        self.commit(table, Operation::Rewrite { remove, add: poured.files }).await?;
        tracing::info!(table = %table.ident(), files = files.len(), written, rows = expected, "packed small files");
        Ok(written)
    }
}
