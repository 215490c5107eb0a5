//! A group's member.

use std::{
    any::Any,
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use futures::FutureExt as _;
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{CommitMode, Consumer as _, ConsumerGroupMetadata, StreamConsumer},
    error::{KafkaError, RDKafkaErrorCode},
    message::BorrowedMessage,
};
use tokio::time::Instant;

use super::{
    KafkaConfig, REQUEST_TIMEOUT,
    context::{Change, GroupContext},
    failure::{code, failed, task_failed},
    positions::{Committed, TopicIds, to_commit, topic_ids},
    record::received,
    watermarks,
};
use crate::{
    Consumer, Event, MAX_READ_BYTES, Record, StreamError, StreamErrorKind, SubscribeOptions, TopicPartition,
};

type Client = StreamConsumer<GroupContext>;

/// See the module.
pub(super) struct KafkaConsumer {
    client: Arc<Client>,
    bootstrap_servers: String,
    options: SubscribeOptions,
    /// As they were when partitions were assigned.
    topic_ids: TopicIds,
    /// Records taken from librdkafka and not yet delivered, by partition.
    ready: VecDeque<(TopicPartition, Vec<Record>)>,
    /// Next offset of each partition, to see where records are missing.
    positions: HashMap<TopicPartition, i64>,
    paused: HashSet<TopicPartition>,
    /// Partitions whose records from the position on are gone, until a seek.
    truncated: BTreeMap<TopicPartition, StreamError>,
}

impl KafkaConsumer {
    pub(super) fn join(config: &KafkaConfig, options: SubscribeOptions) -> Result<Self, StreamError> {
        let doing = format!("joining group {}", options.group);
        let mut client = config.client();
        client
            .set("group.id", &options.group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("isolation.level", "read_committed")
            .set("auto.offset.reset", if options.from_beginning { "earliest" } else { "latest" })
            .set("session.timeout.ms", "10000")
            .set("heartbeat.interval.ms", "2000")
            .set("queued.max.messages.kbytes", "16384")
            .set("fetch.wait.max.ms", "100")
            // Only range gives a member the same partitions of several topics.
            .set(
                "partition.assignment.strategy",
                if options.topics.len() > 1 { "range" } else { "cooperative-sticky" },
            );
        if let Some(id) = &options.instance_id {
            client.set("group.instance.id", id);
        }
        let client: Client =
            client.create_with_context(GroupContext::default()).map_err(|error| failed(&doing, &error))?;
        let topics: Vec<&str> = options.topics.iter().map(String::as_str).collect();
        client.subscribe(&topics).map_err(|error| failed(&doing, &error))?;
        Ok(Self {
            client: Arc::new(client),
            bootstrap_servers: config.bootstrap_servers.clone(),
            options,
            topic_ids: TopicIds::new(),
            ready: VecDeque::new(),
            positions: HashMap::new(),
            paused: HashSet::new(),
            truncated: BTreeMap::new(),
        })
    }

    /// Offsets in the form that Kafka takes them: refused unless all are of partitions that are ours.
    pub(super) fn offsets_to_commit(
        &self,
        offsets: &[(TopicPartition, i64)],
    ) -> Result<TopicPartitionList, StreamError> {
        offsets.iter().try_for_each(|(partition, _)| self.check_assigned(partition))?;
        to_commit(offsets, &self.topic_ids)
            .map_err(|error| failed(&format!("committing offsets of group {}", self.options.group), &error))
    }

    /// For a transaction that moves this group's positions.
    pub(super) fn group_metadata(&self) -> Result<ConsumerGroupMetadata, StreamError> {
        self.client.group_metadata().ok_or_else(|| {
            let message = format!("group {}: not a member yet, poll first", self.options.group);
            StreamError::new(StreamErrorKind::Fenced, message)
        })
    }

    fn check_assigned(&self, partition: &TopicPartition) -> Result<(), StreamError> {
        if self.client.context().has(partition) {
            return Ok(());
        }
        Err(StreamError::not_owner(&self.options.group, &partition.topic, partition.partition))
    }

    async fn call<T, F>(&self, call: F) -> Result<T, StreamError>
    where
        T: Send + 'static,
        F: FnOnce(&Client) -> Result<T, StreamError> + Send + 'static,
    {
        let client = Arc::clone(&self.client);
        tokio::task::spawn_blocking(move || call(&client)).await.map_err(|_| task_failed())?
    }

    async fn adopt(&mut self, change: Change) -> Result<Event, StreamError> {
        match change {
            Change::Revoked(partitions) => {
                for partition in &partitions {
                    self.ready.retain(|(ready, _)| ready != partition);
                    self.positions.remove(partition);
                    self.paused.remove(partition);
                    self.truncated.remove(partition);
                }
                Ok(Event::Revoked(partitions))
            }
            Change::Assigned(partitions) => {
                let starts = match self.starts(&partitions).await {
                    Ok(starts) => starts,
                    Err(error) => {
                        // To be tried again: records of a partition that nobody was told of would be lost.
                        self.client.context().put_back(Change::Assigned(partitions));
                        return Err(error);
                    }
                };
                for start in starts {
                    let TopicPartition { topic, partition } = &start.partition;
                    let (first, end) = start.range;
                    if start.offset < first || start.offset > end {
                        let error = StreamError::truncated(topic, *partition, start.offset, first, end);
                        self.truncated.insert(start.partition.clone(), error);
                    }
                    self.positions.insert(start.partition, start.offset);
                }
                Ok(Event::Assigned(partitions))
            }
        }
    }

    /// Where assigned partitions start, but for those revoked meanwhile. Topics' ids are taken first: an offset marked with
    /// an id that has gone stale since then doesn't count later.
    async fn starts(&mut self, partitions: &[TopicPartition]) -> Result<Vec<Start>, StreamError> {
        let ids = topic_ids(&self.bootstrap_servers, partitions).await?;
        self.topic_ids.extend(ids.clone());
        let (mut asked, from_beginning) = (partitions.to_vec(), self.options.from_beginning);
        asked.retain(|partition| self.client.context().has(partition));
        self.call(move |client| starts(client, &asked, &ids, from_beginning)).await
    }

    /// The first buffered records whose partition may be delivered.
    async fn deliver(&mut self) -> Result<Option<Event>, StreamError> {
        let context = self.client.context();
        self.ready.retain(|(partition, _)| context.has(partition) && !self.truncated.contains_key(partition));
        let Some(index) = self.ready.iter().position(|(partition, _)| !self.paused.contains(partition))
        else {
            return Ok(None);
        };
        let Some((partition, records)) = self.ready.get(index) else { return Ok(None) };
        let expected = self.positions.get(partition).copied();
        // A gap is usual behind transactions and compaction; where the log starts above it, records were lost.
        if let (Some(expected), Some(first)) = (expected, records.first())
            && first.offset > expected
        {
            let asked = partition.clone();
            let range = self.call(move |client| watermarks(client, &asked.topic, asked.partition)).await?;
            if range.start > expected {
                let Some((partition, _)) = self.ready.remove(index) else { return Ok(None) };
                let TopicPartition { topic, partition: number } = &partition;
                let error = StreamError::truncated(topic, *number, expected, range.start, range.end);
                self.truncated.insert(partition, error.clone());
                return Err(error);
            }
        }
        let Some((partition, records)) = self.ready.remove(index) else { return Ok(None) };
        if let Some(last) = records.last() {
            self.positions.insert(partition.clone(), last.offset + 1);
        }
        Ok(Some(Event::Records(partition, records)))
    }

    /// Waits for a record or a rebalance until the deadline, and takes what else is there.
    async fn collect(&mut self, max_records: usize, deadline: Instant) -> Result<(), StreamError> {
        let client = Arc::clone(&self.client);
        let first = tokio::select! {
            biased;
            () = client.context().changed.notified() => None,
            message = tokio::time::timeout_at(deadline, client.recv()) => message.ok(),
        };
        let mut next = first;
        let (mut records, mut bytes) = (0, 0);
        while records < max_records.max(1) && bytes < MAX_READ_BYTES {
            match next {
                Some(Ok(message)) => bytes += self.buffer(&message),
                Some(Err(error)) => self.judge(&error)?,
                None => return Ok(()),
            }
            records += 1;
            next = client.recv().now_or_never();
        }
        // Taken but over the limit: it is buffered too, or it would be lost.
        match next {
            Some(Ok(message)) => {
                self.buffer(&message);
                Ok(())
            }
            Some(Err(error)) => self.judge(&error),
            None => Ok(()),
        }
    }

    /// Keeps a record until it is delivered; answers its bytes.
    fn buffer(&mut self, message: &BorrowedMessage<'_>) -> usize {
        let (partition, record) = received(message);
        let bytes = record.payload_bytes();
        match self.ready.iter_mut().find(|(ready, _)| *ready == partition) {
            Some((_, records)) => records.push(record),
            None => self.ready.push_back((partition, vec![record])),
        }
        bytes
    }

    /// Goes on after errors that librdkafka mends by itself.
    fn judge(&self, error: &KafkaError) -> Result<(), StreamError> {
        let fatal = matches!(error, KafkaError::MessageConsumptionFatal(_))
            || matches!(code(error), Some(RDKafkaErrorCode::FencedInstanceId | RDKafkaErrorCode::Fatal));
        if fatal {
            let message =
                format!("group {}: another member took this one's place ({error}): stop", self.options.group);
            return Err(StreamError::new(StreamErrorKind::Fenced, message));
        }
        tracing::debug!(group = self.options.group, %error, "consuming goes on after an error");
        Ok(())
    }
}

/// Where a partition starts, and what it holds.
struct Start {
    partition: TopicPartition,
    offset: i64,
    range: (i64, i64),
}

/// Finds where assigned partitions start: librdkafka would silently jump over what is gone, and would look for the end
/// some time later. Waits for the cluster.
fn starts(
    client: &Client,
    partitions: &[TopicPartition],
    ids: &TopicIds,
    from_beginning: bool,
) -> Result<Vec<Start>, StreamError> {
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition(&partition.topic, partition.partition);
    }
    let committed = client
        .committed_offsets(list, REQUEST_TIMEOUT)
        .map_err(|error| failed("asking for the group's offsets", &error))?;
    let mut starts = Vec::with_capacity(partitions.len());
    for element in &committed.elements() {
        let partition = TopicPartition { topic: element.topic().to_owned(), partition: element.partition() };
        let range = watermarks(client, &partition.topic, partition.partition)?;
        let id = ids.get(element.topic()).map_or("", String::as_str);
        let offset = match Committed::of(element, id) {
            Committed::At(offset) => offset,
            Committed::Nothing if from_beginning => range.start,
            Committed::Nothing => {
                seek(client, &partition, range.end)?;
                range.end
            }
            // All of the new topic came after what was read in the old one.
            Committed::Elsewhere => {
                seek(client, &partition, range.start)?;
                range.start
            }
        };
        starts.push(Start { partition, offset, range: (range.start, range.end) });
    }
    Ok(starts)
}

/// Waits for the cluster: right after an assignment the partition's fetcher isn't started yet, and refuses.
fn seek(client: &Client, partition: &TopicPartition, offset: i64) -> Result<(), StreamError> {
    let deadline = std::time::Instant::now() + REQUEST_TIMEOUT;
    loop {
        match client.seek(&partition.topic, partition.partition, Offset::Offset(offset), REQUEST_TIMEOUT) {
            Ok(()) => return Ok(()),
            Err(_) if std::time::Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
            Err(error) => {
                return Err(failed(&format!("seeking {}/{}", partition.topic, partition.partition), &error));
            }
        }
    }
}

fn list_of(partitions: &[TopicPartition]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition(&partition.topic, partition.partition);
    }
    list
}

#[async_trait]
impl Consumer for KafkaConsumer {
    async fn poll(&mut self, max_records: usize, max_wait: Duration) -> Result<Option<Event>, StreamError> {
        let deadline = Instant::now() + max_wait;
        loop {
            if let Some(change) = self.client.context().next_change() {
                return self.adopt(change).await.map(Some);
            }
            if let Some(error) = self.truncated.values().next() {
                return Err(error.clone());
            }
            if let Some(event) = self.deliver().await? {
                return Ok(Some(event));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            self.collect(max_records, deadline).await?;
        }
    }

    async fn seek(&mut self, partition: &TopicPartition, offset: i64) -> Result<(), StreamError> {
        self.check_assigned(partition)?;
        let target = partition.clone();
        let range = self
            .call(move |client| {
                let range = watermarks(client, &target.topic, target.partition)?;
                seek(client, &target, offset)?;
                Ok(range)
            })
            .await?;
        self.ready.retain(|(ready, _)| ready != partition);
        self.positions.insert(partition.clone(), offset);
        self.truncated.remove(partition);
        if offset < range.start || offset > range.end {
            let TopicPartition { topic, partition: number } = partition;
            let error = StreamError::truncated(topic, *number, offset, range.start, range.end);
            self.truncated.insert(partition.clone(), error);
        }
        Ok(())
    }

    async fn commit(&mut self, offsets: &[(TopicPartition, i64)]) -> Result<(), StreamError> {
        if offsets.is_empty() {
            return Ok(());
        }
        let list = self.offsets_to_commit(offsets)?;
        let doing = format!("committing offsets of group {}", self.options.group);
        self.call(move |client| {
            client.commit(&list, CommitMode::Sync).map_err(|error| failed(&doing, &error))
        })
        .await
    }

    async fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), StreamError> {
        partitions.iter().try_for_each(|partition| self.check_assigned(partition))?;
        self.client.pause(&list_of(partitions)).map_err(|error| failed("pausing partitions", &error))?;
        self.paused.extend(partitions.iter().cloned());
        Ok(())
    }

    async fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), StreamError> {
        partitions.iter().try_for_each(|partition| self.check_assigned(partition))?;
        for partition in partitions {
            self.paused.remove(partition);
        }
        self.client.resume(&list_of(partitions)).map_err(|error| failed("resuming partitions", &error))
    }

    async fn close(self: Box<Self>) {
        let client = Arc::clone(&self.client);
        drop(self);
        // The last handle: leaving the group waits for its coordinator.
        if tokio::task::spawn_blocking(move || drop(client)).await.is_err() {
            tracing::debug!("a consumer's close was cut short");
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for KafkaConsumer {
    fn drop(&mut self) {
        // Whoever drops the last handle leaves the group, which takes its time: not on an async thread.
        let client = Arc::clone(&self.client);
        std::thread::spawn(move || drop(client));
    }
}
