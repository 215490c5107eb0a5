//! Reading partitions without a group. Connected readers are kept, since a restart reads a partition in many calls.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
};

use super::{
    KafkaConfig, REQUEST_TIMEOUT,
    failure::{code, failed},
    record::received,
    security::{Identity, Security},
    watermarks,
};
use crate::{MAX_READ_BYTES, Record, StreamError, StreamErrorKind, TopicPartition};

/// Readers kept; each has connections and buffers of its own.
const KEPT: usize = 32;

/// One poll of librdkafka.
const POLL: Duration = Duration::from_millis(100);

/// See the module. Calls wait for the cluster.
pub(super) struct Readers {
    config: KafkaConfig,
    idle: Mutex<HashMap<TopicPartition, Reader>>,
}

struct Reader {
    consumer: BaseConsumer<Identity>,
    /// What it proved itself with.
    security: Arc<Security>,
    /// Where it goes on by itself, unless it is at the end: then it is placed anew, to learn of the end as of now.
    next: Option<i64>,
}

impl Readers {
    pub(super) fn new(config: KafkaConfig) -> Self {
        Self { config, idle: Mutex::default() }
    }

    pub(super) fn read(
        &self,
        from: &TopicPartition,
        offset: i64,
        max_records: usize,
        max_wait: Duration,
    ) -> Result<Vec<Record>, StreamError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).remove(from);
        let now = self.config.security.get();
        let mut reader = match idle {
            Some(reader) if !reader.security.is_stale_beside(&now) => reader,
            _ => Reader::connect(&self.config, now)?,
        };
        reader.place(from, offset)?;
        let records = reader.collect(from, offset, max_records, max_wait)?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < KEPT {
            idle.insert(from.clone(), reader);
        }
        Ok(records)
    }
}

impl Reader {
    fn connect(config: &KafkaConfig, security: Arc<Security>) -> Result<Self, StreamError> {
        let mut client = config.client();
        client
            // librdkafka wants a name even for assigned partitions; nothing is committed under it.
            .set("group.id", "firn-readers")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "error")
            .set("isolation.level", "read_committed")
            .set("fetch.wait.max.ms", "100")
            .set("queued.max.messages.kbytes", "8192");
        let consumer = config.create(&client).map_err(|error| failed("connecting a reader", &error))?;
        Ok(Self { consumer, security, next: None })
    }

    fn place(&mut self, from: &TopicPartition, offset: i64) -> Result<(), StreamError> {
        if self.next == Some(offset) {
            return Ok(());
        }
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&from.topic, from.partition, Offset::Offset(offset))
            .and_then(|()| self.consumer.assign(&list))
            .map_err(|error| {
                failed(&format!("reading {}/{} at {offset}", from.topic, from.partition), &error)
            })
    }

    /// Takes what is there; if that is nothing, waits for the first record. An empty answer is sure: the partition's end
    /// was seen, however short `max_wait` is.
    fn collect(
        &mut self,
        from: &TopicPartition,
        offset: i64,
        max_records: usize,
        max_wait: Duration,
    ) -> Result<Vec<Record>, StreamError> {
        let start = Instant::now();
        let (mut records, mut bytes, mut end_seen) = (Vec::new(), 0, false);
        while records.len() < max_records && bytes < MAX_READ_BYTES {
            match self.consumer.poll(POLL.min(max_wait.max(Duration::from_millis(1)))) {
                Some(Ok(message)) => {
                    let (_, record) = received(&message);
                    bytes += record.payload_bytes();
                    records.push(record);
                    end_seen = false;
                    continue;
                }
                Some(Err(KafkaError::PartitionEOF(_))) => end_seen = true,
                Some(Err(error)) => judge(&self.consumer, from, offset, &error)?,
                None => {}
            }
            let waited = start.elapsed();
            if !records.is_empty() || (end_seen && waited >= max_wait) {
                break;
            }
            if waited >= REQUEST_TIMEOUT.max(max_wait) {
                let message = format!("{}/{}: no broker answers: check them", from.topic, from.partition);
                return Err(StreamError::new(StreamErrorKind::Unavailable, message));
            }
        }
        let next = records.last().map_or(offset, |record: &Record| record.offset + 1);
        self.next = (!end_seen).then_some(next);
        Ok(records)
    }
}

/// Goes on after errors that librdkafka mends by itself.
fn judge(
    consumer: &BaseConsumer<Identity>,
    from: &TopicPartition,
    offset: i64,
    error: &KafkaError,
) -> Result<(), StreamError> {
    match code(error) {
        Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
            let range = watermarks(consumer, &from.topic, from.partition)?;
            Err(StreamError::truncated(&from.topic, from.partition, offset, range.start, range.end))
        }
        Some(RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition) => {
            Err(StreamError::no_such_topic(&from.topic))
        }
        _ => {
            tracing::debug!(topic = from.topic, partition = from.partition, %error, "reading goes on after an error");
            Ok(())
        }
    }
}
