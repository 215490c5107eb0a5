//! Rewriting small files, and files with many deleted rows, into larger ones without those rows.

use firn_table::{DataFileEntry, Operation, RewriteScan, Table, WriteOptions};

use super::{Maintenance, plan::Settings};
use crate::CompactorError;

impl Maintenance {
    /// Rewrites `files` and answers how many were written.
    pub(super) async fn pack(
        &self,
        table: &Table,
        files: &[DataFileEntry],
        settings: &Settings,
    ) -> Result<usize, CompactorError> {
        let remove: Vec<_> = files.iter().map(|file| file.location.clone()).collect();
        let scan = RewriteScan::new(table, &remove).await?;
        let options = WriteOptions {
            target_file_bytes: settings.target_file_bytes,
            max_buffered_bytes: self.config.write_bytes(),
            ..WriteOptions::default()
        };
        let rewritten = scan.write(&self.engine.session(), options, &settings.order).await?;
        let (written, rows, deleted) = (rewritten.files.len(), rewritten.read_rows, rewritten.deleted_rows);
        let base_snapshot_id = scan.base_snapshot_id();
        let operation = Operation::Rewrite { remove, add: rewritten.files, base_snapshot_id };
        self.commit(table, operation, super::MAINTENANCE).await?;
        tracing::info!(table = %table.ident(), files = files.len(), written, rows, deleted, "packed files");
        Ok(written)
    }
}
