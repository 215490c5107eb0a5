//! Writing data files: Parquet with field ids, metrics and rolling sizes, split by partition.

use arrow::array::RecordBatch;

use crate::{Table, TableError};

/// How to write.
#[derive(Clone, Debug)]
pub struct WriteOptions {
    /// A file is closed once its compressed size passes this. Default 128 MiB.
    pub target_file_bytes: u64,
    /// Zstd level, default 1.
    pub zstd_level: i32,
    /// Rows of a row group at the most, default 1,048,576 or less.
    pub max_row_group_rows: usize,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self { target_file_bytes: 128 << 20, zstd_level: 1, max_row_group_rows: 1 << 20 }
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
}

/// Writes batches into data files of one table, one open file per partition.
pub struct DataFileWriter {}

impl DataFileWriter {
    /// A writer for the table's current schema and default spec.
    pub fn new(_table: &Table, _options: WriteOptions) -> Result<Self, TableError> {
        todo!()
    }

    /// Adds rows. Columns are matched by name; absent optional columns become null; a missing required one is an error.
    pub async fn write(&mut self, _batch: &RecordBatch) -> Result<(), TableError> {
        todo!()
    }

    /// Bytes buffered in memory.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        todo!()
    }

    /// Closes all files, durably.
    pub async fn close(self) -> Result<Vec<WrittenFile>, TableError> {
        todo!()
    }

    /// Drops what was written and removes its files.
    pub async fn abort(self) {
        todo!()
    }
}
