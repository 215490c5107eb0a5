//! Records.

use bytes::Bytes;

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// Topic.
    pub topic: String,
    /// Partition, from 0.
    pub partition: i32,
}

/// A named value beside a record's payload.
pub type Header = (String, Bytes);

/// A record to be appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceRecord {
    /// Topic.
    pub topic: String,
    /// Key; records of one key go to one partition, in order.
    pub key: Option<Bytes>,
    /// Partition, or by key.
    pub partition: Option<i32>,
    /// Payload; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Headers.
    pub headers: Vec<Header>,
}

/// A record that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Partition, from 0.
    pub partition: i32,
    /// Offset in its partition.
    pub offset: i64,
    /// When it was appended, milliseconds since the epoch.
    pub timestamp_ms: i64,
    /// Key.
    pub key: Option<Bytes>,
    /// Payload; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Headers.
    pub headers: Vec<Header>,
}

/// The partition of a key: Kafka's murmur2 on both backends, so that they agree.
#[must_use]
pub fn partition_for_key(_key: &[u8], _partitions: i32) -> i32 {
    todo!()
}
