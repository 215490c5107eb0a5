//! A file's columns as the table's: matched by field id, whatever their names, with casts and defaults.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use arrow::{
    array::RecordBatch,
    datatypes::{DataType, Field, FieldRef, Schema, SchemaRef},
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
use iceberg::spec::Schema as IcebergSchema;

use super::bounds::scalar;
use crate::{
    reshape::{MatchBy, reshape},
    schema::{arrow_schema, field_id},
};

/// Rewrites expressions over the table's columns into expressions over a file's.
#[derive(Debug)]
pub(super) struct FieldIdAdapterFactory {
    /// Values of columns in files that were written before the column was added, by field id.
    initial_defaults: Arc<HashMap<i32, ScalarValue>>,
    /// Columns that may hold NaN. Parquet's statistics leave NaN out while DataFusion sorts it above all numbers, so these
    /// columns are hidden from DataFusion's pruning of row groups and pages.
    nan_columns: Arc<HashSet<i32>>,
}

impl FieldIdAdapterFactory {
    pub(super) fn new(schema: &IcebergSchema) -> Self {
        let arrow = arrow_schema(schema).ok();
        let initial_default = |field: &iceberg::spec::NestedFieldRef| {
            let literal = field.initial_default.as_ref()?.as_primitive_literal()?;
            let column = arrow.as_ref()?.field_with_name(&field.name).ok()?;
            Some((field.id, scalar(&literal, column.data_type())?))
        };
        let initial_defaults = schema.as_struct().fields().iter().filter_map(initial_default).collect();
        Self { initial_defaults: Arc::new(initial_defaults), nan_columns: Arc::default() }
    }

    pub(super) fn with_nan_columns(&self, nan_columns: HashSet<i32>) -> Self {
        Self { initial_defaults: Arc::clone(&self.initial_defaults), nan_columns: Arc::new(nan_columns) }
    }
}

impl PhysicalExprAdapterFactory for FieldIdAdapterFactory {
    fn create(&self, table: SchemaRef, file: SchemaRef) -> Result<Arc<dyn PhysicalExprAdapter>> {
        // Files that other tools wrote before the table adopted them have no ids; their names must do.
        let has_ids = file.fields().iter().any(|field| field_id(field).is_some());
        let match_by = if has_ids { MatchBy::FieldId } else { MatchBy::Name };
        Ok(Arc::new(FieldIdAdapter {
            table,
            file,
            match_by,
            initial_defaults: Arc::clone(&self.initial_defaults),
            nan_columns: Arc::clone(&self.nan_columns),
        }))
    }
}

#[derive(Debug)]
struct FieldIdAdapter {
    table: SchemaRef,
    file: SchemaRef,
    match_by: MatchBy,
    initial_defaults: Arc<HashMap<i32, ScalarValue>>,
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
        let Some(index) = self.match_by.find(self.file.fields(), wanted) else { return self.absent(wanted) };
        let found = self.file.field(index);
        let in_file: Arc<dyn PhysicalExpr> = Arc::new(Column::new(found.name(), index));
        let may_be_nan = field_id(wanted).is_some_and(|id| self.nan_columns.contains(&id));
        if found.data_type() == wanted.data_type() && !may_be_nan {
            return Ok(in_file);
        }
        if wanted.data_type().is_nested() || may_be_nan {
            let to = Arc::new(wanted.clone());
            return Ok(Arc::new(ReshapeExpr { column: in_file, to, match_by: self.match_by }));
        }
        Ok(Arc::new(CastExpr::new(in_file, wanted.data_type().clone(), None)))
    }

    fn absent(&self, wanted: &Field) -> Result<Arc<dyn PhysicalExpr>> {
        if let Some(default) = field_id(wanted).and_then(|id| self.initial_defaults.get(&id)) {
            return Ok(lit(default.clone()));
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
    to: FieldRef,
    match_by: MatchBy,
}

impl fmt::Display for ReshapeExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "reshape({})", self.column)
    }
}

impl PartialEq for ReshapeExpr {
    fn eq(&self, other: &Self) -> bool {
        self.column.eq(&other.column) && self.to == other.to && self.match_by == other.match_by
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
        Ok(ColumnarValue::Array(reshape(&array, &self.to, self.match_by)?))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.column]
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        match <[_; 1]>::try_from(children) {
            Ok([column]) => Ok(Arc::new(Self { column, to: Arc::clone(&self.to), match_by: self.match_by })),
            Err(children) => {
                Err(DataFusionError::Internal(format!("reshape takes 1 child, not {}", children.len())))
            }
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.column.fmt_sql(f)
    }
}
