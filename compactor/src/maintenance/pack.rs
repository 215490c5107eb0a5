//! Rewriting small files, and files with many deleted rows, into larger ones without those rows.

use firn_table::{DataFileEntry, Operation, RewriteOptions, RewriteScan, Table, WriteOptions};

use super::{Maintenance, plan::Settings};
use crate::CompactorError;

/// What became of a group of files.
pub(super) struct Packed {
    /// New files.
    pub(super) written: usize,
    /// Old files that were copied by row groups.
    pub(super) copied: usize,
}

impl Maintenance {
    /// Rewrites `files` in one commit.
    pub(super) async fn pack(
        &self,
        table: &Table,
        files: &[DataFileEntry],
        settings: &Settings,
    ) -> Result<Packed, CompactorError> {
        let remove: Vec<_> = files.iter().map(|file| file.location.clone()).collect();
        let scan = RewriteScan::new(table, &remove).await?;
        let options = RewriteOptions {
            write: WriteOptions {
                target_file_bytes: settings.target_file_bytes,
                max_buffered_bytes: self.config.write_bytes(),
                pace: self.pace.clone(),
                ..WriteOptions::default()
            },
            order: settings.order.clone(),
            copy_row_groups_of_bytes: Some(settings.min_row_group_bytes),
            cluster: self.config.maintenance.cluster.clone(),
        };
        let rewritten = scan.write(&self.engine.session(), &options).await?;
        let (rows, deleted) = (rewritten.read_rows, rewritten.deleted_rows);
        let packed = Packed { written: rewritten.files.len(), copied: rewritten.copied_files };
        let base_snapshot_id = scan.base_snapshot_id();
        let operation = Operation::Rewrite { remove, add: rewritten.files, base_snapshot_id };
        self.commit(table, operation, super::MAINTENANCE).await?;
        let Packed { written, copied } = packed;
        tracing::info!(table = %table.ident(), files = files.len(), copied, written, rows, deleted, "packed files");
        Ok(packed)
    }
}
