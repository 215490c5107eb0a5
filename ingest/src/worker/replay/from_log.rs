//! From the log onto a branch.

use std::{
    collections::{BTreeMap, HashSet},
    time::{Duration, Instant},
};

use firn_inventory::tables::INVENTORY_TOPIC;
use firn_stream::{OffsetRange, Record, TopicPartition};
use tokio_util::sync::CancellationToken;

use super::{
    LeftRange, LogCursor, PartitionOffset, ReplayError, ReplayFrom, ReplayStep, STEP_BYTES, STEP_RECORDS,
    STEP_TIME,
    present::{Place, present},
    time::first_since,
};
use crate::worker::{
    Worker,
    address::{Taken, address},
    commit::{Base, Committer, Guard},
    directory::Directory,
    feed::INVENTORY,
};

/// Counts the replays' commits to a table: two replays at once can't both add what neither has seen of the other.
const REPLAYS: &str = "firn.replays";

/// Records read at once.
const READ_RECORDS: usize = 500;

/// Records are there already; only transaction markers make a reader wait.
const READ_WAIT: Duration = Duration::from_millis(500);

/// Where to begin.
pub(super) enum Begin {
    Offsets(Vec<PartitionOffset>),
    Time(i64),
}

/// Resolves the beginning to a range of offsets in each partition; reads nothing yet.
pub(super) async fn begin(
    worker: &Worker,
    tenant: &str,
    branch: &str,
    begin: Begin,
) -> Result<ReplayStep, ReplayError> {
    let log = worker.log.as_ref();
    let Some(topic) = log.topic(INVENTORY_TOPIC).await? else {
        return Err(ReplayError::Refused(format!(
            "the log has no topic {INVENTORY_TOPIC}: nothing to replay"
        )));
    };
    let ranges: BTreeMap<i32, OffsetRange> = (0..).zip(log.offsets(INVENTORY_TOPIC).await?).collect();
    let mut starts = BTreeMap::new();
    match begin {
        Begin::Offsets(offsets) => {
            for PartitionOffset { partition, offset } in offsets {
                check_offset(partition, offset, ranges.get(&partition).copied())?;
                starts.insert(partition, offset);
            }
        }
        Begin::Time(since_ms) => {
            for (partition, range) in &ranges {
                let start = first_since(log, &at(*partition), *range, since_ms).await?;
                starts.insert(*partition, start);
            }
        }
    }
    let positions = committer(worker, branch, &topic.id).base(tenant).await?.positions;
    let left = starts.into_iter().filter_map(|(partition, start)| {
        let range = ranges.get(&partition)?;
        // The branch's positions must not jump over records, so what lies between is read as well.
        let next = positions.get(&partition).map_or(start, |position| start.min(*position)).max(range.start);
        (next < range.end).then_some(LeftRange { partition, next, end: range.end })
    });
    let cursor = LogCursor { topic_id: topic.id, ranges: left.collect() };
    Ok(ReplayStep { next: rest(cursor), ..ReplayStep::default() })
}

fn check_offset(partition: i32, offset: i64, range: Option<OffsetRange>) -> Result<(), ReplayError> {
    let Some(range) = range else {
        return Err(ReplayError::Refused(format!("topic {INVENTORY_TOPIC} has no partition {partition}")));
    };
    if offset < range.start || offset > range.end {
        let (start, end) = (range.start, range.end);
        return Err(ReplayError::Refused(format!(
            "partition {partition}: the log holds offsets {start} to {end}, not {offset}"
        )));
    }
    Ok(())
}

/// Reads on, and commits what the branch lacks.
pub(super) async fn step(
    worker: &Worker,
    tenant: &str,
    branch: &str,
    mut cursor: LogCursor,
) -> Result<ReplayStep, ReplayError> {
    let topic = worker.log.topic(INVENTORY_TOPIC).await?;
    if topic.as_ref().map(|topic| topic.id.as_str()) != Some(cursor.topic_id.as_str()) {
        return Err(ReplayError::Refused(format!(
            "topic {INVENTORY_TOPIC} was recreated since the replay began: begin again"
        )));
    }
    let committer = committer(worker, branch, &cursor.topic_id);
    // Before anything is read, so that what others commit meanwhile makes this step fail.
    let base = committer.base(tenant).await?;
    let mut reading = Reading {
        worker,
        tenant,
        lake: &committer,
        directory: Directory::default(),
        records: Vec::new(),
        bytes: 0,
        read: 0,
    };
    let deadline = Instant::now() + STEP_TIME;
    for range in &mut cursor.ranges {
        while range.next < range.end && !reading.is_full() && Instant::now() < deadline {
            reading.read_on(range).await?;
        }
    }
    let Reading { records, read, .. } = reading;
    let found = u64::try_from(records.len()).unwrap_or(u64::MAX);
    let missing = missing(&committer, &base, records).await?;
    let present = found - u64::try_from(missing.len()).unwrap_or(u64::MAX);
    let guard = guard(&base);
    let committed = committer.append(&base, missing, Some(guard)).await?;
    cursor.ranges.retain(|range| range.next < range.end);
    Ok(ReplayStep {
        next: rest(cursor),
        read,
        inventory: committed.taken,
        quarantined: committed.quarantined,
        present,
    })
}

/// What a step has read.
struct Reading<'a> {
    worker: &'a Worker,
    tenant: &'a str,
    lake: &'a Committer,
    directory: Directory,
    records: Vec<Taken>,
    bytes: usize,
    read: u64,
}

impl Reading<'_> {
    fn is_full(&self) -> bool {
        self.records.len() >= STEP_RECORDS || self.bytes >= STEP_BYTES
    }

    async fn read_on(&mut self, range: &mut LeftRange) -> Result<(), ReplayError> {
        let log = &self.worker.log;
        let mut batch = log.read(&at(range.partition), range.next, READ_RECORDS, READ_WAIT).await?;
        let last = batch.last().map(|record| record.offset);
        batch.retain(|record| record.offset < range.end);
        // Nothing at or after `next` means that only markers are left of the range.
        range.next = last.map_or(range.end, |last| (last + 1).min(range.end));
        self.take(batch).await
    }

    async fn take(&mut self, batch: Vec<Record>) -> Result<(), ReplayError> {
        self.read += u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let addressed: Vec<_> = batch.into_iter().map(address).collect();
        let known = self.directory.know(self.lake, &addressed).await;
        known.map_err(|error| ReplayError::Later(error.to_string()))?;
        for (named, taken) in addressed {
            let (owner, taken) = self.directory.owner(named, taken);
            if owner == self.tenant {
                self.bytes += taken.memory_bytes();
                self.records.push(taken);
            }
        }
        Ok(())
    }
}

/// Those that are in neither of the branch's tables.
async fn missing(committer: &Committer, base: &Base, records: Vec<Taken>) -> Result<Vec<Taken>, ReplayError> {
    if records.is_empty() {
        return Ok(records);
    }
    let place = |taken: &Taken| (committer.topic_id.clone(), taken.partition, taken.offset);
    let places: Vec<Place> = records.iter().map(place).collect();
    let quarantine = committer.quarantine(&base.client).await?;
    let mut there: HashSet<Place> = present(&base.table, &places).await?;
    there.extend(present(&quarantine, &places).await?);
    Ok(records.into_iter().filter(|taken| !there.contains(&place(taken))).collect())
}

fn guard(base: &Base) -> Guard {
    let expected = base.table.properties().get(REPLAYS).cloned();
    let count = expected.as_ref().and_then(|count| count.parse::<u64>().ok()).unwrap_or(0);
    Guard { property: REPLAYS.to_owned(), expected, value: (count + 1).to_string() }
}

fn committer(worker: &Worker, branch: &str, topic_id: &str) -> Committer {
    Committer { feed: &INVENTORY, ..Committer::new(worker, branch, topic_id, CancellationToken::new()) }
}

fn rest(cursor: LogCursor) -> Option<ReplayFrom> {
    (!cursor.ranges.is_empty()).then_some(ReplayFrom::Rest(cursor))
}

fn at(partition: i32) -> TopicPartition {
    TopicPartition { topic: INVENTORY_TOPIC.to_owned(), partition }
}
