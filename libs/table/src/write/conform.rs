//! Rows from outside in the table's own schema.

use arrow::{
    array::{Array, ArrayRef, RecordBatch},
    datatypes::{Field, SchemaRef},
    error::ArrowError,
};

use crate::{
    TableError, TableErrorKind,
    reshape::{MatchBy, missing, reshape},
};

pub(super) fn conform(
    batch: &RecordBatch,
    schema: &SchemaRef,
    table: &str,
) -> Result<RecordBatch, TableError> {
    let given = batch.schema();
    if let Some(unknown) = given.fields().iter().find(|field| schema.field_with_name(field.name()).is_err()) {
        let name = unknown.name();
        return Err(TableError::invalid(format!(
            "table {table} has no column '{name}'; add it first, or leave it out"
        )));
    }
    let columns =
        schema.fields().iter().map(|field| column(batch, field, table)).collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new(SchemaRef::clone(schema), columns).map_err(|error| {
        TableError::caused(TableErrorKind::Invalid, format!("rows do not fit table {table}"), error)
    })
}

fn column(batch: &RecordBatch, field: &Field, table: &str) -> Result<ArrayRef, TableError> {
    let name = field.name();
    let misfit = |error: ArrowError| {
        let context = format!("column '{name}' does not fit table {table}: {error}");
        TableError::caused(TableErrorKind::Invalid, context, error)
    };
    let array = match batch.column_by_name(name) {
        Some(given) => reshape(given, field, MatchBy::Name).map_err(misfit)?,
        None => missing(field, batch.num_rows()).map_err(misfit)?,
    };
    let nulls = array.logical_null_count();
    if !field.is_nullable() && nulls > 0 {
        return Err(TableError::invalid(format!(
            "column '{name}' of table {table} is required, but {nulls} of {} rows have no value",
            batch.num_rows()
        )));
    }
    Ok(array)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use arrow::{
        array::{Int32Array, Int64Array, StringArray},
        datatypes::{DataType, Schema},
    };

    use super::*;

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("host_id", DataType::Utf8, false),
            Field::new("disk_bytes", DataType::Int64, true),
        ]))
    }

    #[test]
    fn columns_are_matched_by_name_cast_and_filled() {
        let batch = RecordBatch::try_from_iter(vec![
            ("disk_bytes", Arc::new(Int32Array::from(vec![1, 2])) as ArrayRef),
            ("host_id", Arc::new(StringArray::from(vec!["a", "b"])) as ArrayRef),
        ])
        .unwrap();
        let conformed = conform(&batch, &schema(), "t").unwrap();
        assert_eq!(conformed.column(1).as_ref(), &Int64Array::from(vec![1, 2]) as &dyn Array);

        let conformed = conform(&batch.project(&[1]).unwrap(), &schema(), "t").unwrap();
        assert_eq!(conformed.column(1).null_count(), 2);
    }

    #[test]
    fn rows_that_do_not_fit_are_refused_by_column() {
        let without_host =
            RecordBatch::try_from_iter(vec![("disk_bytes", Arc::new(Int64Array::from(vec![1])) as ArrayRef)])
                .unwrap();
        let null_host = RecordBatch::try_from_iter(vec![(
            "host_id",
            Arc::new(StringArray::from(vec![None::<&str>])) as ArrayRef,
        )])
        .unwrap();
        let unknown = RecordBatch::try_from_iter(vec![
            ("host_id", Arc::new(StringArray::from(vec!["a"])) as ArrayRef),
            ("colour", Arc::new(StringArray::from(vec!["red"])) as ArrayRef),
        ])
        .unwrap();
        for (batch, column) in [(without_host, "host_id"), (null_host, "host_id"), (unknown, "colour")] {
            let error = conform(&batch, &schema(), "bronze.inventory").unwrap_err();
            assert_eq!(error.kind, TableErrorKind::Invalid);
            assert!(error.context.contains(column) && error.context.contains("bronze.inventory"), "{error}");
        }
    }
}
