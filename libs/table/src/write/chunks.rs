//! Columns of row groups as bytes: where they lie, what belongs to them, and whether their pages follow each other.

use std::{ops::Range, sync::Arc};

use bytes::{Buf, Bytes};
use parquet::{
    column::page::PageReader,
    errors::{ParquetError, Result as ParquetResult},
    file::{
        metadata::{ColumnChunkMetaData, RowGroupMetaData},
        page_index::offset_index::PageLocation,
        reader::{ChunkReader, Length},
        serialized_reader::SerializedPageReader,
    },
};

/// Bytes read at once, unless one column of a row group has more.
const READ_BYTES: u64 = 4 << 20;

/// Columns of a row group that lie one behind the other and are read together.
pub(super) struct Span {
    pub(super) columns: Range<usize>,
    pub(super) bytes: Range<u64>,
}

pub(super) fn spans(group: &RowGroupMetaData) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for (number, column) in group.columns().iter().enumerate() {
        let Some(bytes) = chunk_range(column) else { continue };
        match spans.last_mut() {
            Some(span) if span.bytes.end == bytes.start && bytes.end - span.bytes.start <= READ_BYTES => {
                span.columns.end = number + 1;
                span.bytes.end = bytes.end;
            }
            _ => spans.push(Span { columns: number..number + 1, bytes }),
        }
    }
    spans
}

/// Where a column of a row group lies in its file; `None` if the footer says what can't be.
pub(crate) fn chunk_range(column: &ColumnChunkMetaData) -> Option<Range<u64>> {
    let start = column.dictionary_page_offset().unwrap_or(column.data_page_offset());
    let start = u64::try_from(start).ok()?;
    Some(start..start.checked_add(u64::try_from(column.compressed_size()).ok()?)?)
}

/// Old writers don't say how long their filters are; those are left behind.
pub(super) fn bloom_filter(column: &ColumnChunkMetaData) -> Option<Range<u64>> {
    let start = u64::try_from(column.bloom_filter_offset()?).ok()?;
    Some(start..start.checked_add(u64::try_from(column.bloom_filter_length()?).ok()?)?)
}

/// Bytes that were moved from one place to another.
pub(super) struct Moved {
    pub(super) from: u64,
    pub(super) to: u64,
}

impl Moved {
    fn offset(&self, offset: i64) -> i64 {
        offset.wrapping_sub_unsigned(self.from).wrapping_add_unsigned(self.to)
    }

    pub(super) fn page(&self, page: &mut PageLocation) {
        page.offset = self.offset(page.offset);
    }

    pub(super) fn column(&self, column: &ColumnChunkMetaData) -> ParquetResult<ColumnChunkMetaData> {
        column
            .clone()
            .into_builder()
            .set_data_page_offset(self.offset(column.data_page_offset()))
            .set_dictionary_page_offset(column.dictionary_page_offset().map(|offset| self.offset(offset)))
            .set_index_page_offset(column.index_page_offset().map(|offset| self.offset(offset)))
            .build()
    }
}

/// A part of a file, under the offsets of the file.
#[derive(Clone)]
pub(super) struct Chunk {
    pub(super) start: u64,
    pub(super) bytes: Bytes,
}

impl Chunk {
    fn from(&self, offset: u64) -> ParquetResult<Bytes> {
        let skipped = offset.checked_sub(self.start).and_then(|skipped| usize::try_from(skipped).ok());
        let skipped = skipped.filter(|skipped| *skipped <= self.bytes.len());
        let skipped = skipped.ok_or_else(|| ParquetError::EOF(format!("a page at {offset} is elsewhere")))?;
        Ok(self.bytes.slice(skipped..))
    }
}

impl Length for Chunk {
    fn len(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }
}

impl ChunkReader for Chunk {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        Ok(self.from(start)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let bytes = self.from(start)?;
        if bytes.len() < length {
            return Err(ParquetError::EOF(format!("{length} bytes at {start} go beyond the column")));
        }
        Ok(bytes.slice(..length))
    }
}

/// Follows the pages' headers through a column, without looking into the pages.
pub(super) fn check_pages(column: &ColumnChunkMetaData, chunk: &Chunk) -> ParquetResult<()> {
    let mut pages = SerializedPageReader::new(Arc::new(chunk.clone()), column, 0, None)?;
    let mut values = 0;
    while let Some(page) = pages.peek_next_page()? {
        values += page.num_levels.unwrap_or_default();
        pages.skip_next_page()?;
    }
    if i64::try_from(values) != Ok(column.num_values()) {
        let told = column.num_values();
        return Err(ParquetError::General(format!("its pages hold {values} values, its footer says {told}")));
    }
    Ok(())
}
