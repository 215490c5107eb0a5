//! Which records a table has already.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use arrow::{
    array::AsArray,
    datatypes::{Int32Type, Int64Type},
};
use datafusion::{
    error::DataFusionError,
    prelude::{Expr, SessionContext, col, lit},
};
use firn_table::{Table, TableScan};

use super::ReplayError;

/// Topic id, partition and offset.
pub(super) type Place = (String, i32, i64);

/// Those of `places` that are rows of `table`. Files are chosen by the range of offsets in each partition of a topic.
pub(super) async fn present(table: &Table, places: &[Place]) -> Result<HashSet<Place>, ReplayError> {
    let mut ranges: BTreeMap<(&str, i32), (i64, i64)> = BTreeMap::new();
    for (topic_id, partition, offset) in places {
        let range = ranges.entry((topic_id, *partition)).or_insert((*offset, *offset));
        *range = (range.0.min(*offset), range.1.max(*offset));
    }
    let mut found = HashSet::new();
    let scan = Arc::new(TableScan::new(table, None).await?);
    for ((topic_id, partition), (first, last)) in ranges {
        let within = col("log_topic_id")
            .eq(lit(topic_id))
            .and(col("log_partition").eq(lit(partition)))
            .and(col("log_offset").between(lit(first), lit(last)));
        for (partition, offset) in rows(Arc::clone(&scan), within).await.map_err(unreadable)? {
            found.insert((topic_id.to_owned(), partition, offset));
        }
    }
    let wanted: HashSet<&Place> = places.iter().collect();
    found.retain(|place| wanted.contains(place));
    Ok(found)
}

async fn rows(scan: Arc<TableScan>, within: Expr) -> Result<Vec<(i32, i64)>, DataFusionError> {
    let context = SessionContext::new();
    let frame = context.read_table(scan)?.filter(within)?.select_columns(&["log_partition", "log_offset"])?;
    let mut places = Vec::new();
    for batch in frame.collect().await? {
        let partitions = batch.column(0).as_primitive::<Int32Type>();
        let offsets = batch.column(1).as_primitive::<Int64Type>();
        places.extend(partitions.values().iter().copied().zip(offsets.values().iter().copied()));
    }
    Ok(places)
}

pub(super) fn unreadable(error: DataFusionError) -> ReplayError {
    ReplayError::Later(format!("the table can't be read: {error}"))
}
