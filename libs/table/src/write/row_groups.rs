//! Writing data files of row groups that are there already: their bytes as they are, under a footer that says where they are now.

use std::{
    collections::HashMap,
    io::{self, Write},
};

use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use iceberg::spec::{DataFile, Struct};
use parquet::{
    errors::{ParquetError, Result as ParquetResult},
    file::{
        metadata::{
            ColumnChunkMetaData, FileMetaData, KeyValue, ParquetColumnIndex, ParquetMetaData,
            ParquetMetaDataBuilder, ParquetMetaDataWriter, ParquetOffsetIndex, RowGroupMetaData,
        },
        writer::TrackedWrite,
    },
};

use super::{
    ClosedFile, UnfinishedFiles, WriteOptions, WrittenFile,
    chunks::{Chunk, Moved, bloom_filter, check_pages, spans},
    data_file,
    encode::{FileLayout, unencodable},
};
use crate::{FileIo, Pace, Table, TableError, TableErrorKind};

/// What a Parquet file begins with.
const MAGIC: &[u8] = b"PAR1";
/// What stands for bytes that are elsewhere.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
/// Reads ahead of what is written.
const READ_AHEAD: usize = 2;

/// A data file that is copied.
pub(crate) struct SourceFile<'a> {
    pub(crate) location: &'a str,
    pub(crate) data_file: &'a DataFile,
    pub(crate) footer: &'a ParquetMetaData,
}

/// Copies whole files into new ones, which are closed once they pass their target size. All files are of one schema, one
/// partition and one writer.
pub(crate) struct RowGroupWriter {
    file_io: FileIo,
    layout: FileLayout,
    partition: Struct,
    /// What each new footer says of its file.
    like: FileMetaData,
    open: Option<OpenFile>,
    opened: usize,
    files: UnfinishedFiles,
    pace: Option<Pace>,
    finished: Vec<WrittenFile>,
}

struct OpenFile {
    number: usize,
    location: String,
    position: u64,
    row_groups: Vec<RowGroupMetaData>,
    columns: ParquetColumnIndex,
    offsets: ParquetOffsetIndex,
    /// Absent for columns of which some file doesn't tell.
    nan_counts: Option<HashMap<i32, u64>>,
}

impl RowGroupWriter {
    /// A writer for copies of `sources`, which are some.
    pub(crate) fn new(
        table: &Table,
        schema: SchemaRef,
        options: WriteOptions,
        sources: &[SourceFile<'_>],
    ) -> Result<Self, TableError> {
        let Some(first) = sources.first() else {
            return Err(TableError::invalid(format!("no files of table {} to copy", table.ident())));
        };
        let like = first.footer.file_metadata();
        // Writers keep their schema there: what some say and others don't isn't true of all.
        let told = |pair: &KeyValue| {
            sources.iter().all(|source| {
                let pairs = source.footer.file_metadata().key_value_metadata();
                pairs.is_some_and(|pairs| pairs.contains(pair))
            })
        };
        let pairs = like.key_value_metadata().into_iter().flatten().filter(|pair| told(pair)).cloned();
        let like = FileMetaData::new(
            like.version(),
            0,
            like.created_by().map(str::to_owned),
            Some(pairs.collect()),
            like.schema_descr_ptr(),
            like.column_orders().cloned(),
        );
        Ok(Self {
            file_io: table.file_io().clone(),
            partition: first.data_file.partition().clone(),
            like,
            open: None,
            opened: 0,
            files: UnfinishedFiles::new(table.file_io(), options.pace.clone()),
            pace: options.pace.clone(),
            finished: Vec::new(),
            layout: FileLayout::new(table, schema, options)?,
        })
    }

    /// Copies all row groups of a file. Pages that don't follow each other as the footer says are `Invalid`.
    pub(crate) async fn copy(&mut self, source: &SourceFile<'_>) -> Result<(), TableError> {
        if self.open.is_none() {
            let location = self.layout.location(&self.partition, self.opened);
            self.open = Some(OpenFile::new(self.opened, location));
            self.opened += 1;
        }
        let Some(open) = &mut self.open else { return Ok(()) };
        if open.position == 0 {
            open.put(&mut self.files, Bytes::from_static(MAGIC)).await?;
        }
        for number in 0..source.footer.num_row_groups() {
            if let Some(pace) = &self.pace {
                let bytes = source.footer.row_group(number).compressed_size();
                pace.spend(u64::try_from(bytes).unwrap_or_default()).await;
            }
            open.copy(&self.file_io, &mut self.files, source, number).await?;
        }
        open.count_nans(source.data_file);
        if open.position >= self.layout.target_file_bytes() {
            self.finish().await?;
        }
        Ok(())
    }

    /// Closes all files, durably. If that fails, they are removed.
    pub(crate) async fn close(mut self) -> Result<Vec<WrittenFile>, TableError> {
        if let Err(error) = self.finish().await {
            self.abort().await;
            return Err(error);
        }
        self.files.keep();
        Ok(self.finished)
    }

    /// Drops what was written and removes its files.
    pub(crate) async fn abort(self) {
        self.files.remove().await;
    }

    async fn finish(&mut self) -> Result<(), TableError> {
        let Some(open) = &mut self.open else { return Ok(()) };
        let parquet = open.metadata(&self.like);
        let footer = footer(&parquet, open.position).map_err(|error| unencodable(&open.location, error))?;
        open.put(&mut self.files, footer).await?;
        let Some(open) = self.open.take() else { return Ok(()) };
        let file = ClosedFile {
            location: &open.location,
            size_bytes: open.position,
            partition: self.partition.clone(),
            spec_id: self.layout.spec_id(),
            nan_counts: open.nan_counts.unwrap_or_default(),
        };
        let data_file = data_file(file, &parquet, self.layout.iceberg_schema())?;
        self.files.close(open.number).await?;
        self.finished.push(WrittenFile::new(data_file, self.layout.spec_id()));
        Ok(())
    }
}

impl OpenFile {
    fn new(number: usize, location: String) -> Self {
        Self {
            number,
            location,
            position: 0,
            row_groups: Vec::new(),
            columns: Vec::new(),
            offsets: Vec::new(),
            nan_counts: None,
        }
    }

    async fn put(&mut self, files: &mut UnfinishedFiles, bytes: Bytes) -> Result<(), TableError> {
        let length = bytes.len() as u64;
        files.write(self.number, &self.location, bytes).await?;
        self.position += length;
        Ok(())
    }

    /// Copies a row group with what belongs to it: bloom filters behind it, page indexes into the new footer.
    async fn copy(
        &mut self,
        file_io: &FileIo,
        files: &mut UnfinishedFiles,
        source: &SourceFile<'_>,
        number: usize,
    ) -> Result<(), TableError> {
        let (location, group) = (source.location, source.footer.row_group(number));
        let mut columns = Vec::with_capacity(group.num_columns());
        let mut offsets = source.footer.offset_index().map(|index| index[number].clone()).unwrap_or_default();
        let begin = self.position;
        let reads = spans(group).into_iter().map(|span| async move {
            let bytes = file_io.read_range(location, span.bytes.clone()).await?;
            if bytes.len() as u64 != span.bytes.end - span.bytes.start {
                return Err(TableError::invalid(format!("{location} ends before its row groups do")));
            }
            Ok::<_, TableError>((span.columns, Chunk { start: span.bytes.start, bytes }))
        });
        let mut reads = stream::iter(reads.collect::<Vec<_>>()).buffered(READ_AHEAD);
        while let Some((numbers, chunk)) = reads.try_next().await? {
            let moved = Moved { from: chunk.start, to: self.position };
            for number in numbers {
                let column = group.column(number);
                check_pages(column, &chunk).map_err(|error| damaged(location, column, error))?;
                columns.push(moved.column(column).map_err(|error| damaged(location, column, error))?);
                if let Some(offsets) = offsets.get_mut(number) {
                    offsets.page_locations.iter_mut().for_each(|page| moved.page(page));
                }
            }
            self.put(files, chunk.bytes).await?;
        }
        for column in &mut columns {
            let filter = bloom_filter(column);
            let mut builder = column.clone().into_builder().set_bloom_filter_offset(None);
            if let Some(range) = filter {
                builder = builder.set_bloom_filter_offset(i64::try_from(self.position).ok());
                self.put(files, file_io.read_range(location, range).await?).await?;
            }
            *column = builder.build().map_err(|error| unencodable(&self.location, error))?;
        }
        let ordinal = i16::try_from(self.row_groups.len()).unwrap_or(i16::MAX);
        let group = group.clone().into_builder().set_column_metadata(columns).set_ordinal(ordinal);
        let group = group.set_file_offset(i64::try_from(begin).unwrap_or(i64::MAX)).build();
        self.row_groups.push(group.map_err(|error| unencodable(&self.location, error))?);
        self.columns
            .push(source.footer.column_index().map(|index| index[number].clone()).unwrap_or_default());
        self.offsets.push(offsets);
        Ok(())
    }

    fn count_nans(&mut self, file: &DataFile) {
        let more = file.nan_value_counts();
        self.nan_counts = Some(match self.nan_counts.take() {
            None => more.clone(),
            Some(known) => {
                known.into_iter().filter_map(|(id, count)| Some((id, count + more.get(&id)?))).collect()
            }
        });
    }

    fn metadata(&mut self, like: &FileMetaData) -> ParquetMetaData {
        let rows = self.row_groups.iter().map(RowGroupMetaData::num_rows).sum();
        let file = FileMetaData::new(
            like.version(),
            rows,
            like.created_by().map(str::to_owned),
            like.key_value_metadata().cloned(),
            like.schema_descr_ptr(),
            like.column_orders().cloned(),
        );
        ParquetMetaDataBuilder::new(file)
            .set_row_groups(std::mem::take(&mut self.row_groups))
            .set_column_index(Some(std::mem::take(&mut self.columns)))
            .set_offset_index(Some(std::mem::take(&mut self.offsets)))
            .build()
    }
}

fn damaged(location: &str, column: &ColumnChunkMetaData, error: ParquetError) -> TableError {
    let path = column.column_path();
    TableError::caused(TableErrorKind::Invalid, format!("column {path} of {location} is damaged"), error)
}

/// The end of a file whose row groups end at `position`.
fn footer(parquet: &ParquetMetaData, position: u64) -> ParquetResult<Bytes> {
    let mut end = Behind { left: position, bytes: Vec::new() };
    let mut tracked = TrackedWrite::new(&mut end);
    // Who writes the footer tells by what it wrote where it is.
    let mut left = position;
    while left > 0 {
        let some = usize::try_from(left).unwrap_or(usize::MAX).min(ZEROS.len());
        tracked.write_all(&ZEROS[..some])?;
        left -= some as u64;
    }
    ParquetMetaDataWriter::new_with_tracked(tracked, parquet).finish()?;
    Ok(Bytes::from(end.bytes))
}

/// Keeps what is written behind so many bytes.
struct Behind {
    left: u64,
    bytes: Vec<u8>,
}

impl Write for Behind {
    fn write(&mut self, written: &[u8]) -> io::Result<usize> {
        let skipped = usize::try_from(self.left).unwrap_or(usize::MAX).min(written.len());
        self.left -= skipped as u64;
        self.bytes.extend_from_slice(&written[skipped..]);
        Ok(written.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
