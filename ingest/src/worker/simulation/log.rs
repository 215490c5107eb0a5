//! A log in memory with one group: a partition passes on only after its owner gave it up or was put out.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use firn_inventory::tables::INVENTORY_TOPIC;
use firn_stream::{
    Assigned, Consumer, Event, Log, OffsetRange, ProduceRecord, Record, StreamError, StreamErrorKind,
    SubscribeOptions, Topic, TopicPartition, TopicSpec, TransactionalProducer,
};
use tokio::sync::watch;

use super::outside::{Fate, Outside, State};

/// Id of the topic.
pub(super) const TOPIC_ID: &str = "simulated";

fn error(kind: StreamErrorKind, message: &str) -> StreamError {
    StreamError { kind, message: message.to_owned() }
}

fn away() -> StreamError {
    error(StreamErrorKind::Unavailable, "the log is away")
}

fn unused<T>() -> Result<T, StreamError> {
    Err(error(StreamErrorKind::Config, "the worker's loop doesn't ask this"))
}

fn at(partition: i32) -> TopicPartition {
    TopicPartition { topic: INVENTORY_TOPIC.to_owned(), partition }
}

fn count(records: usize) -> i64 {
    i64::try_from(records).unwrap_or(i64::MAX)
}

impl State {
    pub(super) fn partitions(&self) -> i32 {
        i32::try_from(self.log.len()).unwrap_or(i32::MAX)
    }

    pub(super) fn end(&self, partition: i32) -> i64 {
        usize::try_from(partition)
            .ok()
            .and_then(|index| self.log.get(index))
            .map_or(0, |log| count(log.len()))
    }

    /// Who should own a partition.
    fn heir(&self, partition: i32) -> Option<u64> {
        let turn = usize::try_from(partition).unwrap_or(0) % self.members.len().max(1);
        self.members.iter().nth(turn).copied()
    }

    fn join(&mut self) -> u64 {
        self.joined += 1;
        self.members.insert(self.joined);
        self.joined
    }

    /// A member is put out: others may have its partitions at once.
    pub(super) fn evict(&mut self, member: u64) {
        self.members.remove(&member);
        self.owners.retain(|_, owner| *owner != member);
    }
}

/// A worker's way to the log.
#[derive(Clone)]
pub(super) struct SimulatedLog {
    pub(super) outside: Outside,
    /// Whether the worker's process stands still.
    pub(super) stopped: watch::Receiver<bool>,
    /// The member that the worker is now.
    pub(super) member: Arc<watch::Sender<u64>>,
}

struct Member {
    log: SimulatedLog,
    id: u64,
    /// Next offsets of what it takes for its own.
    own: BTreeMap<i32, i64>,
    turn: i32,
}

#[async_trait]
impl Log for SimulatedLog {
    async fn ensure_topic(&self, _: &TopicSpec) -> Result<Topic, StreamError> {
        self.topic(INVENTORY_TOPIC).await?.ok_or_else(away)
    }

    async fn topics(&self) -> Result<Vec<String>, StreamError> {
        Ok(vec![INVENTORY_TOPIC.to_owned()])
    }

    async fn topic(&self, name: &str) -> Result<Option<Topic>, StreamError> {
        self.outside.travel().await;
        if self.outside.fails() {
            return Err(away());
        }
        let partitions = self.outside.state().partitions();
        Ok(Some(Topic { name: name.to_owned(), id: TOPIC_ID.to_owned(), partitions }))
    }

    async fn append(&self, _: Vec<ProduceRecord>) -> Vec<Result<(TopicPartition, i64), StreamError>> {
        vec![unused()]
    }

    async fn offsets(&self, _: &str) -> Result<Vec<OffsetRange>, StreamError> {
        self.outside.travel().await;
        if self.outside.fails() {
            return Err(away());
        }
        let state = self.outside.state();
        Ok(state.log.iter().map(|log| OffsetRange { start: 0, end: count(log.len()) }).collect())
    }

    async fn committed(&self, _: &str, _: &str) -> Result<Vec<Option<i64>>, StreamError> {
        unused()
    }

    async fn subscribe(&self, _: SubscribeOptions) -> Result<Box<dyn Consumer>, StreamError> {
        self.outside.travel().await;
        if self.outside.fails() {
            return Err(away());
        }
        let id = self.outside.state().join();
        self.member.send_replace(id);
        Ok(Box::new(Member { log: self.clone(), id, own: BTreeMap::new(), turn: 0 }))
    }

    async fn read(
        &self,
        _: &TopicPartition,
        _: i64,
        _: usize,
        _: Duration,
    ) -> Result<Vec<Record>, StreamError> {
        unused()
    }

    async fn transactional(&self, _: &str) -> Result<Box<dyn TransactionalProducer>, StreamError> {
        unused()
    }
}

impl Member {
    /// What the group has to say, or records; `None` if there is nothing.
    fn next(&mut self, max_records: usize) -> Option<Event> {
        let mut state = self.log.outside.state();
        if !state.members.contains(&self.id) {
            self.id = state.join();
            self.log.member.send_replace(self.id);
            let lost: Vec<_> = std::mem::take(&mut self.own).into_keys().map(at).collect();
            state.told.evictions += 1;
            if !lost.is_empty() {
                return Some(Event::Revoked(lost));
            }
        }
        let given: Vec<i32> =
            self.own.keys().copied().filter(|partition| state.heir(*partition) != Some(self.id)).collect();
        if !given.is_empty() {
            for partition in &given {
                self.own.remove(partition);
                state.owners.remove(partition);
            }
            return Some(Event::Revoked(given.into_iter().map(at).collect()));
        }
        let mut assigned = Vec::new();
        for partition in 0..state.partitions() {
            if state.heir(partition) == Some(self.id) && !state.owners.contains_key(&partition) {
                state.owners.insert(partition, self.id);
                let offset = state.committed.get(&partition).copied().unwrap_or(0);
                self.own.insert(partition, offset);
                let range = OffsetRange { start: 0, end: state.end(partition) };
                assigned.push(Assigned {
                    partition: at(partition),
                    topic_id: TOPIC_ID.to_owned(),
                    offset,
                    range,
                });
            }
        }
        if !assigned.is_empty() {
            state.told.assignments += 1;
            return Some(Event::Assigned(assigned));
        }
        let own = self.own.keys().copied();
        let (later, sooner): (Vec<i32>, Vec<i32>) = own.partition(|partition| *partition > self.turn);
        let next =
            later.into_iter().chain(sooner).find(|partition| self.own[partition] < state.end(*partition))?;
        self.turn = next;
        let position = self.own.get_mut(&next)?;
        let from = usize::try_from(*position).unwrap_or(usize::MAX);
        let records = state.log[usize::try_from(next).ok()?].iter().skip(from).take(max_records);
        let records: Vec<Record> = records.map(|sent| sent.record.clone()).collect();
        *position += count(records.len());
        Some(Event::Records(at(next), records))
    }

    fn owns(&self, state: &State, partition: &TopicPartition) -> bool {
        state.owners.get(&partition.partition) == Some(&self.id)
    }

    async fn goes_on(&mut self) {
        // A sender that is gone leaves nobody standing still.
        let _ = self.log.stopped.wait_for(|stopped| !stopped).await;
    }
}

#[async_trait]
impl Consumer for Member {
    async fn poll(&mut self, max_records: usize, max_wait: Duration) -> Result<Option<Event>, StreamError> {
        self.goes_on().await;
        self.log.outside.pause(Duration::from_millis(5)).await;
        if self.log.outside.fails() {
            return Err(away());
        }
        let some = usize::try_from(self.log.outside.below(max_records as u64)).unwrap_or(0) + 1;
        let next = self.next(some);
        if next.is_none() {
            self.log.outside.time.sleep(max_wait).await;
        }
        Ok(next)
    }

    async fn seek(&mut self, partition: &TopicPartition, offset: i64) -> Result<(), StreamError> {
        self.goes_on().await;
        if self.log.outside.below(10) == 0 && self.log.outside.fails() {
            return Err(away());
        }
        match self.own.get_mut(&partition.partition) {
            Some(position) => *position = offset,
            None => return Err(error(StreamErrorKind::Fenced, "not its partition")),
        }
        self.log.outside.state().told.seeks += 1;
        Ok(())
    }

    async fn commit(&mut self, offsets: &[(TopicPartition, i64)]) -> Result<(), StreamError> {
        self.goes_on().await;
        self.log.outside.travel().await;
        let fate = self.log.outside.fate();
        if fate == Fate::Refused {
            return Err(away());
        }
        let mut state = self.log.outside.state();
        if !offsets.iter().all(|(partition, _)| self.owns(&state, partition)) {
            return Err(error(StreamErrorKind::Fenced, "not its partition any more"));
        }
        for (TopicPartition { partition, .. }, offset) in offsets {
            let before = state.committed.get(partition).copied().unwrap_or(0);
            let [from, to] = [before, *offset].map(|offset| usize::try_from(offset).unwrap_or(usize::MAX));
            let records = state.log[usize::try_from(*partition).unwrap_or(0)].iter();
            let records = records.take(to).skip(from);
            let is_left =
                |tenant: &str, offset: i64| !state.tables[tenant].rows.contains(&(*partition, offset));
            let left = records.filter(|sent| is_left(&sent.tenant, sent.record.offset));
            let left: Vec<_> = left.map(|sent| (sent.tenant.clone(), sent.record.offset)).collect();
            if !left.is_empty() {
                state
                    .wrong
                    .push(format!("the group passes {partition}/{offset}, and in no table are {left:?}"));
            }
            state.note(("group", partition, offset));
            state.committed.insert(*partition, *offset);
        }
        drop(state);
        if fate == Fate::Unheard { Err(away()) } else { Ok(()) }
    }

    async fn pause(&mut self, _: &[TopicPartition]) -> Result<(), StreamError> {
        unused()
    }

    async fn resume(&mut self, _: &[TopicPartition]) -> Result<(), StreamError> {
        unused()
    }

    async fn close(self: Box<Self>) {
        self.log.outside.state().evict(self.id);
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}
