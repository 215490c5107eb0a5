//! Encoding rows as Parquet: synchronous, all in memory; what is encoded is handed out in parts.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{DataType, Float32Type, Float64Type, SchemaRef},
};
use bytes::Bytes;
use iceberg::spec::{
    DataFile, PartitionSpec, Schema as IcebergSchema, SchemaRef as IcebergSchemaRef, Struct,
};
use parquet::{
    arrow::{ArrowWriter, arrow_writer::ArrowWriterOptions},
    basic::{Compression, ZstdLevel},
    errors::ParquetError,
    file::properties::WriterProperties,
};

use super::{WriteOptions, metrics, partition::PartitionSplitter};
use crate::{Table, TableError, TableErrorKind, schema::field_id, sums::ColumnSums};

/// Files open at once; beyond it the largest is closed.
const MAX_OPEN_FILES: usize = 128;

/// Bytes that belong at the end of a file; with `finished` the file is complete.
pub(super) struct EncodedPart {
    pub(super) file: usize,
    pub(super) location: String,
    pub(super) bytes: Bytes,
    pub(super) finished: Option<DataFile>,
}

/// Where and how files of one table are written.
pub(super) struct FileLayout {
    schema: SchemaRef,
    iceberg_schema: IcebergSchemaRef,
    spec: PartitionSpec,
    data_path: String,
    properties: WriterProperties,
    target_file_bytes: u64,
    max_buffered_bytes: usize,
    /// Part of every name, so that no two writers ever choose the same.
    writer_id: uuid::Uuid,
}

impl FileLayout {
    pub(super) fn new(table: &Table, schema: SchemaRef, options: WriteOptions) -> Result<Self, TableError> {
        let level = ZstdLevel::try_new(options.zstd_level).map_err(|error| {
            TableError::caused(
                TableErrorKind::Invalid,
                format!("zstd level {} is not one", options.zstd_level),
                error,
            )
        })?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(level))
            .set_max_row_group_row_count(Some(options.max_row_group_rows.max(1)))
            .set_dictionary_page_size_limit(options.max_dictionary_bytes)
            .set_created_by(format!("firn {}", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self {
            schema,
            iceberg_schema: table.iceberg_schema()?,
            spec: table.default_partition_spec()?,
            data_path: table.data_path()?,
            properties,
            target_file_bytes: options.target_file_bytes,
            max_buffered_bytes: options.max_buffered_bytes,
            writer_id: uuid::Uuid::now_v7(),
        })
    }

    pub(super) fn spec_id(&self) -> i32 {
        self.spec.spec_id()
    }

    pub(super) fn iceberg_schema(&self) -> &IcebergSchema {
        &self.iceberg_schema
    }

    pub(super) fn target_file_bytes(&self) -> u64 {
        self.target_file_bytes
    }

    pub(super) fn location(&self, partition: &Struct, file: usize) -> String {
        let (folder, id) = (&self.data_path, self.writer_id);
        if self.spec.is_unpartitioned() {
            return format!("{folder}/{file:05}-{id}.parquet");
        }
        let path = self.spec.partition_to_path(partition, Arc::clone(&self.iceberg_schema));
        format!("{folder}/{}/{file:05}-{id}.parquet", safe_path(&path))
    }
}

/// Partition folders are for the eye only, so what a path or URL can't hold literally is replaced.
fn safe_path(path: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "=-_.,:/+".contains(c) { c } else { '_' };
    // A value of dots alone would be a step up the tree.
    path.split('/')
        .map(|part| part.replace("..", "__").chars().map(safe).collect::<String>())
        .collect::<Vec<_>>()
        .join("/")
}

struct OpenFile {
    number: usize,
    location: String,
    partition: Struct,
    writer: ArrowWriter<Vec<u8>>,
    flushed_bytes: u64,
    nan_counts: HashMap<i32, u64>,
}

/// Turns batches into parts of files.
pub(super) struct Encoder {
    layout: FileLayout,
    splitter: Option<PartitionSplitter>,
    open: HashMap<Struct, OpenFile>,
    next_number: usize,
    /// Of all rows, if they are wanted.
    sums: Option<ColumnSums>,
}

impl Encoder {
    pub(super) fn new(layout: FileLayout) -> Result<Self, TableError> {
        let splitter = if layout.spec.is_unpartitioned() {
            None
        } else {
            Some(PartitionSplitter::new(&layout.spec, &layout.iceberg_schema, &layout.schema)?)
        };
        Ok(Self { layout, splitter, open: HashMap::new(), next_number: 0, sums: None })
    }

    pub(super) fn summed(self) -> Self {
        Self { sums: Some(ColumnSums::of_values()), ..self }
    }

    pub(super) fn into_sums(self) -> Option<ColumnSums> {
        self.sums
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.open.values().map(|file| file.writer.memory_size()).sum()
    }

    /// Encodes rows of the table's schema.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<Vec<EncodedPart>, TableError> {
        let groups = match &self.splitter {
            Some(splitter) => splitter.split(batch)?,
            None => vec![(Struct::empty(), batch.clone())],
        };
        let mut parts = Vec::new();
        for (partition, rows) in groups {
            let mut file = match self.open.remove(&partition) {
                Some(file) => file,
                None => self.open_file(partition.clone())?,
            };
            file.write(&rows)?;
            if let Some(sums) = &mut self.sums {
                sums.add(&rows);
            }
            if file.encoded_bytes() >= self.layout.target_file_bytes {
                parts.push(file.finish(&self.layout)?);
            } else {
                parts.extend(file.take_part());
                self.open.insert(partition, file);
            }
        }
        self.relieve(&mut parts)?;
        Ok(parts)
    }

    /// Completes all files.
    pub(super) fn finish(&mut self) -> Result<Vec<EncodedPart>, TableError> {
        let mut files = std::mem::take(&mut self.open).into_values().collect::<Vec<_>>();
        files.sort_by_key(|file| file.number);
        files.into_iter().map(|file| file.finish(&self.layout)).collect()
    }

    fn open_file(&mut self, partition: Struct) -> Result<OpenFile, TableError> {
        let number = self.next_number;
        self.next_number += 1;
        let location = self.layout.location(&partition, number);
        let (schema, properties) = (Arc::clone(&self.layout.schema), self.layout.properties.clone());
        // Types, names and ids follow from Parquet's own schema: Arrow's copy of it, with all documentation, would weigh on small files.
        let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(Vec::new(), schema, options);
        let writer = writer.map_err(|error| unencodable(&location, error))?;
        Ok(OpenFile { number, location, partition, writer, flushed_bytes: 0, nan_counts: HashMap::new() })
    }

    /// Keeps memory and open files bounded.
    fn relieve(&mut self, parts: &mut Vec<EncodedPart>) -> Result<(), TableError> {
        while self.open.len() > MAX_OPEN_FILES {
            let Some(partition) = self.largest() else { break };
            let Some(file) = self.open.remove(&partition) else { break };
            parts.push(file.finish(&self.layout)?);
        }
        while self.memory_bytes() > self.layout.max_buffered_bytes {
            let Some(file) = self.largest().and_then(|partition| self.open.get_mut(&partition)) else {
                break;
            };
            file.writer.flush().map_err(|error| unencodable(&file.location, error))?;
            parts.extend(file.take_part());
        }
        Ok(())
    }

    fn largest(&self) -> Option<Struct> {
        let largest = self.open.values().max_by_key(|file| file.writer.memory_size())?;
        Some(largest.partition.clone())
    }
}

impl OpenFile {
    fn write(&mut self, rows: &RecordBatch) -> Result<(), TableError> {
        for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
            if let (Some(id), Some(count)) = (field_id(field), nan_count(column)) {
                *self.nan_counts.entry(id).or_default() += count;
            }
        }
        self.writer.write(rows).map_err(|error| unencodable(&self.location, error))
    }

    fn encoded_bytes(&self) -> u64 {
        (self.writer.bytes_written() + self.writer.in_progress_size()) as u64
    }

    fn take_part(&mut self) -> Option<EncodedPart> {
        let bytes = Bytes::from(std::mem::take(self.writer.inner_mut()));
        if bytes.is_empty() {
            return None;
        }
        self.flushed_bytes += bytes.len() as u64;
        Some(EncodedPart { file: self.number, location: self.location.clone(), bytes, finished: None })
    }

    fn finish(mut self, layout: &FileLayout) -> Result<EncodedPart, TableError> {
        let parquet = self.writer.finish().map_err(|error| unencodable(&self.location, error))?;
        let bytes = Bytes::from(std::mem::take(self.writer.inner_mut()));
        let file = metrics::ClosedFile {
            location: &self.location,
            size_bytes: self.flushed_bytes + bytes.len() as u64,
            partition: self.partition,
            spec_id: layout.spec.spec_id(),
            nan_counts: self.nan_counts,
        };
        let data_file = metrics::data_file(file, &parquet, &layout.iceberg_schema)?;
        Ok(EncodedPart { file: self.number, location: self.location, bytes, finished: Some(data_file) })
    }
}

fn nan_count(column: &dyn Array) -> Option<u64> {
    let count = match column.data_type() {
        DataType::Float32 => {
            column.as_primitive::<Float32Type>().iter().flatten().filter(|v| v.is_nan()).count()
        }
        DataType::Float64 => {
            column.as_primitive::<Float64Type>().iter().flatten().filter(|v| v.is_nan()).count()
        }
        _ => return None,
    };
    Some(count as u64)
}

pub(super) fn unencodable(location: &str, error: ParquetError) -> TableError {
    TableError::caused(TableErrorKind::Storage, format!("cannot encode {location}"), error)
}

#[cfg(test)]
mod tests {
    use super::safe_path;

    #[test]
    fn partition_folders_never_leave_the_table() {
        assert_eq!(safe_path("day=2026-11-22"), "day=2026-11-22");
        assert_eq!(safe_path("host=../../x y%"), "host=__/__/x_y_");
    }
}
