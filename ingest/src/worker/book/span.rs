//! Where records lie that were read and not kept: by partition, the first of them and how many.

use std::collections::BTreeMap;

use crate::worker::address::Taken;

/// Ranges of offsets by partition.
#[derive(Clone, Debug, Default)]
pub(super) struct Spans {
    by_partition: BTreeMap<i32, Span>,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    first: i64,
    /// Behind the last.
    end: i64,
    records: usize,
}

impl Spans {
    pub(super) fn of(records: &[Taken]) -> Self {
        let mut spans = Self::default();
        for taken in records {
            spans.add(taken.partition, taken.offset);
        }
        spans
    }

    /// One more record; one that was seen before counts once.
    pub(super) fn add(&mut self, partition: i32, offset: i64) {
        self.join_one(partition, Span { first: offset, end: offset + 1, records: 1 });
    }

    /// All of `other` in the partitions that are wanted.
    pub(super) fn join(&mut self, other: Self, wanted: impl Fn(i32) -> bool) {
        for (partition, span) in other.by_partition.into_iter().filter(|(partition, _)| wanted(*partition)) {
            self.join_one(partition, span);
        }
    }

    pub(super) fn remove(&mut self, partition: i32) {
        self.by_partition.remove(&partition);
    }

    pub(super) fn has(&self, partition: i32) -> bool {
        self.by_partition.contains_key(&partition)
    }

    /// First offset by partition.
    pub(super) fn firsts(&self) -> impl Iterator<Item = (i32, i64)> {
        self.by_partition.iter().map(|(partition, span)| (*partition, span.first))
    }

    pub(super) fn records(&self) -> usize {
        self.by_partition.values().map(|span| span.records).sum()
    }

    fn join_one(&mut self, partition: i32, span: Span) {
        let Some(known) = self.by_partition.get_mut(&partition) else {
            self.by_partition.insert(partition, span);
            return;
        };
        let apart = span.first >= known.end || span.end <= known.first;
        known.records = if apart { known.records + span.records } else { known.records.max(span.records) };
        known.first = known.first.min(span.first);
        known.end = known.end.max(span.end);
    }
}
