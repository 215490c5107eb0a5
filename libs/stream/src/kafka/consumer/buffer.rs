//! Records taken from librdkafka and not yet delivered, and what is known of each partition's place.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use rdkafka::message::BorrowedMessage;

use crate::{Assigned, Event, OffsetRange, Record, StreamError, TopicPartition, kafka::record::received};

#[derive(Default)]
pub(super) struct Buffer {
    ready: VecDeque<(TopicPartition, Vec<Record>)>,
    /// Next offset of each partition, to see where records are missing.
    positions: HashMap<TopicPartition, i64>,
    paused: HashSet<TopicPartition>,
    /// Partitions whose records from the position on are gone, until a seek.
    truncated: BTreeMap<TopicPartition, StreamError>,
}

impl Buffer {
    /// Keeps a record until it is delivered; answers its bytes.
    pub(super) fn push(&mut self, message: &BorrowedMessage<'_>) -> usize {
        let (partition, record) = received(message);
        let bytes = record.payload_bytes();
        match self.ready.iter_mut().find(|(ready, _)| *ready == partition) {
            Some((_, records)) => records.push(record),
            None => self.ready.push_back((partition, vec![record])),
        }
        bytes
    }

    pub(super) fn assigned(&mut self, assigned: &Assigned) {
        self.place(&assigned.partition, assigned.offset, assigned.range);
    }

    pub(super) fn revoked(&mut self, partition: &TopicPartition) {
        self.ready.retain(|(ready, _)| ready != partition);
        self.positions.remove(partition);
        self.paused.remove(partition);
        self.truncated.remove(partition);
    }

    /// Drops what was fetched before a seek.
    pub(super) fn sought(&mut self, partition: &TopicPartition, offset: i64, range: OffsetRange) {
        self.ready.retain(|(ready, _)| ready != partition);
        self.truncated.remove(partition);
        self.place(partition, offset, range);
    }

    fn place(&mut self, partition: &TopicPartition, offset: i64, range: OffsetRange) {
        if offset < range.start || offset > range.end {
            self.lost(partition, offset, range);
        }
        self.positions.insert(partition.clone(), offset);
    }

    /// Notes that records from `offset` on are gone; the error says so until a seek.
    pub(super) fn lost(
        &mut self,
        partition: &TopicPartition,
        offset: i64,
        range: OffsetRange,
    ) -> StreamError {
        let error =
            StreamError::truncated(&partition.topic, partition.partition, offset, range.start, range.end);
        self.ready.retain(|(ready, _)| ready != partition);
        self.truncated.insert(partition.clone(), error.clone());
        error
    }

    pub(super) fn truncated(&self) -> Option<&StreamError> {
        self.truncated.values().next()
    }

    pub(super) fn pause(&mut self, partitions: &[TopicPartition]) {
        self.paused.extend(partitions.iter().cloned());
    }

    pub(super) fn resume(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.paused.remove(partition);
        }
    }

    /// The first partition with records that may be delivered; and where it stood, if records are missing before them.
    /// Those of partitions that aren't ours (`has`) are dropped.
    pub(super) fn first(
        &mut self,
        has: impl Fn(&TopicPartition) -> bool,
    ) -> Option<(TopicPartition, Option<i64>)> {
        self.ready.retain(|(partition, _)| has(partition) && !self.truncated.contains_key(partition));
        let (partition, records) =
            self.ready.iter().find(|(partition, _)| !self.paused.contains(partition))?;
        let next = records.first()?.offset;
        let expected = self.positions.get(partition).copied().filter(|expected| next > *expected);
        Some((partition.clone(), expected))
    }

    /// The records of a partition, which are delivered by that.
    pub(super) fn take(&mut self, partition: &TopicPartition) -> Option<Event> {
        let index = self.ready.iter().position(|(ready, _)| ready == partition)?;
        let (partition, records) = self.ready.remove(index)?;
        if let Some(last) = records.last() {
            self.positions.insert(partition.clone(), last.offset + 1);
        }
        Some(Event::Records(partition, records))
    }
}
