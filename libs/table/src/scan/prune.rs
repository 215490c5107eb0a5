//! Leaving out manifests and files in which no row can satisfy a predicate.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, BooleanArray, UInt64Array},
    datatypes::{DataType, SchemaRef},
};
use datafusion::{
    common::{Column, pruning::PruningStatistics},
    error::Result as DataFusionResult,
    physical_expr::PhysicalExpr,
    physical_optimizer::pruning::PruningPredicate,
    scalar::ScalarValue,
};
use iceberg::spec::{Datum, ManifestFile, PartitionField, PartitionSpec, Schema as IcebergSchema};

use super::{bounds::column_bounds, partition_bounds::source_bounds};
use crate::{manifests::LiveFile, schema::field_id};

type Bounds = (Option<ScalarValue>, Option<ScalarValue>);

/// Those of `items` that may hold a row for which `predicate` is true.
pub(super) fn prune<T: Clone>(
    predicate: Option<&Arc<dyn PhysicalExpr>>,
    schema: &SchemaRef,
    statistics: &impl PruningStatistics,
    items: &[T],
) -> DataFusionResult<Vec<T>> {
    let Some(predicate) = predicate else { return Ok(items.to_vec()) };
    // A predicate that can't be turned into one over statistics prunes nothing.
    let Ok(predicate) = PruningPredicate::try_new(Arc::clone(predicate), SchemaRef::clone(schema)) else {
        return Ok(items.to_vec());
    };
    let keep = predicate.prune(statistics)?;
    Ok(items.iter().zip(keep).filter(|(_, keep)| *keep).map(|(item, _)| item.clone()).collect())
}

/// A column as both kinds of statistics need it.
struct PrunedColumn<'a> {
    id: i32,
    data_type: &'a DataType,
}

fn pruned_column<'a>(schema: &'a SchemaRef, column: &Column) -> Option<PrunedColumn<'a>> {
    let field = schema.field_with_name(column.name()).ok()?;
    Some(PrunedColumn { id: field_id(field)?, data_type: field.data_type() })
}

fn scalars(column: &PrunedColumn<'_>, values: impl Iterator<Item = Option<ScalarValue>>) -> Option<ArrayRef> {
    let null = ScalarValue::try_from(column.data_type).ok()?;
    let values = values.map(|value| value.unwrap_or_else(|| null.clone()));
    ScalarValue::iter_to_array(values).ok()
}

/// Metrics and partition values of files.
pub(super) struct FileStatistics<'a> {
    files: &'a [LiveFile],
    schema: &'a SchemaRef,
    specs: &'a BTreeMap<i32, PartitionSpec>,
}

impl<'a> FileStatistics<'a> {
    pub(super) fn new(
        files: &'a [LiveFile],
        schema: &'a SchemaRef,
        specs: &'a BTreeMap<i32, PartitionSpec>,
    ) -> Self {
        Self { files, schema, specs }
    }

    fn bounds(&self, file: &LiveFile, column: &PrunedColumn<'_>) -> Bounds {
        let (lower, upper) = column_bounds(&file.entry.data_file, column.id, column.data_type);
        if lower.is_some() && upper.is_some() {
            return (lower, upper);
        }
        let (partition_lower, partition_upper) = self.partition_bounds(file, column).unwrap_or_default();
        (lower.or(partition_lower), upper.or(partition_upper))
    }

    fn partition_bounds(&self, file: &LiveFile, column: &PrunedColumn<'_>) -> Option<Bounds> {
        let (index, field) = partition_field(self.specs, file.spec_id, column.id)?;
        let value = file.entry.data_file.partition().iter().nth(index)??.as_primitive_literal()?;
        Some(source_bounds(field.transform, &value, column.data_type))
    }

    fn array(&self, column: &Column, side: fn(Bounds) -> Option<ScalarValue>) -> Option<ArrayRef> {
        let column = pruned_column(self.schema, column)?;
        scalars(&column, self.files.iter().map(|file| side(self.bounds(file, &column))))
    }
}

impl PruningStatistics for FileStatistics<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.array(column, |(lower, _)| lower)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.array(column, |(_, upper)| upper)
    }

    fn num_containers(&self) -> usize {
        self.files.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let column = pruned_column(self.schema, column)?;
        let counts =
            self.files.iter().map(|file| file.entry.data_file.null_value_counts().get(&column.id).copied());
        Some(Arc::new(counts.collect::<UInt64Array>()))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(self.files.iter().map(|file| Some(file.entry.record_count())).collect::<UInt64Array>()))
    }

    fn contained(&self, _column: &Column, _values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

/// Partition summaries of manifests.
pub(super) struct ManifestStatistics<'a> {
    manifests: &'a [ManifestFile],
    schema: &'a SchemaRef,
    specs: &'a BTreeMap<i32, PartitionSpec>,
    iceberg_schema: &'a IcebergSchema,
}

impl<'a> ManifestStatistics<'a> {
    pub(super) fn new(
        manifests: &'a [ManifestFile],
        schema: &'a SchemaRef,
        specs: &'a BTreeMap<i32, PartitionSpec>,
        iceberg_schema: &'a IcebergSchema,
    ) -> Self {
        Self { manifests, schema, specs, iceberg_schema }
    }

    fn bounds(&self, manifest: &ManifestFile, column: &PrunedColumn<'_>) -> Option<Bounds> {
        let (index, field) = partition_field(self.specs, manifest.partition_spec_id, column.id)?;
        let summary = manifest.partitions.as_ref()?.get(index)?;
        let source = &self.iceberg_schema.field_by_id(field.source_id)?.field_type;
        let partition_type = field.transform.result_type(source).ok()?.as_primitive_type()?.clone();
        let bound = |bytes: Option<&[u8]>| {
            Some(Datum::try_from_bytes(bytes?, partition_type.clone()).ok()?.literal().clone())
        };
        let lower = bound(summary.lower_bound.as_ref().map(|bytes| bytes.as_slice()))
            .and_then(|value| source_bounds(field.transform, &value, column.data_type).0);
        let upper = bound(summary.upper_bound.as_ref().map(|bytes| bytes.as_slice()))
            .and_then(|value| source_bounds(field.transform, &value, column.data_type).1);
        let may_hold_nan = column.data_type.is_floating() && summary.contains_nan != Some(false);
        Some((lower, upper.filter(|_| !may_hold_nan)))
    }

    fn array(&self, column: &Column, side: fn(Bounds) -> Option<ScalarValue>) -> Option<ArrayRef> {
        let column = pruned_column(self.schema, column)?;
        scalars(&column, self.manifests.iter().map(|manifest| self.bounds(manifest, &column).and_then(side)))
    }
}

impl PruningStatistics for ManifestStatistics<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.array(column, |(lower, _)| lower)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.array(column, |(_, upper)| upper)
    }

    fn num_containers(&self) -> usize {
        self.manifests.len()
    }

    fn null_counts(&self, _column: &Column) -> Option<ArrayRef> {
        None
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        None
    }

    fn contained(&self, _column: &Column, _values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}

fn partition_field(
    specs: &BTreeMap<i32, PartitionSpec>,
    spec_id: i32,
    source_id: i32,
) -> Option<(usize, &PartitionField)> {
    specs.get(&spec_id)?.fields().iter().enumerate().find(|(_, field)| field.source_id == source_id)
}
