//! Writing data files: Parquet with field ids, metrics and rolling sizes, split by partition.

mod chunks;
mod conform;
mod encode;
mod metrics;
mod partition;
mod row_groups;
mod unfinished;

use std::sync::Arc;

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use iceberg::spec::DataFile;

use crate::{Pace, Table, TableError, TableErrorKind, sums::ColumnSums};
pub(crate) use chunks::chunk_range;
use encode::{EncodedPart, Encoder, FileLayout};
pub(crate) use metrics::{ClosedFile, data_file};
pub(crate) use row_groups::{RowGroupWriter, SourceFile};
pub(crate) use unfinished::UnfinishedFiles;

/// How to write.
#[derive(Clone, Debug)]
pub struct WriteOptions {
    /// A file is closed once its compressed size passes this. Default 128 MiB.
    pub target_file_bytes: u64,
    /// Zstd level, default 1.
    pub zstd_level: i32,
    /// Rows of a row group at the most, default 1,048,576 or less.
    pub max_row_group_rows: usize,
    /// Bytes of a column's dictionary beyond which its values are written as they are. Default 1 MiB.
    pub max_dictionary_bytes: usize,
    /// Encoded rows held in memory over all open files; beyond it the largest is written out. Default 256 MiB.
    pub max_buffered_bytes: usize,
    /// How fast bytes are written, and read where a rewrite reads them. Default: as fast as it goes.
    pub pace: Option<Pace>,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self {
            target_file_bytes: 128 << 20,
            zstd_level: 1,
            max_row_group_rows: 1 << 20,
            max_dictionary_bytes: 1 << 20,
            max_buffered_bytes: 256 << 20,
            pace: None,
        }
    }
}

/// A closed data file, not yet committed. Opaque but for its size; becomes a manifest entry at commit.
#[derive(Clone, Debug)]
pub struct WrittenFile {
    /// Location.
    pub location: String,
    /// Rows.
    pub record_count: u64,
    /// Bytes.
    pub size_bytes: u64,
    /// The manifest entry to be.
    pub(crate) data_file: Arc<DataFile>,
    /// Partition spec it was written with.
    pub(crate) spec_id: i32,
}

impl WrittenFile {
    fn new(data_file: DataFile, spec_id: i32) -> Self {
        Self {
            location: data_file.file_path().to_owned(),
            record_count: data_file.record_count(),
            size_bytes: data_file.file_size_in_bytes(),
            data_file: Arc::new(data_file),
            spec_id,
        }
    }
}

/// Writes batches into data files of one table, one open file per partition. Encoding runs off the async threads.
///
/// A `write` that failed or was cancelled half-way leaves the writer unusable but for [`DataFileWriter::abort`]: nobody
/// knows which of its rows are in which file.
pub struct DataFileWriter {
    schema: SchemaRef,
    table: String,
    spec_id: i32,
    /// Taken while it works on another thread; absent afterwards if that failed.
    encoder: Option<Encoder>,
    files: UnfinishedFiles,
    finished: Vec<WrittenFile>,
}

impl DataFileWriter {
    /// A writer for the table's current schema and default spec.
    pub fn new(table: &Table, options: WriteOptions) -> Result<Self, TableError> {
        Self::with_schema(table, table.arrow_schema()?, options)
    }

    /// The same for the table's columns and more of them that are the specification's own.
    pub(crate) fn with_schema(
        table: &Table,
        schema: SchemaRef,
        options: WriteOptions,
    ) -> Result<Self, TableError> {
        let files = UnfinishedFiles::new(table.file_io(), options.pace.clone());
        let layout = FileLayout::new(table, Arc::clone(&schema), options)?;
        Ok(Self {
            schema,
            table: table.ident().to_string(),
            spec_id: layout.spec_id(),
            encoder: Some(Encoder::new(layout)?),
            files,
            finished: Vec::new(),
        })
    }

    /// The same, adding up all rows as they are encoded.
    pub(crate) fn summed(mut self) -> Self {
        self.encoder = self.encoder.map(Encoder::summed);
        self
    }

    /// Adds rows. Columns are matched by name; absent optional columns become null; a missing required one, a null in one, or
    /// a column that the table lacks is an error.
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<(), TableError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let batch = conform::conform(batch, &self.schema, &self.table)?;
        self.encode(move |encoder| encoder.write(&batch)).await
    }

    /// Bytes buffered in memory.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.encoder.as_ref().map_or(0, Encoder::memory_bytes)
    }

    /// Closes all files, durably. If that fails, they are removed.
    pub async fn close(self) -> Result<Vec<WrittenFile>, TableError> {
        Ok(self.close_summed().await?.0)
    }

    /// The same, with the sums of all rows as they were encoded; none unless [`Self::summed`] was called.
    pub(crate) async fn close_summed(mut self) -> Result<(Vec<WrittenFile>, ColumnSums), TableError> {
        if let Err(error) = self.encode(Encoder::finish).await {
            self.abort().await;
            return Err(error);
        }
        self.files.keep();
        Ok((self.finished, self.encoder.and_then(Encoder::into_sums).unwrap_or_default()))
    }

    /// Drops what was written and removes its files, as dropping the writer does in the background.
    pub async fn abort(self) {
        self.files.remove().await;
    }

    async fn encode(
        &mut self,
        work: impl FnOnce(&mut Encoder) -> Result<Vec<EncodedPart>, TableError> + Send + 'static,
    ) -> Result<(), TableError> {
        let mut encoder = self.encoder.take().ok_or_else(|| {
            let table = &self.table;
            TableError::new(
                TableErrorKind::Storage,
                format!("an earlier write to {table} failed; abort this writer"),
            )
        })?;
        let encoded =
            tokio::task::spawn_blocking(move || work(&mut encoder).map(|parts| (encoder, parts))).await;
        let (encoder, parts) = encoded.map_err(|error| {
            TableError::caused(
                TableErrorKind::Storage,
                format!("encoding rows of {} broke off", self.table),
                error,
            )
        })??;
        for part in parts {
            self.store(part).await?;
        }
        self.encoder = Some(encoder);
        Ok(())
    }

    async fn store(&mut self, part: EncodedPart) -> Result<(), TableError> {
        self.files.write(part.file, &part.location, part.bytes).await?;
        if let Some(data_file) = part.finished {
            self.files.close(part.file).await?;
            self.finished.push(WrittenFile::new(data_file, self.spec_id));
        }
        Ok(())
    }
}
