//! Where the newest row of each key is: found by reading keys, orders and places alone, so that whole rows are read of the
//! newest only.

use std::collections::HashMap;

use datafusion::{
    arrow::{
        array::{ArrayRef, RecordBatch},
        compute::SortOptions,
        datatypes::{DataType, Field, Schema, SchemaRef},
        error::ArrowError,
        row::{RowConverter, Rows, SortField},
    },
    common::{
        hash_utils::RandomState,
        tree_node::{TreeNode, TreeNodeRecursion},
    },
    dataframe::DataFrame,
    error::Result,
    execution::memory_pool::{MemoryConsumer, MemoryReservation},
    logical_expr::LogicalPlan,
};
use firn_table::{FILE_COLUMN, POSITION_COLUMN, PositionScan, RowPositions};
use futures::StreamExt;

use super::{columns::integers, latest::Newest, locate::named};

/// Bytes that a key takes beside its own and those of its order.
const ENTRY_BYTES: usize = 128;

/// A schema with the places of its rows.
pub(crate) fn with_places(schema: &Schema) -> SchemaRef {
    let place = |name| Field::new(name, DataType::Int64, false).into();
    let places = [FILE_COLUMN, POSITION_COLUMN].map(place);
    std::sync::Arc::new(Schema::new(schema.fields().iter().cloned().chain(places).collect::<Vec<_>>()))
}

/// The columns of its one input that `query` needs for keys, orders and places, these left out. `None` if a row of the query
/// doesn't stand for one row of the input whose place it tells: then the newest rows can't be found by place.
pub(crate) fn columns_for_places(query: &DataFrame, newest: Newest<'_>) -> Result<Option<Vec<String>>> {
    let mut is_plain = true;
    // With subqueries, which would see other rows the second time.
    query.logical_plan().apply_with_subqueries(|plan| {
        is_plain &= matches!(
            plan,
            LogicalPlan::Projection(_)
                | LogicalPlan::Filter(_)
                | LogicalPlan::SubqueryAlias(_)
                | LogicalPlan::TableScan(_)
        );
        Ok(TreeNodeRecursion::Continue)
    })?;
    let tells = |name: &str| query.schema().field_with_unqualified_name(name).is_ok();
    if !is_plain || !tells(FILE_COLUMN) || !tells(POSITION_COLUMN) {
        return Ok(None);
    }
    let mut columns = None;
    let narrow = narrow(query.clone(), newest)?.into_optimized_plan()?;
    narrow.apply(|plan| {
        if let LogicalPlan::TableScan(scan) = plan {
            let names = scan.projected_schema.fields().iter().map(|field| field.name().clone());
            columns =
                Some(names.filter(|name| ![FILE_COLUMN, POSITION_COLUMN].contains(&name.as_str())).collect());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(columns)
}

/// Keys, orders, and places.
fn narrow(query: DataFrame, newest: Newest<'_>) -> Result<DataFrame> {
    let names = newest.key.iter().chain(newest.order).map(String::as_str);
    query.select(names.chain([FILE_COLUMN, POSITION_COLUMN]).map(named))
}

/// The newest row known of a key.
struct Winner {
    order: Vec<u8>,
    file: i64,
    position: i64,
}

/// Places in `scan` of the newest row of each key among the rows of `query` over it. `None` if the keys don't fit into the memory
/// of queries.
pub(crate) async fn newest_places(
    query: DataFrame,
    newest: Newest<'_>,
    scan: &PositionScan,
) -> Result<Option<RowPositions>> {
    let pool = std::sync::Arc::clone(&query.task_ctx().runtime_env().memory_pool);
    let rows = narrow(query, newest)?;
    let types: Vec<_> = rows.schema().fields().iter().map(|field| field.data_type().clone()).collect();
    let mut winners = Winners::new(&types, newest, MemoryConsumer::new("newest rows").register(&pool))?;
    let mut rows = rows.execute_stream().await?;
    while let Some(batch) = rows.next().await {
        if !winners.add(&batch?)? {
            return Ok(None);
        }
    }
    let mut places = RowPositions::default();
    for winner in winners.by_key.into_values() {
        if let (Some(location), Ok(position)) = (scan.location(winner.file), u64::try_from(winner.position)) {
            places.insert(location, position);
        }
    }
    Ok(Some(places))
}

/// The newest rows so far, by keys in a form that compares as bytes.
struct Winners {
    keys: Columns,
    orders: Columns,
    /// Number of columns of keys, and of those and orders.
    ends: (usize, usize),
    by_key: HashMap<Box<[u8]>, Winner, RandomState>,
    memory: MemoryReservation,
}

/// Some columns of a batch, in a form that compares as bytes.
struct Columns {
    converter: RowConverter,
    rows: Rows,
}

impl Columns {
    fn new(types: &[DataType]) -> Result<Self, ArrowError> {
        // A null is older than any value.
        let options = SortOptions { descending: false, nulls_first: true };
        let fields = types.iter().map(|data_type| SortField::new_with_options(data_type.clone(), options));
        let converter = RowConverter::new(fields.collect())?;
        let rows = converter.empty_rows(0, 0);
        Ok(Self { converter, rows })
    }

    fn read(&mut self, columns: &[ArrayRef]) -> Result<(), ArrowError> {
        self.rows.clear();
        self.converter.append(&mut self.rows, columns)
    }
}

impl Winners {
    fn new(types: &[DataType], newest: Newest<'_>, memory: MemoryReservation) -> Result<Self, ArrowError> {
        let ends = (newest.key.len(), newest.key.len() + newest.order.len());
        let (keys, orders) = (Columns::new(&types[..ends.0])?, Columns::new(&types[ends.0..ends.1])?);
        Ok(Self { keys, orders, ends, by_key: HashMap::with_hasher(RandomState::default()), memory })
    }

    /// Takes rows of keys, orders, file and position; `false` if there is no memory for more keys.
    fn add(&mut self, batch: &RecordBatch) -> Result<bool> {
        let (columns, (keys_end, orders_end)) = (batch.columns(), self.ends);
        self.keys.read(&columns[..keys_end])?;
        self.orders.read(&columns[keys_end..orders_end])?;
        let (files, positions) = (integers(&columns[orders_end])?, integers(&columns[orders_end + 1])?);
        for row in 0..batch.num_rows() {
            let (key, order) = (self.keys.rows.row(row), self.orders.rows.row(row));
            let (file, position) = (files.value(row), positions.value(row));
            match self.by_key.get_mut(key.data()) {
                Some(known) => {
                    if order.data() > known.order.as_slice() {
                        known.order.clear();
                        known.order.extend_from_slice(order.data());
                        (known.file, known.position) = (file, position);
                    }
                }
                None => {
                    let bytes = key.data().len() + order.data().len() + ENTRY_BYTES;
                    if self.memory.try_grow(bytes).is_err() {
                        return Ok(false);
                    }
                    let winner = Winner { order: order.data().to_vec(), file, position };
                    self.by_key.insert(key.data().into(), winner);
                }
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use datafusion::{
        arrow::array::{Int64Array, StringArray},
        datasource::empty::EmptyTable,
        execution::memory_pool::{GreedyMemoryPool, MemoryPool},
        prelude::SessionContext,
    };

    use super::*;

    fn key_and_order() -> ([String; 1], [String; 2]) {
        (["host_id".to_owned()], ["event_time".to_owned(), "log_offset".to_owned()])
    }

    /// Host, event time, offset; the places follow from the row.
    fn batch(rows: &[(&str, Option<i64>, i64)]) -> RecordBatch {
        let numbers = |values: Vec<Option<i64>>| Arc::new(Int64Array::from(values)) as ArrayRef;
        let columns: [(&str, ArrayRef); 5] = [
            ("host_id", Arc::new(rows.iter().map(|row| Some(row.0)).collect::<StringArray>())),
            ("event_time", numbers(rows.iter().map(|row| row.1).collect())),
            ("log_offset", numbers(rows.iter().map(|row| Some(row.2)).collect())),
            (FILE_COLUMN, numbers(vec![Some(0); rows.len()])),
            (POSITION_COLUMN, numbers((0..rows.len()).map(|row| i64::try_from(row).ok()).collect())),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    fn winners(batch: &RecordBatch, memory_bytes: usize) -> Winners {
        let (key, order) = key_and_order();
        let types: Vec<_> = batch.columns().iter().map(|column| column.data_type().clone()).collect();
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(memory_bytes));
        let memory = MemoryConsumer::new("test").register(&pool);
        Winners::new(&types, Newest { key: &key, order: &order }, memory).unwrap()
    }

    #[test]
    fn the_last_by_order_wins_null_loses_and_of_equals_the_first_stays() {
        let rows =
            [("a", Some(5), 1), ("b", Some(1), 0), ("a", None, 9), ("a", Some(5), 3), ("b", Some(1), 0)];
        let batch = batch(&rows);
        let mut winners = winners(&batch, 1 << 20);
        assert!(winners.add(&batch).unwrap());
        let mut positions: Vec<_> = winners.by_key.values().map(|winner| winner.position).collect();
        positions.sort_unstable();
        assert_eq!(positions, [1, 3]);
    }

    #[test]
    fn keys_beyond_the_memory_are_left_to_the_query() {
        let batch = batch(&[("a", Some(1), 1), ("b", Some(1), 2)]);
        assert!(!winners(&batch, 200).add(&batch).unwrap());
    }

    #[tokio::test]
    async fn only_queries_whose_rows_are_rows_of_the_input_tell_places() {
        let session = SessionContext::new();
        let columns = Schema::new(
            ["host_id", "os", "event_time", "log_offset"]
                .map(|name| Field::new(name, DataType::Int64, true))
                .to_vec(),
        );
        session.register_table("t", Arc::new(EmptyTable::new(with_places(&columns)))).unwrap();
        let (key, order) = key_and_order();
        let newest = Newest { key: &key, order: &order };
        let mut found = Vec::new();
        for sql in [
            "SELECT *, os + 1 AS next FROM t WHERE os > 1",
            "SELECT * FROM t",
            "SELECT host_id, event_time, log_offset FROM t",
            "SELECT * FROM t UNION ALL SELECT * FROM t",
        ] {
            let query = session.sql(sql).await.unwrap();
            found.push(columns_for_places(&query, newest).unwrap().map(|columns| columns.join(" ")));
        }
        let narrow = Some("host_id event_time log_offset".to_owned());
        let with_filter = Some("host_id os event_time log_offset".to_owned());
        assert_eq!(found, [with_filter, narrow, None, None]);
    }
}
