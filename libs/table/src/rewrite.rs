//! Rewriting data files: their rows without the deleted ones, in new files of the present schema, spec and target size, and
//! in order if that is wanted. Row groups that are good as they are can be copied without being decoded.

mod check;
mod cluster;
mod copy;
mod decode;
mod gather;
mod lineage;
mod order;
mod sort;

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::prelude::SessionContext;

use crate::{
    DataFileWriter, Table, TableError, TableErrorKind, WriteOptions, WrittenFile,
    deletes::FileDeletes,
    manifests::LiveFile,
    scan::{FilesAndDeletes, ScanLayout, chosen_files},
    sums::ColumnSums,
    views::with_views,
    write::UnfinishedFiles,
};
pub use cluster::{SortCluster, SortJob};
use copy::{Standard, copy_row_groups};
use decode::Decoding;
use lineage::lineage_columns;
pub use order::{RowOrder, SortColumn};

/// Live data files of the table's current snapshot, to be written anew.
pub struct RewriteScan {
    layout: ScanLayout,
    base_snapshot_id: i64,
    files: FilesAndDeletes,
}

/// How files are rewritten.
#[derive(Clone, Debug, Default)]
pub struct RewriteOptions {
    /// How new files are written.
    pub write: WriteOptions,
    /// Their rows' order.
    pub order: RowOrder,
    /// Files whose row groups have at least so many bytes on average, and that are as if they had just been written, are copied by
    /// row groups, without being decoded. `None`: all are decoded.
    pub copy_row_groups_of_bytes: Option<u64>,
    /// Where large files are sorted; here if absent.
    pub cluster: Option<Arc<dyn SortCluster>>,
}

/// What a rewrite wrote; commit it with [`crate::Operation::Rewrite`].
#[derive(Debug, Default)]
pub struct RewrittenFiles {
    /// New files. None if every row was deleted.
    pub files: Vec<WrittenFile>,
    /// Rows that the old files hold.
    pub read_rows: u64,
    /// Rows of them that were deleted.
    pub deleted_rows: u64,
    /// Old files whose row groups were copied.
    pub copied_files: usize,
}

impl RewriteScan {
    /// Files by location; one that is no live data file is `NotFound`.
    pub async fn new(table: &Table, locations: &[String]) -> Result<Self, TableError> {
        let Some(base) = table.current_snapshot() else {
            let table = table.ident();
            let context = format!("table {table} has no files to rewrite");
            return Err(TableError::new(TableErrorKind::NotFound, context));
        };
        let files = chosen_files(table, locations).await?;
        Ok(Self { layout: ScanLayout::new(table)?, base_snapshot_id: base.id, files })
    }

    /// The snapshot that the rows are read from.
    #[must_use]
    pub fn base_snapshot_id(&self) -> i64 {
        self.base_snapshot_id
    }

    /// Writes the rows into new files. A file that holds another number of rows than its manifest says is an error, and so is any
    /// difference between what was read and what the new files' footers say, read back from the store: in rows, and in the nulls and bytes of
    /// each column. Where rows are put in order, the sums over all values of each column are compared as well, as they were read and as
    /// they were encoded. After an error nothing is left, nor if this is given up.
    pub async fn write(
        &self,
        session: &SessionContext,
        options: &RewriteOptions,
    ) -> Result<RewrittenFiles, TableError> {
        let (copied, mut rewritten) = self.copy(options).await?;
        let is_copied = |file: &LiveFile| copied.iter().any(|location| location == file.location());
        let rest = self.files.iter().filter(|(file, _)| !is_copied(file)).cloned().collect::<Vec<_>>();
        if rest.is_empty() {
            return Ok(rewritten);
        }
        let copies = self.unfinished(&rewritten.files);
        match self.decode(session, options, &rest).await {
            Ok(decoded) => {
                copies.keep();
                rewritten.files.extend(decoded.files);
                rewritten.read_rows += decoded.read_rows;
                rewritten.deleted_rows += decoded.deleted_rows;
                Ok(rewritten)
            }
            Err(error) => {
                copies.remove().await;
                Err(error)
            }
        }
    }

    /// Copies what can be copied; answers which files those are.
    async fn copy(&self, options: &RewriteOptions) -> Result<(Vec<String>, RewrittenFiles), TableError> {
        let Some(min_bytes) = options.copy_row_groups_of_bytes.filter(|_| !options.order.moves_rows()) else {
            return Ok(Default::default());
        };
        let table = &self.layout.table;
        let standard =
            Standard::new(table, &self.written_schema(), min_bytes, options.write.max_buffered_bytes)?;
        let sources = copy::choose(table, &self.files, &standard).await?;
        if sources.is_empty() {
            return Ok(Default::default());
        }
        let copied = async {
            let files = copy_row_groups(table, self.written_schema(), &sources, &options.write).await?;
            let mut sums = ColumnSums::default();
            sources.iter().for_each(|source| sums.add_footer(&source.footer));
            self.checked(files, None, &sums).await
        };
        match copied.await {
            Ok(files) => {
                let read_rows = sources.iter().map(|source| source.file.data_file().record_count()).sum();
                let locations = sources.iter().map(|source| source.file.location().to_owned());
                let copied_files = sources.len();
                Ok((locations.collect(), RewrittenFiles { files, read_rows, deleted_rows: 0, copied_files }))
            }
            // What is odd but legal can still be decoded, and what is damaged can't.
            Err(error) if error.kind == TableErrorKind::Invalid => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(table = %table.ident(), error, "row groups can't be copied, they are decoded");
                Ok(Default::default())
            }
            Err(error) => Err(error),
        }
    }

    async fn decode(
        &self,
        session: &SessionContext,
        options: &RewriteOptions,
        files: &[(LiveFile, FileDeletes)],
    ) -> Result<RewrittenFiles, TableError> {
        let (layout, schema) = (&self.layout, self.written_schema());
        let moves_rows = options.order.moves_rows();
        let writer = |schema| DataFileWriter::with_schema(&layout.table, schema, options.write.clone());
        let mut writer =
            if moves_rows { writer(with_views(&schema))?.summed() } else { writer(Arc::clone(&schema))? };
        let decoding = Decoding {
            layout,
            files,
            pace: options.write.pace.as_ref(),
            cluster: options.cluster.as_deref(),
        };
        match decoding.write(session, &schema, &options.order, &mut writer).await {
            Ok(decoded) => {
                let (files, encoded) = writer.close_summed().await?;
                let files = self.checked(files, moves_rows.then_some(&encoded), &decoded.sums).await?;
                let (read_rows, deleted_rows) = (decoded.read_rows, decoded.deleted_rows);
                Ok(RewrittenFiles { files, read_rows, deleted_rows, copied_files: 0 })
            }
            Err(error) => {
                writer.abort().await;
                Err(error)
            }
        }
    }

    /// New files whose footers, and rows as they were encoded, are what they must be; all are removed if one isn't.
    async fn checked(
        &self,
        files: Vec<WrittenFile>,
        encoded: Option<&ColumnSums>,
        wanted: &ColumnSums,
    ) -> Result<Vec<WrittenFile>, TableError> {
        let (table, unfinished) = (&self.layout.table, self.unfinished(&files));
        let check = async {
            encoded.map_or(Ok(()), |encoded| check::same(table, encoded, wanted))?;
            check::footers(table, &files, wanted).await
        };
        match check.await {
            Ok(()) => {
                unfinished.keep();
                Ok(files)
            }
            Err(error) => {
                unfinished.remove().await;
                Err(error)
            }
        }
    }

    fn unfinished(&self, files: &[WrittenFile]) -> UnfinishedFiles {
        UnfinishedFiles::of(self.layout.table.file_io(), files)
    }

    /// The table's columns; in format 3 also where each row came from, which moving it must not change.
    fn written_schema(&self) -> SchemaRef {
        if self.layout.table.format_version() < 3 {
            return Arc::clone(&self.layout.schema);
        }
        let fields = self.layout.schema.fields().iter().cloned().chain(lineage_columns());
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }
}
