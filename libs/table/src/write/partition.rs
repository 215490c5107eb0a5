//! Splitting rows by partition.

use std::collections::HashMap;

use arrow::{
    array::{ArrayRef, RecordBatch, UInt32Array},
    compute::take_record_batch,
    datatypes::Schema,
    error::ArrowError,
    row::{RowConverter, SortField},
};
use iceberg::{
    arrow::arrow_primitive_to_literal,
    spec::{PartitionSpec, Schema as IcebergSchema, Struct, Type},
    transform::{BoxedTransformFunction, create_transform_function},
};

use crate::{TableError, TableErrorKind, schema::field_id, views::plain};

/// Computes partition values and groups rows by them.
pub(super) struct PartitionSplitter {
    columns: Vec<PartitionColumn>,
}

struct PartitionColumn {
    source_index: usize,
    transform: BoxedTransformFunction,
    result_type: Type,
}

impl PartitionColumn {
    /// Partition values of the source column's values.
    fn of(&self, source: &ArrayRef) -> Result<ArrayRef, TableError> {
        self.transform.transform(ArrayRef::clone(source)).map_err(|error| {
            TableError::caused(TableErrorKind::Invalid, "cannot compute partition values", error)
        })
    }
}

impl PartitionSplitter {
    pub(super) fn new(
        spec: &PartitionSpec,
        iceberg: &IcebergSchema,
        arrow: &Schema,
    ) -> Result<Self, TableError> {
        let unusable = |error: iceberg::Error| {
            TableError::caused(
                TableErrorKind::Unsupported,
                format!("cannot partition by spec {}", spec.spec_id()),
                error,
            )
        };
        let types = spec.partition_type(iceberg).map_err(unusable)?;
        let columns = spec
            .fields()
            .iter()
            .zip(types.fields())
            .map(|(field, result)| {
                let source_index = arrow
                    .fields()
                    .iter()
                    .position(|column| field_id(column) == Some(field.source_id))
                    .ok_or_else(|| {
                        TableError::unsupported(format!(
                            "partition field '{}' is of a nested column",
                            field.name
                        ))
                    })?;
                let transform = create_transform_function(&field.transform).map_err(unusable)?;
                Ok(PartitionColumn { source_index, transform, result_type: (*result.field_type).clone() })
            })
            .collect::<Result<Vec<_>, TableError>>()?;
        Ok(Self { columns })
    }

    /// The batch's rows by partition, in order of first appearance.
    pub(super) fn split(&self, batch: &RecordBatch) -> Result<Vec<(Struct, RecordBatch)>, TableError> {
        let values = self
            .columns
            .iter()
            // Transforms know no views.
            .map(|column| column.of(&plain(batch.column(column.source_index)).map_err(unsplittable)?))
            .collect::<Result<Vec<_>, _>>()?;
        let groups = group_rows(&values).map_err(unsplittable)?;
        if groups.len() == 1 {
            return Ok(vec![(self.partition_of(&values, 0)?, batch.clone())]);
        }
        groups
            .into_iter()
            .map(|rows| {
                let partition = self.partition_of(&values, rows[0] as usize)?;
                Ok((partition, take_record_batch(batch, &UInt32Array::from(rows)).map_err(unsplittable)?))
            })
            .collect()
    }

    fn partition_of(&self, values: &[ArrayRef], row: usize) -> Result<Struct, TableError> {
        let literal = |(column, array): (&PartitionColumn, &ArrayRef)| {
            Ok(arrow_primitive_to_literal(&array.slice(row, 1), &column.result_type)?.pop().flatten())
        };
        let literals =
            self.columns.iter().zip(values).map(literal).collect::<Result<Vec<_>, iceberg::Error>>();
        let literals = literals.map_err(|error| {
            TableError::caused(
                TableErrorKind::Unsupported,
                "a partition value has a type that is not supported",
                error,
            )
        })?;
        Ok(Struct::from_iter(literals))
    }
}

fn group_rows(values: &[ArrayRef]) -> Result<Vec<Vec<u32>>, ArrowError> {
    let fields = values.iter().map(|array| SortField::new(array.data_type().clone())).collect();
    let rows = RowConverter::new(fields)?.convert_columns(values)?;
    let mut numbers = HashMap::new();
    let mut groups: Vec<Vec<u32>> = Vec::new();
    let mut before = None;
    for (index, row) in (0u32..).zip(rows.iter()) {
        // Mostly a row is of the same partition as the one before, and then it need not be looked up.
        let number = match before {
            Some((same, number)) if same == row => number,
            _ => *numbers.entry(row).or_insert(groups.len()),
        };
        before = Some((row, number));
        if number == groups.len() {
            groups.push(Vec::new());
        }
        groups[number].push(index);
    }
    Ok(groups)
}

fn unsplittable(error: ArrowError) -> TableError {
    TableError::caused(TableErrorKind::Invalid, "cannot split rows by partition", error)
}
