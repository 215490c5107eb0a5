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

impl ProduceRecord {
    /// Bytes of key, value and headers.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.key.as_ref().map_or(0, Bytes::len) + self.value.as_ref().map_or(0, Bytes::len) + headers
    }
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

impl Record {
    /// Bytes of key and value.
    pub(crate) fn payload_bytes(&self) -> usize {
        self.key.as_ref().map_or(0, Bytes::len) + self.value.as_ref().map_or(0, Bytes::len)
    }
}

/// Bytes after which a read or a poll ends, even if more records were asked for: what a reader must have room for is this and
/// one record.
pub const MAX_READ_BYTES: usize = 8 << 20;

/// Largest record (key, value and headers) in bytes that both backends take; Kafka's default.
pub const MAX_RECORD_BYTES: usize = 1_000_000;

/// The partition of a key: Kafka's murmur2 on both backends, so that they agree.
#[must_use]
pub fn partition_for_key(key: &[u8], partitions: i32) -> i32 {
    // The sign bit is masked off, as Kafka's `Utils.toPositive` does.
    let positive = (murmur2(key) & 0x7fff_ffff).cast_signed();
    positive % partitions.max(1)
}

/// `org.apache.kafka.common.utils.Utils.murmur2`.
fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    #[allow(clippy::cast_possible_truncation, reason = "a key is at most a megabyte")]
    let mut hash = SEED ^ (data.len() as u32);
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (index, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From Kafka's own UtilsTest.
    #[test]
    fn murmur2_agrees_with_the_java_client() {
        for (key, hash) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
        }
    }

    #[test]
    fn partitions_are_never_negative() {
        assert_eq!(partition_for_key(b"21", 8), (-973_932_308 & 0x7fff_ffff) % 8);
        assert_eq!(partition_for_key(b"abc", 1), 0);
    }
}
