//! A group's member: joins, claims partitions, reads them in turn.

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use tokio::{sync::watch, time::Instant};

use super::{
    batch::{Claimed, Membership},
    groups::Step,
    readers,
    writer::Core,
};
use crate::{Consumer, Event, OffsetRange, StreamError, StreamErrorKind, SubscribeOptions, TopicPartition};

/// How often a waiting member looks after the group, at least: for others that hang.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct EmbeddedConsumer {
    core: Arc<Core>,
    options: SubscribeOptions,
    membership: Membership,
    changes: watch::Receiver<u64>,
    /// Partition numbers that are ours, for all topics.
    held: BTreeSet<i32>,
    /// Next offset to deliver.
    positions: BTreeMap<TopicPartition, i64>,
    paused: HashSet<TopicPartition>,
    /// Where the last records came from: the next partition in order has its turn.
    last: Option<TopicPartition>,
}

impl EmbeddedConsumer {
    pub(super) fn join(core: Arc<Core>, options: SubscribeOptions) -> Result<Self, StreamError> {
        let membership = join(&core, &options)?;
        let changes = core.changes();
        Ok(Self {
            core,
            options,
            membership,
            changes,
            held: BTreeSet::new(),
            positions: BTreeMap::new(),
            paused: HashSet::new(),
            last: None,
        })
    }

    pub(super) fn membership(&self) -> Membership {
        self.membership.clone()
    }

    /// Does what the group wants of us; an event if that changed our partitions.
    async fn rebalance(&mut self) -> Result<Option<Event>, StreamError> {
        let Membership { group, member } = &self.membership;
        match self.core.with_groups(|groups| groups.step(group, *member, &self.held, Instant::now())) {
            Step::Steady => Ok(None),
            Step::Revoke(numbers) => {
                self.core.wake();
                Ok(Some(self.revoked(&numbers)))
            }
            Step::Claim(numbers) => self.claim(numbers).await,
            Step::Evicted => {
                self.membership = join(&self.core, &self.options)?;
                let numbers: Vec<i32> = self.held.iter().copied().collect();
                Ok((!numbers.is_empty()).then(|| self.revoked(&numbers)))
            }
            Step::Replaced => Err(StreamError::new(
                StreamErrorKind::Fenced,
                format!(
                    "another member of group {group} took the instance id {}: stop this one",
                    self.options.instance_id.as_deref().unwrap_or_default()
                ),
            )),
        }
    }

    fn revoked(&mut self, numbers: &[i32]) -> Event {
        self.held.retain(|number| !numbers.contains(number));
        self.paused.retain(|partition| !numbers.contains(&partition.partition));
        let lost: Vec<TopicPartition> = self
            .positions
            .keys()
            .filter(|partition| numbers.contains(&partition.partition))
            .cloned()
            .collect();
        self.positions.retain(|partition, _| !numbers.contains(&partition.partition));
        Event::Revoked(lost)
    }

    async fn claim(&mut self, numbers: Vec<i32>) -> Result<Option<Event>, StreamError> {
        let (by, topics, from_beginning) =
            (self.membership.clone(), self.options.topics.clone(), self.options.from_beginning);
        let claimed = self
            .core
            .submit(0, move |batch| batch.claim(&by, &topics, &numbers, from_beginning).map(Ok))
            .await?;
        let mut assigned = Vec::new();
        for Claimed { number, starts } in claimed {
            self.held.insert(number);
            for start in starts {
                self.positions.insert(start.partition.clone(), start.offset);
                assigned.push(start);
            }
        }
        Ok((!assigned.is_empty()).then_some(Event::Assigned(assigned)))
    }

    /// The records of the next partition in turn that has some.
    async fn fetch(&mut self, max_records: usize) -> Result<Option<Event>, StreamError> {
        for partition in self.turn() {
            let Some(position) = self.positions.get(&partition).copied() else { continue };
            let (slot, range) = {
                let layout = self.core.layout();
                let slot = layout.slot_of(&partition)?;
                (slot, layout.slot(slot).range())
            };
            if position < range.start || position > range.end {
                let TopicPartition { topic, partition } = &partition;
                return Err(StreamError::truncated(topic, *partition, position, range.start, range.end));
            }
            if position == range.end {
                continue;
            }
            let (number, ahead) = (partition.partition, OffsetRange { start: position, ..range });
            let records = self
                .core
                .readers
                .run(move |connection| readers::records(connection, slot, number, ahead, max_records))
                .await?;
            // Nothing: compaction dropped all that was left, and the end is the next place to look.
            let next = records.last().map_or(range.end, |record| record.offset + 1);
            self.positions.insert(partition.clone(), next);
            if !records.is_empty() {
                self.last = Some(partition.clone());
                return Ok(Some(Event::Records(partition, records)));
            }
        }
        Ok(None)
    }

    /// Our partitions that are not paused, beginning after the last one read.
    fn turn(&self) -> Vec<TopicPartition> {
        let ready = |partition: &&TopicPartition| !self.paused.contains(*partition);
        let (before, after): (Vec<_>, Vec<_>) = self
            .positions
            .keys()
            .filter(ready)
            .cloned()
            .partition(|partition| self.last.as_ref().is_some_and(|last| partition <= last));
        after.into_iter().chain(before).collect()
    }

    fn check_held(&self, partition: &TopicPartition) -> Result<(), StreamError> {
        if self.positions.contains_key(partition) {
            return Ok(());
        }
        Err(StreamError::not_owner(&self.membership.group, &partition.topic, partition.partition))
    }
}

fn join(core: &Core, options: &SubscribeOptions) -> Result<Membership, StreamError> {
    if options.topics.is_empty() {
        return Err(StreamError::new(
            StreamErrorKind::Config,
            format!("group {} needs a topic", options.group),
        ));
    }
    let mut partitions = 0;
    for topic in &options.topics {
        partitions = partitions.max(core.layout().entry(topic)?.slots.len());
    }
    let instance_id = options.instance_id.as_deref();
    let member = core.with_groups(|groups| {
        groups.join(&options.group, &options.topics, partitions, instance_id, Instant::now())
    })?;
    core.wake();
    Ok(Membership { group: options.group.clone(), member })
}

#[async_trait]
impl Consumer for EmbeddedConsumer {
    async fn poll(&mut self, max_records: usize, max_wait: Duration) -> Result<Option<Event>, StreamError> {
        let deadline = Instant::now() + max_wait;
        loop {
            self.changes.mark_unchanged();
            if let Some(event) = self.rebalance().await? {
                return Ok(Some(event));
            }
            if let Some(event) = self.fetch(max_records).await? {
                return Ok(Some(event));
            }
            let now = Instant::now();
            if now >= deadline {
                return Ok(None);
            }
            // Either way the loop looks again.
            let _ = tokio::time::timeout_at(deadline.min(now + HEARTBEAT), self.changes.changed()).await;
        }
    }

    async fn seek(&mut self, partition: &TopicPartition, offset: i64) -> Result<(), StreamError> {
        self.check_held(partition)?;
        self.positions.insert(partition.clone(), offset);
        Ok(())
    }

    async fn commit(&mut self, offsets: &[(TopicPartition, i64)]) -> Result<(), StreamError> {
        let (by, offsets) = (self.membership.clone(), offsets.to_vec());
        self.core.submit(0, move |batch| batch.commit_offsets(&by, &offsets)).await
    }

    async fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), StreamError> {
        partitions.iter().try_for_each(|partition| self.check_held(partition))?;
        self.paused.extend(partitions.iter().cloned());
        Ok(())
    }

    async fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), StreamError> {
        partitions.iter().try_for_each(|partition| self.check_held(partition))?;
        for partition in partitions {
            self.paused.remove(partition);
        }
        Ok(())
    }

    async fn close(self: Box<Self>) {
        // Dropping leaves the group.
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for EmbeddedConsumer {
    fn drop(&mut self) {
        let Membership { group, member } = &self.membership;
        self.core.with_groups(|groups| groups.leave(group, *member));
        self.core.wake();
    }
}
