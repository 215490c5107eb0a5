//! Rows deleted by equality: an anti-join in which null equals null.
//!
//! All keys lie in memory, with the newest data sequence number that deletes them. A scan hands each row the data sequence
//! number and partition of its file, as two hidden columns, so that one look-up decides whichever file it came from.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, AsArray, BooleanArray, RecordBatch},
    buffer::BooleanBuffer,
    compute::cast,
    datatypes::{DataType, Field, Int64Type, Schema},
    error::ArrowError,
    row::{RowConverter, SortField},
};
use bytes::Bytes;
use datafusion::{
    error::{DataFusionError, Result as DataFusionResult},
    execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation},
    logical_expr::ColumnarValue,
    physical_expr::{PhysicalExpr, expressions::Column},
};
use iceberg::spec::{DataFileFormat, PartitionSpec};
use parquet::arrow::{ProjectionMask, arrow_reader::ParquetRecordBatchReaderBuilder};

use super::global_scope;
use crate::{
    FileIo, TableError, TableErrorKind,
    manifests::{LiveFile, PartitionKey},
    reshape::{Defaults, reshape_from},
    schema::{NameIds, field_id},
};

/// Hidden column: the data sequence number of the row's file.
pub(crate) const SEQUENCE_COLUMN: &str = "firn data sequence number";
/// Hidden column: the number of the partition of the row's file among those that have deletes, or -1.
pub(crate) const SCOPE_COLUMN: &str = "firn partition number";
/// Bytes that the hash table takes for a key besides the key itself, roughly.
const KEY_OVERHEAD_BYTES: usize = 48;

/// Everything that the equality deletes of a scan delete.
pub(crate) struct EqualityDeletes {
    /// Field ids of all key columns.
    key_ids: Vec<i32>,
    sets: Vec<KeySet>,
    scopes: HashMap<PartitionKey, i64>,
    _memory: MemoryReservation,
}

/// The keys of one combination of columns that are deleted in one partition, or in all.
struct KeySet {
    /// Indexes into `key_ids`.
    columns: Vec<usize>,
    scope: Option<i64>,
    converter: RowConverter,
    /// Data sequence number of the newest delete by key: rows of files with a lower one are gone.
    newest: HashMap<Box<[u8]>, i64>,
}

/// How delete files are read: where, and as which columns.
pub(crate) struct KeyReader<'a> {
    pub(crate) file_io: &'a FileIo,
    /// All key columns, with their present types.
    pub(crate) schema: &'a Schema,
    pub(crate) specs: &'a BTreeMap<i32, PartitionSpec>,
    pub(crate) names: Option<Arc<NameIds>>,
}

impl EqualityDeletes {
    /// Loads distinct delete files within the memory of `pool`.
    pub(crate) async fn load(
        reader: &KeyReader<'_>,
        files: &[LiveFile],
        pool: &Arc<dyn MemoryPool>,
    ) -> DataFusionResult<Arc<Self>> {
        let external = |error: TableError| DataFusionError::External(Box::new(error));
        let memory = MemoryConsumer::new("equality deletes").register(pool);
        let all_ids: BTreeSet<i32> = files.iter().flat_map(key_ids).collect();
        let key_ids_of_scan = all_ids.into_iter().collect::<Vec<_>>();
        let mut scopes = HashMap::new();
        let mut sets: BTreeMap<(Vec<i32>, Option<i64>), KeySet> = BTreeMap::new();
        for file in files {
            let scope = (!global_scope(file, reader.specs)).then(|| {
                let next = i64::try_from(scopes.len()).unwrap_or(i64::MAX);
                *scopes.entry(file.partition_key()).or_insert(next)
            });
            let ids = key_ids(file);
            let set = match sets.entry((ids.clone(), scope)) {
                std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::btree_map::Entry::Vacant(entry) => {
                    entry.insert(KeySet::new(&ids, &key_ids_of_scan, scope, reader.schema).map_err(external)?)
                }
            };
            for columns in reader.read(file, &ids).await.map_err(external)? {
                memory.try_grow(set.add(&columns, file.sequence_number())?)?;
            }
        }
        let sets = sets.into_values().collect();
        Ok(Arc::new(Self { key_ids: key_ids_of_scan, sets, scopes, _memory: memory }))
    }

    /// The hidden column values of a data file.
    pub(crate) fn scope_of(&self, file: &LiveFile) -> i64 {
        self.scopes.get(&file.partition_key()).copied().unwrap_or(-1)
    }

    /// Which rows stay. The columns are the data sequence number, the partition number and the keys.
    fn kept(&self, columns: &[ArrayRef]) -> Result<BooleanArray, ArrowError> {
        let [sequences, scopes, keys @ ..] = columns else {
            return Err(ArrowError::InvalidArgumentError("hidden columns are missing".to_owned()));
        };
        let (sequences, scopes) = (cast(sequences, &DataType::Int64)?, cast(scopes, &DataType::Int64)?);
        let sequences = sequences.as_primitive::<Int64Type>();
        let scopes = scopes.as_primitive::<Int64Type>();
        let mut kept = vec![true; sequences.len()];
        for set in &self.sets {
            let in_scope = |row: usize| set.scope.is_none_or(|scope| scopes.value(row) == scope);
            if !(0..kept.len()).any(in_scope) {
                continue;
            }
            let keys = set.columns.iter().map(|column| ArrayRef::clone(&keys[*column])).collect::<Vec<_>>();
            let rows = set.converter.convert_columns(&keys)?;
            for (row, key) in rows.iter().enumerate() {
                let deleted =
                    || set.newest.get(key.as_ref()).is_some_and(|newest| *newest > sequences.value(row));
                kept[row] = kept[row] && !(in_scope(row) && deleted());
            }
        }
        Ok(BooleanArray::new(BooleanBuffer::from(kept), None))
    }
}

impl KeySet {
    fn new(ids: &[i32], key_ids: &[i32], scope: Option<i64>, schema: &Schema) -> Result<Self, TableError> {
        let columns = ids.iter().filter_map(|id| key_ids.iter().position(|key| key == id)).collect();
        let types = ids.iter().filter_map(|id| key_field(schema, *id));
        let fields = types.map(|field| SortField::new(field.data_type().clone())).collect();
        let converter = RowConverter::new(fields).map_err(|error| {
            TableError::caused(
                TableErrorKind::Unsupported,
                "equality deletes by columns of these types",
                error,
            )
        })?;
        Ok(Self { columns, scope, converter, newest: HashMap::new() })
    }

    /// Adds keys and answers about how many bytes they take.
    fn add(&mut self, columns: &[ArrayRef], sequence_number: i64) -> Result<usize, ArrowError> {
        let mut bytes = 0;
        for key in self.converter.convert_columns(columns)?.iter() {
            match self.newest.get_mut(key.as_ref()) {
                Some(newest) => *newest = sequence_number.max(*newest),
                None => {
                    bytes += key.as_ref().len() + KEY_OVERHEAD_BYTES;
                    self.newest.insert(key.as_ref().into(), sequence_number);
                }
            }
        }
        Ok(bytes)
    }
}

impl KeyReader<'_> {
    /// The key columns of a delete file in the order of `ids`, batch by batch.
    async fn read(&self, file: &LiveFile, ids: &[i32]) -> Result<Vec<Vec<ArrayRef>>, TableError> {
        let location = file.location().to_owned();
        if file.data_file().file_format() != DataFileFormat::Parquet
            || file.data_file().key_metadata().is_some()
        {
            let format = file.data_file().file_format();
            return Err(TableError::unsupported(format!(
                "equality deletes in {location} can't be read: they are {format} or encrypted, and Firn reads plain Parquet only"
            )));
        }
        let fields = ids.iter().map(|id| {
            let field = key_field(self.schema, *id).cloned();
            field.ok_or_else(|| {
                TableError::invalid(format!(
                    "{location} deletes by column {id}, which never was in the table"
                ))
            })
        });
        let fields = fields.collect::<Result<Vec<Field>, TableError>>()?;
        if fields.is_empty() {
            return Err(TableError::invalid(format!("{location} has equality deletes without columns")));
        }
        let (bytes, names) = (self.file_io.read(&location).await?, self.names.clone());
        let read = tokio::task::spawn_blocking(move || read_keys(bytes, &fields, names.as_deref())).await;
        let unreadable = |error: Box<dyn std::error::Error + Send + Sync>| {
            TableError::caused(
                TableErrorKind::Storage,
                format!("delete file {location} cannot be read"),
                error,
            )
        };
        read.map_err(|error| unreadable(error.into()))?.map_err(unreadable)
    }
}

fn read_keys(
    bytes: Bytes,
    fields: &[Field],
    names: Option<&NameIds>,
) -> Result<Vec<Vec<ArrayRef>>, Box<dyn std::error::Error + Send + Sync>> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes)?;
    let (file, match_by) = NameIds::label(names, builder.schema().fields());
    let find = |field: &Field| {
        match_by.find(&file, field).ok_or_else(|| format!("it lacks the column '{}'", field.name()))
    };
    let indexes = fields.iter().map(find).collect::<Result<Vec<_>, _>>()?;
    let mask = ProjectionMask::roots(builder.parquet_schema(), indexes.iter().copied());
    let mut batches = Vec::new();
    for batch in builder.with_projection(mask).build()? {
        let batch = batch?;
        let columns = indexes.iter().zip(fields).map(|(index, field)| {
            // The reader keeps the file's order.
            let place = indexes.iter().filter(|other| *other < index).count();
            let column = batch.column(place);
            reshape_from(column, file[*index].data_type(), field, match_by, &Defaults::default())
        });
        batches.push(columns.collect::<Result<Vec<_>, _>>()?);
    }
    Ok(batches)
}

/// Field ids of the columns that a file deletes by.
pub(super) fn key_ids(file: &LiveFile) -> Vec<i32> {
    file.data_file().equality_ids().unwrap_or_default()
}

fn key_field(schema: &Schema, id: i32) -> Option<&Field> {
    schema.fields().iter().map(AsRef::as_ref).find(|field| field_id(field) == Some(id))
}

/// True for rows that no equality delete covers.
#[derive(Clone)]
pub(crate) struct NotDeleted {
    deletes: Arc<EqualityDeletes>,
    /// The data sequence number, the partition number and the keys.
    columns: Vec<Arc<dyn PhysicalExpr>>,
}

impl NotDeleted {
    /// Over rows that have the key columns by field id, and the two hidden ones by name.
    pub(crate) fn new(deletes: Arc<EqualityDeletes>, schema: &Schema) -> DataFusionResult<Self> {
        let hidden = [SEQUENCE_COLUMN, SCOPE_COLUMN].map(|name| schema.index_of(name));
        let hidden = hidden.into_iter().collect::<Result<Vec<_>, _>>()?;
        let keys = deletes.key_ids.iter().map(|id| {
            let index = schema.fields().iter().position(|field| field_id(field) == Some(*id));
            index.ok_or_else(|| DataFusionError::Internal(format!("the scan lacks key column {id}")))
        });
        let keys = keys.collect::<DataFusionResult<Vec<_>>>()?;
        let column =
            |index: usize| Arc::new(Column::new(schema.field(index).name(), index)) as Arc<dyn PhysicalExpr>;
        let columns = hidden.into_iter().chain(keys).map(column).collect();
        Ok(Self { deletes, columns })
    }

    /// Field ids of the columns that the keys of delete files need.
    pub(crate) fn key_ids(files: &[LiveFile]) -> BTreeSet<i32> {
        files.iter().flat_map(key_ids).collect()
    }
}

impl fmt::Debug for NotDeleted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotDeleted").field("columns", &self.columns).finish_non_exhaustive()
    }
}

impl fmt::Display for NotDeleted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = self.columns.iter().skip(2).map(ToString::to_string).collect::<Vec<_>>().join(", ");
        write!(f, "not deleted by ({keys})")
    }
}

impl PartialEq for NotDeleted {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.deletes, &other.deletes) && self.columns == other.columns
    }
}

impl Eq for NotDeleted {}

impl Hash for NotDeleted {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.deletes).hash(state);
        self.columns.hash(state);
    }
}

impl PhysicalExpr for NotDeleted {
    fn data_type(&self, _input: &Schema) -> DataFusionResult<DataType> {
        Ok(DataType::Boolean)
    }

    fn nullable(&self, _input: &Schema) -> DataFusionResult<bool> {
        Ok(false)
    }

    fn evaluate(&self, batch: &RecordBatch) -> DataFusionResult<ColumnarValue> {
        let rows = batch.num_rows();
        let columns = self.columns.iter().map(|column| column.evaluate(batch)?.into_array(rows));
        let columns = columns.collect::<DataFusionResult<Vec<_>>>()?;
        Ok(ColumnarValue::Array(Arc::new(self.deletes.kept(&columns)?)))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.columns.iter().collect()
    }

    fn with_new_children(
        self: Arc<Self>,
        columns: Vec<Arc<dyn PhysicalExpr>>,
    ) -> DataFusionResult<Arc<dyn PhysicalExpr>> {
        Ok(Arc::new(Self { deletes: Arc::clone(&self.deletes), columns }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests;
