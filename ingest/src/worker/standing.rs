//! Where a tenant stands in the log: the positions in its table beside what the log holds.

use std::collections::{BTreeMap, BTreeSet};

use firn_catalog_client::{ClientError, iceberg::TableIdent};
use firn_inventory::tables::{BRONZE_INVENTORY, INVENTORY_TOPIC};
use firn_stream::{OffsetRange, StreamError};
use firn_table::{Table, TableError, TableErrorKind};
use serde::{Deserialize, Serialize};

use super::{BRANCH, GROUP, Worker, positions, tables::ident};

/// Answer of `GET /v1/tenants/{tenant}/ingest/positions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = PositionsStanding)]
pub struct Standing {
    /// Tenant.
    pub tenant: String,
    /// Topic.
    pub topic: String,
    /// Its id; absent if there is no such topic.
    pub topic_id: Option<String>,
    /// By partition.
    pub partitions: Vec<PartitionStanding>,
    /// Records behind the tenant's positions, of all tenants.
    pub lag_records: u64,
    /// What a person must look at, and the way out.
    pub problems: Vec<String>,
}

/// One partition's line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PartitionStanding {
    /// Partition.
    pub partition: i32,
    /// Next offset that the tenant takes, as its table says; absent if it has taken none.
    pub position: Option<i64>,
    /// Next offset that the group reads after a restart: everything below is in some tenant's tables.
    pub group_offset: Option<i64>,
    /// First offset that the log holds.
    pub log_start: i64,
    /// Next offset to be written.
    pub log_end: i64,
    /// Records from the higher of position and group's offset to the end of the log, of all tenants.
    pub lag_records: u64,
}

/// Why it can't be told.
#[derive(Debug, thiserror::Error)]
pub(super) enum StandingError {
    #[error(transparent)]
    Log(#[from] StreamError),
    #[error(transparent)]
    Table(#[from] TableError),
    /// Also that there is no such tenant.
    #[error(transparent)]
    Catalog(#[from] ClientError),
}

/// Asks catalog and log.
pub(super) async fn standing(worker: &Worker, tenant: &str) -> Result<Standing, StandingError> {
    worker.catalog.tenant(tenant).tenant().await?;
    let properties = properties(worker, tenant, ident(BRONZE_INVENTORY)).await?;
    let mut answer = Standing {
        tenant: tenant.to_owned(),
        topic: INVENTORY_TOPIC.to_owned(),
        topic_id: None,
        partitions: Vec::new(),
        lag_records: 0,
        problems: Vec::new(),
    };
    let Some(topic) = worker.log.topic(INVENTORY_TOPIC).await? else {
        answer.problems.push(format!("the log has no topic {INVENTORY_TOPIC}; a worker creates it"));
        return Ok(answer);
    };
    let positions = positions::read(&properties, &topic.id, BRONZE_INVENTORY).unwrap_or_else(|error| {
        answer.problems.push(error.to_string());
        BTreeMap::new()
    });
    let ranges = worker.log.offsets(INVENTORY_TOPIC).await?;
    let committed = worker.log.committed(GROUP, INVENTORY_TOPIC).await?;
    for (partition, range) in (0_i32..).zip(ranges) {
        let group_offset =
            usize::try_from(partition).ok().and_then(|index| committed.get(index).copied().flatten());
        let line = line(partition, range, positions.get(&partition).copied(), group_offset);
        answer.problems.extend(problem(&line));
        answer.lag_records += line.lag_records;
        answer.partitions.push(line);
    }
    let known: BTreeSet<i32> = answer.partitions.iter().map(|line| line.partition).collect();
    for partition in positions.keys().filter(|partition| !known.contains(partition)) {
        answer.problems.push(format!(
            "the table has a position in partition {partition}, which topic {INVENTORY_TOPIC} doesn't have"
        ));
    }
    answer.topic_id = Some(topic.id);
    Ok(answer)
}

/// Those of `bronze.inventory`; none if there is no table yet.
async fn properties(
    worker: &Worker,
    tenant: &str,
    table: TableIdent,
) -> Result<BTreeMap<String, String>, TableError> {
    let client = worker.catalog.tenant(tenant);
    match Table::load(&client, &worker.file_io, BRANCH, &table).await {
        Ok(table) => Ok(table.properties()),
        Err(error) if error.kind == TableErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(error),
    }
}

fn line(
    partition: i32,
    range: OffsetRange,
    position: Option<i64>,
    group_offset: Option<i64>,
) -> PartitionStanding {
    let from = position.max(group_offset).unwrap_or(range.start);
    PartitionStanding {
        partition,
        position,
        group_offset,
        log_start: range.start,
        log_end: range.end,
        lag_records: u64::try_from(range.end - from).unwrap_or(0),
    }
}

fn problem(line: &PartitionStanding) -> Option<String> {
    let (partition, start, end) = (line.partition, line.log_start, line.log_end);
    let from = line.position.max(line.group_offset)?;
    if from < start {
        let lost = start - from;
        return Some(format!(
            "partition {partition}: {lost} records from offset {from} on were dropped from the log before they were \
             taken; restore the log, or set the group's offset to {start} to accept the loss"
        ));
    }
    (from > end).then(|| {
        format!(
            "partition {partition}: taken up to offset {from}, but the log ends at {end}: it was replaced by an older \
             one; restore the log, or move the topic away so that it is made anew"
        )
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn lag_counts_from_the_higher_of_position_and_group() {
        let range = OffsetRange { start: 10, end: 100 };
        let lag = |position, group| line(0, range, position, group).lag_records;
        assert_eq!(lag(None, None), 90, "from the beginning");
        assert_eq!(lag(Some(40), None), 60);
        assert_eq!(lag(Some(40), Some(95)), 5, "others' records lie between");
        assert_eq!(lag(Some(100), Some(95)), 0);
    }

    #[test]
    fn lost_and_replaced_records_are_problems_with_a_way_out() {
        let of = |position| problem(&line(3, OffsetRange { start: 10, end: 100 }, position, None));
        assert_eq!((of(None), of(Some(10)), of(Some(100))), (None, None, None));
        assert!(of(Some(4)).unwrap().contains("partition 3: 6 records from offset 4 on were dropped"));
        assert!(of(Some(101)).unwrap().contains("the log ends at 100"));
    }
}
