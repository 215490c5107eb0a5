//! What waits in many partitions, in the order of its receipt: as if all of it had lain in one.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
};

use firn_stream::{Contents, Log, OffsetRange, Record, TopicPartition};
use futures::{StreamExt as _, TryStreamExt as _};

use crate::{AlertsError, engine::received_us};

/// Records of a partition that are read ahead: there may be hundreds of partitions.
const AHEAD: usize = 500;
/// Partitions whose first records are read at once.
const OPENED_AT_ONCE: usize = 8;

/// What lies behind each position.
pub(super) async fn left(
    log: &dyn Log,
    positions: &BTreeMap<TopicPartition, i64>,
) -> Result<BTreeMap<TopicPartition, OffsetRange>, AlertsError> {
    let mut ends: BTreeMap<&str, Vec<OffsetRange>> = BTreeMap::new();
    let mut left = BTreeMap::new();
    for (partition, start) in positions {
        let topic = partition.topic.as_str();
        if !ends.contains_key(topic) {
            let ranges = log.offsets(topic).await.map_err(AlertsError::stream("reading the ends"))?;
            ends.insert(topic, ranges);
        }
        let range = usize::try_from(partition.partition).ok().and_then(|at| ends.get(topic)?.get(at));
        let end = range.map_or(*start, |range| range.end);
        left.insert(partition.clone(), OffsetRange { start: *start, end });
    }
    Ok(left)
}

/// See the module.
pub(super) struct Backlog<'a> {
    sources: Vec<Source<'a>>,
    /// When the next record of each source was received, the first on top.
    heads: BinaryHeap<Reverse<(i64, usize)>>,
}

struct Source<'a> {
    partition: TopicPartition,
    contents: Contents<'a>,
    /// Records at and behind it are not ours.
    end: i64,
    until_us: i64,
    ready: VecDeque<Record>,
}

impl<'a> Backlog<'a> {
    /// What lies in these ranges, up to records received after `until_us`.
    pub(super) async fn open(
        log: &'a dyn Log,
        ranges: BTreeMap<TopicPartition, OffsetRange>,
        until_us: i64,
    ) -> Result<Self, AlertsError> {
        let source = |(partition, range): (TopicPartition, OffsetRange)| {
            let contents = Contents::new(log, partition.clone(), range).at_once(AHEAD);
            Source { partition, contents, end: range.end, until_us, ready: VecDeque::new() }
        };
        let sources = ranges.into_iter().map(source);
        let filled: Vec<_> = sources.map(Source::filled).collect();
        let sources: Vec<Source<'a>> =
            futures::stream::iter(filled).buffered(OPENED_AT_ONCE).try_collect().await?;
        let heads =
            sources.iter().enumerate().filter_map(|(at, source)| Some(Reverse((source.head_us()?, at))));
        Ok(Self { heads: heads.collect(), sources })
    }

    /// The record that was received first of those left, and where it lies.
    pub(super) async fn next(&mut self) -> Result<Option<(TopicPartition, Record)>, AlertsError> {
        let Some(Reverse((_, at))) = self.heads.pop() else { return Ok(None) };
        let source = &mut self.sources[at];
        let Some(record) = source.ready.pop_front() else { return Ok(None) };
        if source.ready.is_empty() {
            source.fill().await?;
        }
        if let Some(head_us) = source.head_us() {
            self.heads.push(Reverse((head_us, at)));
        }
        Ok(Some((source.partition.clone(), record)))
    }
}

impl Source<'_> {
    /// When the next record was received, if there is one that is ours.
    fn head_us(&self) -> Option<i64> {
        self.ready.front().map(received_us).filter(|received_us| *received_us <= self.until_us)
    }

    async fn filled(mut self) -> Result<Self, AlertsError> {
        self.fill().await.map(|()| self)
    }

    async fn fill(&mut self) -> Result<(), AlertsError> {
        let records = self.contents.next().await.map_err(AlertsError::stream("reading the backlog"))?;
        self.ready.extend(records.into_iter().flatten().filter(|record| record.offset < self.end));
        Ok(())
    }
}
