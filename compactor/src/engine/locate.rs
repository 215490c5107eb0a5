//! Finding the rows of a table that belong to some keys.

use datafusion::{
    arrow::{
        array::{Array, Int64Array, RecordBatch},
        datatypes::DataType,
    },
    common::{Column, NullEquality},
    dataframe::DataFrame,
    error::Result,
    functions_aggregate::expr_fn::{count, max, min},
    logical_expr::{Expr, JoinType, LogicalPlanBuilder, col, lit},
    prelude::SessionContext,
    scalar::ScalarValue,
};
use firn_table::{FILE_COLUMN, POSITION_COLUMN, PositionScan, RowPositions, Table};
use futures::StreamExt;

use super::columns::integers;
use crate::CompactorError;

/// Joins by columns; null equals null. Columns of both sides must have different names where both are kept.
pub(crate) fn join(
    left: DataFrame,
    right: DataFrame,
    kind: JoinType,
    (left_key, right_key): (&[String], &[String]),
) -> Result<DataFrame> {
    let (state, left) = left.alias("l")?.into_parts();
    let right = right.alias("r")?.into_parts().1;
    let columns =
        |side: &str, key: &[String]| key.iter().map(|name| Column::new(Some(side), name)).collect::<Vec<_>>();
    let keys = (columns("l", left_key), columns("r", right_key));
    let plan = LogicalPlanBuilder::from(left)
        .join_detailed(right, kind, keys, None, NullEquality::NullEqualsNull)?
        .build()?;
    Ok(DataFrame::new(state, plan))
}

/// Columns by name, whatever table they are of.
pub(crate) fn named(name: &str) -> Expr {
    col(Column::new_unqualified(name))
}

/// Where the rows of `table` are whose `key` columns are among the rows of `keys`, which are held in memory; `None` if it has
/// rows that are deleted by equality, so that rows have no place.
pub(crate) async fn locate(
    session: &SessionContext,
    table: &Table,
    key: &[String],
    keys: &DataFrame,
) -> Result<Option<RowPositions>, CompactorError> {
    let failed = |error| CompactorError::query(table.ident(), &error);
    let columns: Vec<_> = key.iter().map(String::as_str).collect();
    let filters = ranges(key, keys).await.map_err(failed)?;
    let Some(scan) = PositionScan::new(table, session, &columns, &filters).await? else { return Ok(None) };
    let found = async {
        let rows = session.read_table(scan.provider()?)?;
        let found = join(rows, keys.clone(), JoinType::LeftSemi, (key, key))?
            .select(vec![named(FILE_COLUMN), named(POSITION_COLUMN)])?;
        let (mut found, mut positions) = (found.execute_stream().await?, RowPositions::default());
        while let Some(batch) = found.next().await {
            collect(&batch?, &scan, &mut positions)?;
        }
        Ok(positions)
    };
    found.await.map(Some).map_err(failed)
}

/// Adds the places of a batch's rows; rows without one are passed over.
pub(crate) fn collect(batch: &RecordBatch, scan: &PositionScan, positions: &mut RowPositions) -> Result<()> {
    let schema = batch.schema();
    let column = |name: &str| -> Result<Int64Array> { Ok(integers(batch.column(schema.index_of(name)?))?) };
    let (files, places) = (column(FILE_COLUMN)?, column(POSITION_COLUMN)?);
    for row in (0..batch.num_rows()).filter(|row| files.is_valid(*row)) {
        let location = scan.location(files.value(row));
        if let (Some(location), Ok(position)) = (location, u64::try_from(places.value(row))) {
            positions.insert(location, position);
        }
    }
    Ok(())
}

/// Filters that leave out files without any of the keys.
pub(crate) async fn ranges(key: &[String], keys: &DataFrame) -> Result<Vec<Expr>> {
    let sortable = |name: &&String| {
        let schema = keys.schema().as_arrow();
        let data_type = schema.field_with_name(name).map(|field| field.data_type().clone());
        data_type.is_ok_and(|data_type| {
            data_type.is_integer()
                || matches!(
                    data_type,
                    DataType::Utf8 | DataType::Utf8View | DataType::Timestamp(..) | DataType::Date32
                )
        })
    };
    let names: Vec<_> = key.iter().filter(sortable).collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let mut wanted = vec![count(lit(1)).alias("rows")];
    for (index, name) in names.iter().enumerate() {
        wanted.push(min(named(name)).alias(format!("low_{index}")));
        wanted.push(max(named(name)).alias(format!("high_{index}")));
        wanted.push(count(named(name)).alias(format!("values_{index}")));
    }
    let found = keys.clone().aggregate(Vec::new(), wanted)?.collect().await?;
    let Some(batch) = found.iter().find(|batch| batch.num_rows() == 1) else { return Ok(Vec::new()) };
    let value = |index: usize| ScalarValue::try_from_array(batch.column(index), 0);
    let rows = value(0)?;
    let mut filters = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let (low, high, values) = (value(1 + 3 * index)?, value(2 + 3 * index)?, value(3 + 3 * index)?);
        // A null among the keys may be in any file.
        if values == rows && !low.is_null() {
            filters.push(named(name).between(lit(low), lit(high)));
        }
    }
    Ok(filters)
}
