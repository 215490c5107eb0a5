//! Delete files for rows at known positions: one position delete file per data file in format 2, deletion vectors in one
//! Puffin file in format 3.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema},
};
use bytes::Bytes;
use iceberg::{
    io::FileIO as MemoryIo,
    metadata_columns::{
        RESERVED_COL_NAME_DELETE_FILE_PATH, RESERVED_COL_NAME_DELETE_FILE_POS,
        RESERVED_FIELD_ID_DELETE_FILE_PATH, RESERVED_FIELD_ID_DELETE_FILE_POS, RESERVED_FIELD_ID_POS,
    },
    puffin::{Blob, CompressionCodec, DELETION_VECTOR_V1, PuffinWriter},
    spec::{DataContentType, DataFile, DataFileBuilder, DataFileFormat, Datum},
};
use parquet::arrow::{ArrowWriter, PARQUET_FIELD_ID_META_KEY};
use roaring::RoaringTreemap;

use crate::{
    Table, TableError, TableErrorKind,
    deletes::{FileDeletes, encode_vector, load_deleted_rows},
    manifests::LiveFile,
};

/// Bytes before a Puffin file's first blob.
const PUFFIN_MAGIC_BYTES: usize = 4;

/// Rows of one data file that are to be deleted, and what is deleted from it already.
pub(super) struct RowDeletes {
    pub(super) file: LiveFile,
    pub(super) before: FileDeletes,
    pub(super) positions: RoaringTreemap,
}

/// A delete file to be.
pub(super) struct NewDelete {
    pub(super) spec_id: i32,
    pub(super) data_file: DataFile,
}

/// Writes delete files whose names begin with `prefix`; their locations go to `written` before anything is stored.
pub(super) async fn write_deletes(
    table: &Table,
    prefix: &str,
    rows: Vec<RowDeletes>,
    written: &mut Vec<String>,
) -> Result<Vec<NewDelete>, TableError> {
    if table.format_version() >= 3 {
        return write_vectors(table, format!("{prefix}-deletes.puffin"), rows, written).await;
    }
    let mut deletes = Vec::new();
    for (number, rows) in rows.into_iter().enumerate() {
        let location = format!("{prefix}-{number:05}-deletes.parquet");
        let failed = |error: parquet::errors::ParquetError| unwritable(&location, error);
        let bytes = position_delete_file([(rows.file.location(), &rows.positions)]).map_err(failed)?;
        let mut builder = delete_entry(&rows, &location, DataFileFormat::Parquet, bytes.len());
        let path = HashMap::from([(RESERVED_FIELD_ID_DELETE_FILE_PATH, Datum::string(rows.file.location()))]);
        builder.lower_bounds(path.clone()).upper_bounds(path);
        let data_file = builder.build().map_err(|error| unwritable(&location, error))?;
        written.push(location.clone());
        table.file_io().write_new(&location, Bytes::from(bytes)).await?;
        deletes.push(NewDelete { spec_id: rows.file.spec_id, data_file });
    }
    Ok(deletes)
}

/// A file has one vector at the most, so that new ones hold what was deleted before.
async fn write_vectors(
    table: &Table,
    location: String,
    mut rows: Vec<RowDeletes>,
    written: &mut Vec<String>,
) -> Result<Vec<NewDelete>, TableError> {
    let before = rows.iter().map(|rows| (&rows.file, &rows.before)).collect::<Vec<_>>();
    let before = load_deleted_rows(table.file_io(), &before).await?;
    for rows in &mut rows {
        if let Some(before) = before.get(rows.file.location()) {
            rows.positions |= before.as_ref();
        }
    }
    let vectors = rows.iter().map(|rows| (rows.file.location(), &rows.positions)).collect::<Vec<_>>();
    let (bytes, places) = vector_file(&location, &vectors).await?;
    let number = |number: usize| Some(i64::try_from(number).unwrap_or(i64::MAX));
    let entries = rows.iter().zip(places).map(|(rows, (offset, length))| {
        let mut builder = delete_entry(rows, &location, DataFileFormat::Puffin, bytes.len());
        builder.content_offset(number(offset)).content_size_in_bytes(number(length));
        let data_file = builder.build().map_err(|error| unwritable(&location, error))?;
        Ok(NewDelete { spec_id: rows.file.spec_id, data_file })
    });
    let entries = entries.collect::<Result<Vec<_>, TableError>>()?;
    written.push(location.clone());
    table.file_io().write_new(&location, bytes).await?;
    Ok(entries)
}

fn delete_entry(rows: &RowDeletes, location: &str, format: DataFileFormat, bytes: usize) -> DataFileBuilder {
    let mut builder = DataFileBuilder::default();
    builder
        .content(DataContentType::PositionDeletes)
        .file_path(location.to_owned())
        .file_format(format)
        .partition(rows.file.data_file().partition().clone())
        .partition_spec_id(rows.file.spec_id)
        .record_count(rows.positions.len())
        .file_size_in_bytes(bytes as u64)
        .referenced_data_file(Some(rows.file.location().to_owned()));
    builder
}

/// A Puffin file with one deletion vector per data file, and where each of them stands in it: offset and length.
pub(crate) async fn vector_file(
    location: &str,
    vectors: &[(&str, &RoaringTreemap)],
) -> Result<(Bytes, Vec<(usize, usize)>), TableError> {
    let failed = |error: iceberg::Error| unwritable(location, error);
    let memory = MemoryIo::new_with_memory();
    let output = memory.new_output(location).map_err(failed)?;
    let mut puffin = PuffinWriter::new(&output, HashMap::new(), false).await.map_err(failed)?;
    let mut places = Vec::new();
    let mut offset = PUFFIN_MAGIC_BYTES;
    for (path, positions) in vectors {
        let data = encode_vector(positions).map_err(|error| unwritable(location, error))?;
        places.push((offset, data.len()));
        offset += data.len();
        let blob = Blob::builder()
            .r#type(DELETION_VECTOR_V1.to_owned())
            .fields(vec![RESERVED_FIELD_ID_POS])
            // Both are inherited from the commit.
            .snapshot_id(-1)
            .sequence_number(-1)
            .data(data)
            .properties(HashMap::from([
                ("referenced-data-file".to_owned(), (*path).to_owned()),
                ("cardinality".to_owned(), positions.len().to_string()),
            ]))
            .build();
        puffin.add(blob, CompressionCodec::None).await.map_err(failed)?;
    }
    puffin.close().await.map_err(failed)?;
    let bytes = memory.new_input(location).map_err(failed)?.read().await.map_err(failed)?;
    Ok((bytes, places))
}

/// A position delete file; its rows are sorted if the paths are.
pub(crate) fn position_delete_file<'a>(
    deletes: impl IntoIterator<Item = (&'a str, &'a RoaringTreemap)>,
) -> Result<Vec<u8>, parquet::errors::ParquetError> {
    let column = |name: &str, id: i32, data_type| {
        let id = (PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string());
        Field::new(name, data_type, false).with_metadata([id].into())
    };
    let schema = Arc::new(Schema::new(vec![
        column(RESERVED_COL_NAME_DELETE_FILE_PATH, RESERVED_FIELD_ID_DELETE_FILE_PATH, DataType::Utf8),
        column(RESERVED_COL_NAME_DELETE_FILE_POS, RESERVED_FIELD_ID_DELETE_FILE_POS, DataType::Int64),
    ]));
    let mut writer = ArrowWriter::try_new(Vec::new(), Arc::clone(&schema), None)?;
    for (path, positions) in deletes {
        let numbers = positions.iter().map(|position| i64::try_from(position).unwrap_or(i64::MAX));
        let numbers = Int64Array::from_iter_values(numbers);
        let paths = StringArray::from_iter_values(std::iter::repeat_n(path, numbers.len()));
        let columns: Vec<ArrayRef> = vec![Arc::new(paths), Arc::new(numbers)];
        writer.write(&RecordBatch::try_new(Arc::clone(&schema), columns)?)?;
    }
    writer.into_inner()
}

fn unwritable(location: &str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> TableError {
    TableError::caused(TableErrorKind::Storage, format!("cannot write delete file {location}"), error)
}
