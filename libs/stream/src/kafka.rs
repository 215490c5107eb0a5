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
use firn_runtime::reload::Live;
use rdkafka::{
    ClientConfig, TopicPartitionList,
    config::FromClientConfigAndContext,
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaResult, RDKafkaErrorCode},
    producer::FutureProducer,
};
use serde::Deserialize;

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
mod renewed;
mod security;
mod topic_id;
mod transaction;
mod wire;

pub use security::{BrokerTls, Sasl, ScramHash, Security};

use consumer::KafkaConsumer;
use failure::{failed, task_failed};
use positions::Committed;
use reader::Readers;
use renewed::Renewed;
use security::{Identity, heed};
use transaction::KafkaProducer;
use wire::Wire;

/// How long a question to the cluster may take before it counts as unavailable.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

type Producer = FutureProducer<Identity>;
type Observer = BaseConsumer<Identity>;

/// Settings.
#[derive(Clone, Debug)]
pub struct KafkaConfig {
    /// `host:port`, comma-separated.
    pub bootstrap_servers: String,
    /// Replication factor of topics Firn creates.
    pub replication: i32,
    /// How records are compressed on their way to the brokers, and kept there.
    pub compression: Compression,
    /// How the brokers are reached. When it changes, clients are made anew: producers and readers with the next call,
    /// members of a group at their next poll, transactional producers when their owner opens them again.
    pub security: Live<Security>,
}

/// How batches of records are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    None,
    /// Slow; what very old consumers read.
    Gzip,
    /// Fast.
    Snappy,
    /// Fast, and a little smaller.
    Lz4,
    /// The smallest.
    #[default]
    Zstd,
}

impl Compression {
    fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

impl KafkaConfig {
    /// Of a cluster that asks nobody who he is, with the defaults.
    #[must_use]
    pub fn new(bootstrap_servers: impl Into<String>) -> Self {
        Self {
            bootstrap_servers: bootstrap_servers.into(),
            replication: 3,
            compression: Compression::default(),
            security: Live::new(Security::default()),
        }
    }

    /// A client that asks for tokens where the brokers want one.
    fn create<C: FromClientConfigAndContext<Identity>>(&self, client: &ClientConfig) -> KafkaResult<C> {
        client.create_with_context(Identity(self.security.clone()))
    }

    /// What every client of the cluster sets.
    fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", &self.bootstrap_servers)
            .set("client.id", "firn")
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "2000")
            .set("topic.metadata.refresh.interval.ms", "60000");
        self.security.get().apply(&mut client);
        client
    }

    /// What every producer sets.
    fn producer(&self) -> ClientConfig {
        let mut client = self.client();
        client
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("compression.type", self.compression.as_str())
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
    observer: Renewed<Observer>,
    wire: Wire,
    /// Partitions of topics that records went to.
    partitions: Mutex<HashMap<String, i32>>,
}

/// See the module.
pub struct KafkaLog {
    cluster: Arc<Cluster>,
    producer: Renewed<Producer>,
    readers: Arc<Readers>,
}

impl KafkaLog {
    /// Connects to a cluster.
    ///
    /// # Errors
    /// `Config` for settings that librdkafka refuses, `Unavailable` if no broker answers.
    pub async fn connect(config: KafkaConfig) -> Result<Arc<Self>, StreamError> {
        config.security.get().check()?;
        let cluster = Arc::new(Cluster {
            observer: Renewed::default(),
            wire: Wire::new(config.clone()),
            partitions: Mutex::default(),
            config: config.clone(),
        });
        // By ourselves first: who is refused hears why. librdkafka would try again and again.
        cluster.wire.greet().await?;
        let log = Self { readers: Arc::new(Readers::new(config)), cluster, producer: Renewed::default() };
        log.topics().await?;
        Ok(Arc::new(log))
    }

    fn producer(&self) -> Result<Arc<Producer>, StreamError> {
        let config = &self.cluster.config;
        let make = || config.create(&config.producer());
        self.producer.get(config, make).map_err(|error| failed("connecting a producer to Kafka", &error))
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

    fn observer(&self) -> Result<Arc<Observer>, StreamError> {
        let make = || self.config.create(&self.config.client());
        let observer = self.observer.get(&self.config, make);
        let observer = observer.map_err(|error| failed("connecting to Kafka", &error))?;
        heed(&observer);
        Ok(observer)
    }

    /// How many partitions a topic has, if it exists and each has a leader. Waits for the cluster.
    fn count_partitions(&self, topic: &str) -> Result<Option<i32>, StreamError> {
        let deadline = Instant::now() + REQUEST_TIMEOUT;
        loop {
            let metadata = self
                .observer()?
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
        watermarks(self.observer()?.as_ref(), topic, partition)
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

    async fn topics(&self) -> Result<Vec<String>, StreamError> {
        let metadata = |cluster: &Cluster| {
            let metadata = cluster.observer()?.fetch_metadata(None, REQUEST_TIMEOUT);
            let metadata = metadata.map_err(|error| failed("asking the brokers for their topics", &error))?;
            Ok(metadata.topics().iter().map(|topic| topic.name().to_owned()).collect())
        };
        self.cluster.ask(metadata).await
    }

    async fn topic(&self, name: &str) -> Result<Option<Topic>, StreamError> {
        admin::topic(&self.cluster, name).await
    }

    async fn append(&self, records: Vec<ProduceRecord>) -> Vec<Result<(TopicPartition, i64), StreamError>> {
        match self.producer() {
            Ok(producer) => produce::append(&self.cluster, &producer, records).await,
            Err(error) => vec![Err(error); records.len()],
        }
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
        let id = topic_id::ask(&self.cluster.wire, topic).await?;
        let id = id.ok_or_else(|| StreamError::no_such_topic(topic))?;
        let (group, topic) = (group.to_owned(), topic.to_owned());
        self.cluster
            .ask(move |cluster| {
                let count =
                    cluster.count_partitions(&topic)?.ok_or_else(|| StreamError::no_such_topic(&topic))?;
                let what = format!("asking for the offsets of group {group} in {topic}");
                // Only asks: without a subscription it is no member.
                let mut client = cluster.config.client();
                client.set("group.id", &group);
                let consumer: Observer =
                    cluster.config.create(&client).map_err(|error| failed(&what, &error))?;
                heed(&consumer);
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
        Ok(Box::new(KafkaConsumer::join(Arc::clone(&self.cluster), options)?))
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
