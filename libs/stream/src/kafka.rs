//! Kafka through librdkafka.
//!
//! librdkafka's calls that wait run off the async threads; what it delivers by itself (produced records, fetched records)
//! is awaited. Exactly once rests on Kafka's own means: an idempotent producer with acks=all, transactions with the
//! group's metadata, read_committed consumers, and topic ids.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use rdkafka::{
    ClientConfig, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::RDKafkaErrorCode,
    producer::FutureProducer,
};

use crate::{
    Consumer, Log, OffsetRange, ProduceRecord, Record, StreamError, StreamErrorKind, SubscribeOptions, Topic,
    TopicPartition, TopicSpec, TransactionalProducer,
};

mod admin;
mod consumer;
mod context;
mod failure;
mod positions;
mod produce;
mod reader;
mod record;
mod topic_id;
mod transaction;

use consumer::KafkaConsumer;
use failure::{failed, task_failed};
use positions::Committed;
use reader::Readers;
use transaction::KafkaProducer;

/// How long a question to the cluster may take before it counts as unavailable.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Settings.
#[derive(Clone, Debug)]
pub struct KafkaConfig {
    /// `host:port`, comma-separated.
    pub bootstrap_servers: String,
    /// Replication factor of topics Firn creates.
    pub replication: i32,
}

impl KafkaConfig {
    /// What every client of the cluster sets.
    fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", &self.bootstrap_servers)
            .set("client.id", "firn")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "2000")
            .set("topic.metadata.refresh.interval.ms", "60000");
        client
    }

    /// What every producer sets.
    fn producer(&self) -> ClientConfig {
        let mut client = self.client();
        client
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("compression.type", "zstd")
            // As the Java client and `partition_for_key` do.
            .set("partitioner", "murmur2_random")
            // Above the largest record and its framing; brokers take this by default.
            .set("message.max.bytes", "1048576")
            .set("queue.buffering.max.kbytes", "131072");
        client
    }
}

/// What the log's own handle, its consumers and producers share.
struct Cluster {
    config: KafkaConfig,
    /// Answers questions about topics and offsets; in no group.
    observer: BaseConsumer,
    /// Partitions of topics that records went to.
    partitions: Mutex<HashMap<String, i32>>,
}

/// See the module.
pub struct KafkaLog {
    cluster: Arc<Cluster>,
    producer: FutureProducer,
    readers: Arc<Readers>,
}

impl KafkaLog {
    /// Connects to a cluster.
    ///
    /// # Errors
    /// `Config` for settings that librdkafka refuses, `Unavailable` if no broker answers.
    pub async fn connect(config: KafkaConfig) -> Result<Arc<Self>, StreamError> {
        let cannot = |error| failed("connecting to Kafka", &error);
        let producer: FutureProducer = config.producer().create().map_err(cannot)?;
        let observer: BaseConsumer = config.client().create().map_err(cannot)?;
        let cluster = Arc::new(Cluster { config: config.clone(), observer, partitions: Mutex::default() });
        cluster
            .ask(move |cluster| {
                cluster.observer.fetch_metadata(None, REQUEST_TIMEOUT).map_err(|error| {
                    let servers = &cluster.config.bootstrap_servers;
                    StreamError::new(
                        StreamErrorKind::Unavailable,
                        format!(
                            "no Kafka broker answers at {servers} ({error}): check stream.bootstrap_servers"
                        ),
                    )
                })
            })
            .await?;
        Ok(Arc::new(Self { readers: Arc::new(Readers::new(config)), cluster, producer }))
    }
}

impl Cluster {
    /// Runs calls that wait for the cluster off the async threads.
    async fn ask<T, F>(self: &Arc<Self>, question: F) -> Result<T, StreamError>
    where
        T: Send + 'static,
        F: FnOnce(&Self) -> Result<T, StreamError> + Send + 'static,
    {
        let cluster = Arc::clone(self);
        tokio::task::spawn_blocking(move || question(&cluster)).await.map_err(|_| task_failed())?
    }

    /// How many partitions a topic has, if it exists and each has a leader. Waits for the cluster.
    fn count_partitions(&self, topic: &str) -> Result<Option<i32>, StreamError> {
        let deadline = Instant::now() + REQUEST_TIMEOUT;
        loop {
            let metadata = self
                .observer
                .fetch_metadata(Some(topic), REQUEST_TIMEOUT)
                .map_err(|error| failed(&format!("asking for topic {topic}"), &error))?;
            let known = metadata.topics().iter().find(|known| known.name() == topic);
            match known.map(|known| (known.error().map(RDKafkaErrorCode::from), known.partitions())) {
                None
                | Some((
                    Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic),
                    _,
                )) => {
                    return Ok(None);
                }
                Some((None, partitions))
                    if !partitions.is_empty()
                        && partitions.iter().all(|partition| partition.leader() >= 0) =>
                {
                    return Ok(i32::try_from(partitions.len()).ok());
                }
                // Just made, or its leader is changing.
                Some(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(100)),
                Some((error, _)) => {
                    let reason =
                        error.map_or("a partition has no leader".to_owned(), |error| error.to_string());
                    let message = format!("topic {topic} can't be used ({reason}): check the brokers");
                    return Err(StreamError::new(StreamErrorKind::Unavailable, message));
                }
            }
        }
    }

    /// The same, remembered, for records to be written.
    async fn partitions_of(self: &Arc<Self>, topic: &str) -> Result<i32, StreamError> {
        let known = self.partitions.lock().unwrap_or_else(PoisonError::into_inner).get(topic).copied();
        if let Some(count) = known {
            return Ok(count);
        }
        let name = topic.to_owned();
        let count = self.ask(move |cluster| cluster.count_partitions(&name)).await?;
        let count = count.ok_or_else(|| StreamError::no_such_topic(topic))?;
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner).insert(topic.to_owned(), count);
        Ok(count)
    }

    fn forget(&self, topic: &str) {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner).remove(topic);
    }

    /// Waits for the cluster.
    fn range(&self, topic: &str, partition: i32) -> Result<OffsetRange, StreamError> {
        watermarks(&self.observer, topic, partition)
    }
}

/// What a partition holds. Waits for the cluster.
fn watermarks<C: rdkafka::consumer::ConsumerContext>(
    consumer: &impl rdkafka::consumer::Consumer<C>,
    topic: &str,
    partition: i32,
) -> Result<OffsetRange, StreamError> {
    let (start, end) = consumer
        .fetch_watermarks(topic, partition, REQUEST_TIMEOUT)
        .map_err(|error| failed(&format!("asking for the offsets of {topic}/{partition}"), &error))?;
    Ok(OffsetRange { start, end })
}

#[async_trait]
impl Log for KafkaLog {
    async fn ensure_topic(&self, spec: &TopicSpec) -> Result<Topic, StreamError> {
        admin::ensure_topic(&self.cluster, spec).await
    }

    async fn topic(&self, name: &str) -> Result<Option<Topic>, StreamError> {
        admin::topic(&self.cluster, name).await
    }

    async fn append(&self, records: Vec<ProduceRecord>) -> Vec<Result<(TopicPartition, i64), StreamError>> {
        produce::append(&self.cluster, &self.producer, records).await
    }

    async fn offsets(&self, topic: &str) -> Result<Vec<OffsetRange>, StreamError> {
        let topic = topic.to_owned();
        self.cluster
            .ask(move |cluster| {
                let count =
                    cluster.count_partitions(&topic)?.ok_or_else(|| StreamError::no_such_topic(&topic))?;
                (0..count).map(|partition| cluster.range(&topic, partition)).collect()
            })
            .await
    }

    async fn committed(&self, group: &str, topic: &str) -> Result<Vec<Option<i64>>, StreamError> {
        let id = topic_id::ask(&self.cluster.config.bootstrap_servers, topic).await?;
        let id = id.ok_or_else(|| StreamError::no_such_topic(topic))?;
        let (group, topic) = (group.to_owned(), topic.to_owned());
        self.cluster
            .ask(move |cluster| {
                let count =
                    cluster.count_partitions(&topic)?.ok_or_else(|| StreamError::no_such_topic(&topic))?;
                let what = format!("asking for the offsets of group {group} in {topic}");
                // Only asks: without a subscription it is no member.
                let consumer: BaseConsumer = cluster
                    .config
                    .client()
                    .set("group.id", &group)
                    .create()
                    .map_err(|error| failed(&what, &error))?;
                let mut wanted = TopicPartitionList::new();
                wanted.add_partition_range(&topic, 0, count - 1);
                let committed = consumer
                    .committed_offsets(wanted, REQUEST_TIMEOUT)
                    .map_err(|error| failed(&what, &error))?;
                Ok(committed.elements().iter().map(|element| Committed::of(element, &id).offset()).collect())
            })
            .await
    }

    async fn subscribe(&self, options: SubscribeOptions) -> Result<Box<dyn Consumer>, StreamError> {
        for topic in &options.topics {
            self.cluster.forget(topic);
            self.cluster.partitions_of(topic).await?;
        }
        Ok(Box::new(KafkaConsumer::join(&self.cluster.config, options)?))
    }

    async fn read(
        &self,
        from: &TopicPartition,
        offset: i64,
        max_records: usize,
        max_wait: Duration,
    ) -> Result<Vec<Record>, StreamError> {
        let count = self.cluster.partitions_of(&from.topic).await?;
        if from.partition < 0 || from.partition >= count {
            self.cluster.forget(&from.topic);
            return Err(StreamError::no_such_partition(&from.topic, from.partition, count));
        }
        let (readers, from) = (Arc::clone(&self.readers), from.clone());
        tokio::task::spawn_blocking(move || readers.read(&from, offset, max_records, max_wait))
            .await
            .map_err(|_| task_failed())?
    }

    async fn transactional(
        &self,
        transactional_id: &str,
    ) -> Result<Box<dyn TransactionalProducer>, StreamError> {
        Ok(Box::new(KafkaProducer::open(Arc::clone(&self.cluster), transactional_id).await?))
    }
}
