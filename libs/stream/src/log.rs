//! The traits.

use std::time::Duration;

use async_trait::async_trait;

use crate::{ProduceRecord, Record, StreamError, TopicPartition};

/// A topic to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// Name.
    pub name: String,
    /// Partitions, from 1.
    pub partitions: i32,
    /// Keep only the last record of each key instead of deleting by age.
    pub compacted: bool,
    /// Age after which records may go, for topics that are not compacted; the backend's default if `None`.
    pub retention: Option<Duration>,
}

/// A topic that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Name.
    pub name: String,
    /// Unique id: another one under the same name means the topic was recreated.
    pub id: String,
    /// Partitions.
    pub partitions: i32,
}

/// What a partition holds: `start` is its first offset, `end` the next to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetRange {
    /// First offset held.
    pub start: i64,
    /// Next offset.
    pub end: i64,
}

/// How to join a group.
#[derive(Clone, Debug)]
pub struct SubscribeOptions {
    /// Group.
    pub group: String,
    /// Topics that are co-partitioned: a member gets the same partitions of each.
    pub topics: Vec<String>,
    /// Static membership: the same id after a restart gets the same partitions back without a rebalance.
    pub instance_id: Option<String>,
    /// Where a group without a committed offset starts: the beginning if true, else the end.
    pub from_beginning: bool,
}

/// A partition that a consumer was given, as the log was at that moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// Which.
    pub partition: TopicPartition,
    /// Id of its topic: a place in one topic is none in another of the same name.
    pub topic_id: String,
    /// Where it is read from until `seek`: the group's committed offset, else where the subscription begins.
    pub offset: i64,
    /// What the log holds. An offset outside of it: records were dropped before they were read.
    pub range: OffsetRange,
}

/// What a consumer learns.
#[derive(Debug)]
pub enum Event {
    /// Partitions are ours now. What their former owner committed is taken into account.
    Assigned(Vec<Assigned>),
    /// Partitions are no longer ours; commits for them fail.
    Revoked(Vec<TopicPartition>),
    /// Records of one partition, in order. Only committed records are seen.
    Records(TopicPartition, Vec<Record>),
}

/// A durable, partitioned log.
#[async_trait]
pub trait Log: Send + Sync {
    /// Creates a topic, or answers it if it exists; fewer partitions than wanted are raised, more are left.
    async fn ensure_topic(&self, spec: &TopicSpec) -> Result<Topic, StreamError>;

    /// Names of all topics that this process may see.
    async fn topics(&self) -> Result<Vec<String>, StreamError>;

    /// A topic, if it exists.
    async fn topic(&self, name: &str) -> Result<Option<Topic>, StreamError>;

    /// Appends records; `Ok` once all are durable (Kafka: acknowledged by all in-sync replicas). A result per record, so
    /// that a caller knows which are in.
    async fn append(&self, records: Vec<ProduceRecord>) -> Vec<Result<(TopicPartition, i64), StreamError>>;

    /// What each partition of a topic holds, by partition.
    async fn offsets(&self, topic: &str) -> Result<Vec<OffsetRange>, StreamError>;

    /// A group's committed offsets by partition; `None` where nothing was committed in this topic (what was in an earlier
    /// topic of the name doesn't count).
    async fn committed(&self, group: &str, topic: &str) -> Result<Vec<Option<i64>>, StreamError>;

    /// Joins a group.
    async fn subscribe(&self, options: SubscribeOptions) -> Result<Box<dyn Consumer>, StreamError>;

    /// Reads a partition without a group, from `offset`: at most `max_records`, fewer if they are
    /// large (`MAX_READ_BYTES`), waiting at most `max_wait` for the first.
    ///
    /// Empty means that nothing to be seen lies at or after `offset` yet, even where `offsets` has a larger `end`: ends
    /// also count transaction markers, aborted records and records that compaction removed. Offsets below what the log
    /// still has, or above its end, are `Truncated`.
    async fn read(
        &self,
        from: &TopicPartition,
        offset: i64,
        max_records: usize,
        max_wait: Duration,
    ) -> Result<Vec<Record>, StreamError>;

    /// A producer whose transactions are atomic; an older one with the same id is fenced.
    async fn transactional(
        &self,
        transactional_id: &str,
    ) -> Result<Box<dyn TransactionalProducer>, StreamError>;
}

/// A member of a group. Dropping it leaves the group, like `close`.
#[async_trait]
pub trait Consumer: Send + Sync {
    /// The next event, or `None` after `max_wait`; records as many as `read` gives. Must be called regularly, or the group goes on without this member.
    ///
    /// `Truncated`: records from the position on are gone; it comes again until a `seek`. `Fenced`: another member with
    /// this instance id took over.
    async fn poll(&mut self, max_records: usize, max_wait: Duration) -> Result<Option<Event>, StreamError>;

    /// Reads on at `offset`, at once: records fetched before are not delivered.
    async fn seek(&mut self, partition: &TopicPartition, offset: i64) -> Result<(), StreamError>;

    /// Commits the next offset to read of each partition to the group.
    async fn commit(&mut self, offsets: &[(TopicPartition, i64)]) -> Result<(), StreamError>;

    /// Stops and starts delivery from partitions, keeping membership.
    async fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), StreamError>;

    /// See `pause`.
    async fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), StreamError>;

    /// Leaves the group.
    async fn close(self: Box<Self>);

    /// For the backend's own transactional producer.
    fn as_any(&self) -> &dyn std::any::Any;
}

/// Consume-transform-produce: outputs and input positions in one transaction.
#[async_trait]
pub trait TransactionalProducer: Send {
    /// Writes records and the group's next offsets atomically. `Fenced`: another took over, stop. Any other error: nothing
    /// of it will ever be visible; re-read from the committed positions.
    async fn commit(
        &mut self,
        records: Vec<ProduceRecord>,
        offsets: &[(TopicPartition, i64)],
        consumer: Option<&dyn Consumer>,
    ) -> Result<(), StreamError>;
}
