//! What every scan of one table needs to know of it, and the columns that its deletes add.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::{
    error::{DataFusionError, Result as DataFusionResult},
    execution::memory_pool::MemoryPool,
    physical_expr::PhysicalExpr,
    scalar::ScalarValue,
};
use iceberg::spec::{PartitionSpec, SchemaRef as IcebergSchemaRef};

use super::columns::FieldIdAdapterFactory;
use crate::{
    Table, TableError,
    deletes::{EqualityDeletes, FileDeletes, KeyReader, NotDeleted, SCOPE_COLUMN, SEQUENCE_COLUMN},
    manifests::LiveFile,
    schema::{NameIds, field_id},
};

/// A table's columns and partitions.
pub(crate) struct ScanLayout {
    pub(crate) table: Table,
    pub(crate) schema: SchemaRef,
    pub(crate) iceberg_schema: IcebergSchemaRef,
    pub(crate) specs: BTreeMap<i32, PartitionSpec>,
    pub(crate) columns: Arc<FieldIdAdapterFactory>,
    names: Option<Arc<NameIds>>,
}

/// Equality deletes, and the columns that rows must have for them to be applied.
pub(crate) struct EqualityScan {
    deletes: Arc<EqualityDeletes>,
    /// The scan's columns, then key columns that it lacks.
    pub(crate) read_schema: SchemaRef,
    /// Indexes, with the hidden columns behind those of `read_schema`, of what [`EqualityScan::filter`] needs.
    pub(crate) needed: Vec<usize>,
}

impl ScanLayout {
    pub(crate) fn new(table: &Table) -> Result<Self, TableError> {
        let (iceberg_schema, names) = (table.iceberg_schema()?, table.name_ids()?);
        Ok(Self {
            table: table.clone(),
            schema: table.arrow_schema()?,
            specs: table.partition_specs()?,
            columns: Arc::new(FieldIdAdapterFactory::new(&iceberg_schema, names.clone())),
            iceberg_schema,
            names,
        })
    }

    /// Loads the equality deletes of some data files for a scan of `schema`; `None` if there are none.
    pub(crate) async fn equality(
        &self,
        schema: &SchemaRef,
        deletes: &[&FileDeletes],
        pool: &Arc<dyn MemoryPool>,
    ) -> DataFusionResult<Option<EqualityScan>> {
        let mut files: BTreeMap<&str, &LiveFile> = BTreeMap::new();
        for delete in deletes.iter().flat_map(|deletes| &deletes.equality) {
            files.insert(delete.location(), delete);
        }
        if files.is_empty() {
            return Ok(None);
        }
        let files = files.into_values().cloned().collect::<Vec<_>>();
        let key_ids = NotDeleted::key_ids(&files);
        let external = |error| DataFusionError::External(Box::new(error));
        let read_schema = self.with_key_columns(schema, &key_ids).map_err(external)?;
        let reader = KeyReader {
            file_io: self.table.file_io(),
            schema: &read_schema,
            specs: &self.specs,
            names: self.names.clone(),
        };
        let deletes = EqualityDeletes::load(&reader, &files, pool).await?;
        let is_key = |field: &FieldRef| field_id(field).is_some_and(|id| key_ids.contains(&id));
        let keys = read_schema.fields().iter().enumerate().filter(|(_, field)| is_key(field));
        let columns = read_schema.fields().len();
        let hidden = columns..columns + hidden_columns().len();
        let needed = keys.map(|(index, _)| index).chain(hidden).collect();
        Ok(Some(EqualityScan { deletes, read_schema, needed }))
    }

    /// `schema` and the key columns that it lacks: deletes by a column that the table dropped still hold.
    fn with_key_columns(&self, schema: &SchemaRef, key_ids: &BTreeSet<i32>) -> Result<SchemaRef, TableError> {
        let mut fields = schema.fields().iter().cloned().collect::<Vec<_>>();
        for id in key_ids {
            if !fields.iter().any(|field| field_id(field) == Some(*id)) {
                // Another column may have the name by now.
                let field = self.table.former_column(*id)?.with_name(format!("firn key {id}"));
                fields.push(Arc::new(field.with_nullable(true)));
            }
        }
        Ok(Arc::new(Schema::new(fields)))
    }
}

impl EqualityScan {
    /// True for rows that stay, over some columns of the scan.
    pub(crate) fn filter(&self, schema: &Schema) -> DataFusionResult<Arc<dyn PhysicalExpr>> {
        Ok(Arc::new(NotDeleted::new(Arc::clone(&self.deletes), schema)?))
    }

    /// Values of a file's hidden columns.
    pub(crate) fn hidden_values(&self, file: &LiveFile) -> Vec<ScalarValue> {
        vec![
            ScalarValue::Int64(Some(file.sequence_number())),
            ScalarValue::Int64(Some(self.deletes.scope_of(file))),
        ]
    }
}

/// Columns that are constant within a file and that only the equality deletes see.
pub(crate) fn hidden_columns() -> Vec<FieldRef> {
    [SEQUENCE_COLUMN, SCOPE_COLUMN].map(|name| Arc::new(Field::new(name, DataType::Int64, false))).to_vec()
}
