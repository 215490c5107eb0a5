//! Row groups that are copied as they are: which files have such, and how they come into new files.

mod standard;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use futures::{StreamExt, TryStreamExt, stream};
use parquet::{
    arrow::async_reader::ParquetObjectReader,
    errors::ParquetError,
    file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataOptions, ParquetMetaDataReader},
};

use crate::{
    FileIo, Table, TableError, TableErrorKind, WriteOptions, WrittenFile,
    deletes::FileDeletes,
    manifests::LiveFile,
    write::{RowGroupWriter, SourceFile},
};
pub(super) use standard::{Leaf, Standard};

/// Bytes read from a file's end at first; most footers fit.
const FOOTER_HINT_BYTES: usize = 64 << 10;
/// Footers read at once.
const PARALLEL_READS: usize = 8;

/// A file with its footer.
pub(super) struct Source {
    pub(super) file: LiveFile,
    pub(super) footer: ParquetMetaData,
}

/// The files whose row groups are copied: those that meet the standard and are alike, if they are several and at least half of all
/// bytes.
pub(super) async fn choose(
    table: &Table,
    files: &[(LiveFile, FileDeletes)],
    standard: &Standard,
) -> Result<Vec<Source>, TableError> {
    let promising =
        files.iter().filter(|(file, deletes)| deletes.count() == 0 && standard.may_be_met_by(file));
    let reads = promising.map(|(file, _)| async move {
        let (location, size_bytes) = (file.location(), file.data_file().file_size_in_bytes());
        let footer = read_footer(table.file_io(), location, size_bytes).await?;
        Ok::<_, TableError>(Source { file: file.clone(), footer })
    });
    let mut sources = Vec::new();
    let mut footers = stream::iter(reads.collect::<Vec<_>>()).buffered(PARALLEL_READS);
    while let Some(source) = footers.try_next().await? {
        match standard.fault_of(&source) {
            None => sources.push(source),
            Some(fault) => tracing::debug!(file = source.file.location(), fault, "decoded, not copied"),
        }
    }
    let bytes = files.iter().map(|(file, _)| file.data_file().file_size_in_bytes()).sum();
    Ok(standard::largest_alike(sources, bytes))
}

/// Copies the row groups of files that are alike.
pub(super) async fn copy_row_groups(
    table: &Table,
    schema: SchemaRef,
    sources: &[Source],
    options: &WriteOptions,
) -> Result<Vec<WrittenFile>, TableError> {
    let sources = sources.iter().map(|source| SourceFile {
        location: source.file.location(),
        data_file: source.file.data_file(),
        footer: &source.footer,
    });
    let sources = sources.collect::<Vec<_>>();
    let mut writer = RowGroupWriter::new(table, schema, options.clone(), &sources)?;
    for source in &sources {
        if let Err(error) = writer.copy(source).await {
            writer.abort().await;
            return Err(error);
        }
    }
    writer.close().await
}

/// A file's footer, with its page indexes.
pub(super) async fn read_footer(
    file_io: &FileIo,
    location: &str,
    size_bytes: u64,
) -> Result<ParquetMetaData, TableError> {
    let file = file_io.resolve(location)?;
    let mut reader = ParquetObjectReader::new(Arc::clone(&file.store), file.path);
    // As they are written, not as their mere kinds.
    let options = ParquetMetaDataOptions::new().with_encoding_stats_as_mask(false);
    let footer = ParquetMetaDataReader::new()
        .with_metadata_options(Some(options))
        .with_page_index_policy(PageIndexPolicy::Optional)
        .with_prefetch_hint(Some(FOOTER_HINT_BYTES));
    let footer = footer.load_and_finish(&mut reader, size_bytes).await;
    footer.map_err(|error| unreadable(location, error))
}

fn unreadable(location: &str, error: ParquetError) -> TableError {
    TableError::caused(TableErrorKind::Storage, format!("cannot read the footer of {location}"), error)
}

#[cfg(test)]
mod tests;
