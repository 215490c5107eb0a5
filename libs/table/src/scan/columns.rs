//! A file's columns as the table's: matched by field id, whatever their names, with casts and defaults.

use std::{
    collections::HashSet,
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use arrow::{
    array::RecordBatch,
    datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef},
};
use datafusion::{
    common::tree_node::{Transformed, TransformedResult, TreeNode},
    error::{DataFusionError, Result},
    logical_expr::ColumnarValue,
    physical_expr::{
        PhysicalExpr,
        expressions::{CastExpr, Column, lit},
    },
    physical_expr_adapter::{PhysicalExprAdapter, PhysicalExprAdapterFactory},
    scalar::ScalarValue,
};
use iceberg::spec::{NestedField, Schema as IcebergSchema, Type};

use super::bounds::scalar;
use crate::{
    reshape::{Defaults, MatchBy, reshape_from},
    schema::{NameIds, arrow_field, field_id},
};

/// Rewrites expressions over the table's columns into expressions over a file's.
#[derive(Debug)]
pub(crate) struct FieldIdAdapterFactory {
    defaults: Arc<Defaults>,
    /// Ids for files without any.
    names: Option<Arc<NameIds>>,
    /// Columns that may hold NaN. Parquet's statistics leave NaN out while DataFusion sorts it above all numbers, so these
    /// columns are hidden from DataFusion's pruning of row groups and pages.
    nan_columns: Arc<HashSet<i32>>,
}

impl FieldIdAdapterFactory {
    pub(crate) fn new(schema: &IcebergSchema, names: Option<Arc<NameIds>>) -> Self {
        let mut defaults = Defaults::default();
        for field in schema.as_struct().fields() {
            add_defaults(field, &mut defaults);
        }
        Self { defaults: Arc::new(defaults), names, nan_columns: Arc::default() }
    }

    pub(super) fn with_nan_columns(&self, nan_columns: HashSet<i32>) -> Self {
        Self {
            defaults: Arc::clone(&self.defaults),
            names: self.names.clone(),
            nan_columns: Arc::new(nan_columns),
        }
    }
}

/// The default of a field and of all within it.
fn add_defaults(field: &NestedField, defaults: &mut Defaults) {
    let default = field.initial_default.as_ref().and_then(iceberg::spec::Literal::as_primitive_literal);
    if let (Some(default), Ok(arrow)) = (default, arrow_field(field))
        && let Some(default) = scalar(&default, arrow.data_type())
    {
        defaults.0.insert(field.id, default);
    }
    match field.field_type.as_ref() {
        Type::Primitive(_) => {}
        Type::Struct(fields) => fields.fields().iter().for_each(|field| add_defaults(field, defaults)),
        Type::List(list) => add_defaults(&list.element_field, defaults),
        Type::Map(map) => add_defaults(&map.value_field, defaults),
    }
}

impl PhysicalExprAdapterFactory for FieldIdAdapterFactory {
    fn create(&self, table: SchemaRef, file: SchemaRef) -> Result<Arc<dyn PhysicalExprAdapter>> {
        let (labels, match_by) = NameIds::label(self.names.as_deref(), file.fields());
        Ok(Arc::new(FieldIdAdapter {
            table,
            file,
            labels,
            match_by,
            defaults: Arc::clone(&self.defaults),
            nan_columns: Arc::clone(&self.nan_columns),
        }))
    }
}

#[derive(Debug)]
struct FieldIdAdapter {
    table: SchemaRef,
    file: SchemaRef,
    /// The file's columns with field ids, as far as they are known.
    labels: Fields,
    match_by: MatchBy,
    defaults: Arc<Defaults>,
    nan_columns: Arc<HashSet<i32>>,
}

impl PhysicalExprAdapter for FieldIdAdapter {
    fn rewrite(&self, expr: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
        expr.transform_down(|expr| match expr.downcast_ref::<Column>() {
            // What replaces a column refers to the file and must not be rewritten again.
            Some(column) => self.file_column(column).map(Transformed::yes).map(|done| Transformed {
                tnr: datafusion::common::tree_node::TreeNodeRecursion::Jump,
                ..done
            }),
            None => Ok(Transformed::no(expr)),
        })
        .data()
    }
}

impl FieldIdAdapter {
    fn file_column(&self, column: &Column) -> Result<Arc<dyn PhysicalExpr>> {
        let wanted = self.table.field_with_name(column.name())?;
        let Some(index) = self.match_by.find(&self.labels, wanted) else { return self.absent(wanted) };
        let found = self.file.field(index);
        let in_file: Arc<dyn PhysicalExpr> = Arc::new(Column::new(found.name(), index));
        let may_be_nan = field_id(wanted).is_some_and(|id| self.nan_columns.contains(&id));
        if found.data_type() == wanted.data_type() && !may_be_nan {
            return Ok(in_file);
        }
        if wanted.data_type().is_nested() || may_be_nan {
            return Ok(Arc::new(ReshapeExpr {
                column: in_file,
                from: self.labels[index].data_type().clone(),
                to: Arc::new(wanted.clone()),
                match_by: self.match_by,
                defaults: Arc::clone(&self.defaults),
            }));
        }
        Ok(Arc::new(CastExpr::new(in_file, wanted.data_type().clone(), None)))
    }

    fn absent(&self, wanted: &Field) -> Result<Arc<dyn PhysicalExpr>> {
        if let Some(default) = self.defaults.of(wanted) {
            // A default has the type of the table's column, which may be read as another.
            return Ok(lit(default.cast_to(wanted.data_type())?));
        }
        if !wanted.is_nullable() {
            let name = wanted.name();
            return Err(DataFusionError::Execution(format!(
                "required column '{name}' is missing from a data file"
            )));
        }
        Ok(lit(ScalarValue::try_from(wanted.data_type())?))
    }
}

/// A column of a file in the table's type, opaque to pruning.
#[derive(Debug, Clone)]
struct ReshapeExpr {
    column: Arc<dyn PhysicalExpr>,
    /// The column's type with field ids.
    from: DataType,
    to: FieldRef,
    match_by: MatchBy,
    defaults: Arc<Defaults>,
}

impl fmt::Display for ReshapeExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "reshape({})", self.column)
    }
}

impl PartialEq for ReshapeExpr {
    fn eq(&self, other: &Self) -> bool {
        self.column.eq(&other.column)
            && (&self.from, &self.to, self.match_by) == (&other.from, &other.to, other.match_by)
            && self.defaults == other.defaults
    }
}

impl Eq for ReshapeExpr {}

impl Hash for ReshapeExpr {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.column.hash(state);
        self.to.hash(state);
        self.match_by.hash(state);
    }
}

impl PhysicalExpr for ReshapeExpr {
    fn data_type(&self, _input: &Schema) -> Result<DataType> {
        Ok(self.to.data_type().clone())
    }

    fn nullable(&self, _input: &Schema) -> Result<bool> {
        Ok(self.to.is_nullable())
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let array = self.column.evaluate(batch)?.into_array(batch.num_rows())?;
        let reshaped = reshape_from(&array, &self.from, &self.to, self.match_by, &self.defaults)?;
        Ok(ColumnarValue::Array(reshaped))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.column]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        match <[_; 1]>::try_from(children) {
            Ok([column]) => Ok(Arc::new(Self { column, ..Self::clone(&self) })),
            Err(children) => {
                Err(DataFusionError::Internal(format!("reshape takes 1 child, not {}", children.len())))
            }
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.column.fmt_sql(f)
    }
}
