//! A group's member.

mod buffer;
mod starts;

use std::{any::Any, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::FutureExt as _;
use rdkafka::{
    TopicPartitionList,
    consumer::{CommitMode, Consumer as _, ConsumerGroupMetadata, StreamConsumer},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
};
use tokio::time::Instant;

use super::{
    Cluster, KafkaConfig,
    context::{Change, GroupContext},
    failure::{code, failed, task_failed},
    positions::{TopicIds, to_commit, topic_ids},
    security::{Identity, Security},
    watermarks,
};
use crate::{
    Assigned, Consumer, Event, MAX_READ_BYTES, StreamError, StreamErrorKind, SubscribeOptions, TopicPartition,
};
use buffer::Buffer;
use starts::{list_of, seek, starts};

type Client = StreamConsumer<GroupContext>;

/// See the module.
pub(super) struct KafkaConsumer {
    cluster: Arc<Cluster>,
    client: Arc<Client>,
    /// What the client proved itself with.
    security: Arc<Security>,
    options: SubscribeOptions,
    /// As they were when partitions were assigned.
    topic_ids: TopicIds,
    buffer: Buffer,
}

impl KafkaConsumer {
    pub(super) fn join(cluster: Arc<Cluster>, options: SubscribeOptions) -> Result<Self, StreamError> {
        let security = cluster.config.security.get();
        let client = member(&cluster.config, &options)
            .map_err(|error| failed(&format!("joining group {}", options.group), &error))?;
        Ok(Self {
            cluster,
            client: Arc::new(client),
            security,
            options,
            topic_ids: TopicIds::new(),
            buffer: Buffer::default(),
        })
    }

    /// Joins anew where what the member proved itself with is no longer true. It gives its partitions up by that; one with
    /// an instance id gets the same ones back.
    fn renew(&mut self) -> Result<Option<Event>, StreamError> {
        let now = self.cluster.config.security.get();
        if !self.security.is_stale_beside(&now) {
            return Ok(None);
        }
        let group = &self.options.group;
        let client = member(&self.cluster.config, &self.options)
            .map_err(|error| failed(&format!("joining group {group} anew"), &error))?;
        tracing::info!(group, "joining anew, since certificate or secret changed");
        let former = std::mem::replace(&mut self.client, Arc::new(client));
        self.security = now;
        self.buffer = Buffer::default();
        let lost = former.context().give_up();
        leave(former);
        Ok((!lost.is_empty()).then_some(Event::Revoked(lost)))
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
                partitions.iter().for_each(|partition| self.buffer.revoked(partition));
                Ok(Event::Revoked(partitions))
            }
            Change::Assigned(partitions) => match self.starts(&partitions).await {
                Ok(assigned) => {
                    assigned.iter().for_each(|assigned| self.buffer.assigned(assigned));
                    Ok(Event::Assigned(assigned))
                }
                Err(error) => {
                    // To be tried again: records of a partition that nobody was told of would be lost.
                    self.client.context().put_back(Change::Assigned(partitions));
                    Err(error)
                }
            },
        }
    }

    /// Where assigned partitions start, but for those revoked meanwhile. Topics' ids are taken first: an offset marked with
    /// an id that has gone stale since then doesn't count later.
    async fn starts(&mut self, partitions: &[TopicPartition]) -> Result<Vec<Assigned>, StreamError> {
        let ids = topic_ids(&self.cluster.wire, partitions).await?;
        self.topic_ids.extend(ids.clone());
        let (mut asked, from_beginning) = (partitions.to_vec(), self.options.from_beginning);
        asked.retain(|partition| self.client.context().has(partition));
        self.call(move |client| starts(client, &asked, &ids, from_beginning)).await
    }

    /// The first buffered records whose partition may be delivered.
    async fn deliver(&mut self) -> Result<Option<Event>, StreamError> {
        let context = self.client.context();
        let Some((partition, gap)) = self.buffer.first(|partition| context.has(partition)) else {
            return Ok(None);
        };
        // A gap is usual behind transactions and compaction; where the log starts above it, records were lost.
        if let Some(expected) = gap {
            let asked = partition.clone();
            let range = self.call(move |client| watermarks(client, &asked.topic, asked.partition)).await?;
            if range.start > expected {
                return Err(self.buffer.lost(&partition, expected, range));
            }
        }
        Ok(self.buffer.take(&partition))
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
                Some(Ok(message)) => bytes += self.buffer.push(&message),
                Some(Err(error)) => self.judge(&error)?,
                None => return Ok(()),
            }
            records += 1;
            next = client.recv().now_or_never();
        }
        // Taken but over the limit: it is buffered too, or it would be lost.
        match next {
            Some(Ok(message)) => {
                self.buffer.push(&message);
                Ok(())
            }
            Some(Err(error)) => self.judge(&error),
            None => Ok(()),
        }
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

/// A client that joins the group.
fn member(config: &KafkaConfig, options: &SubscribeOptions) -> KafkaResult<Client> {
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
    let context = GroupContext::new(Identity(config.security.clone()));
    let client: Client = client.create_with_context(context)?;
    let topics: Vec<&str> = options.topics.iter().map(String::as_str).collect();
    client.subscribe(&topics)?;
    Ok(client)
}

/// Whoever drops the last handle leaves the group, which takes its time: not on an async thread.
fn leave(client: Arc<Client>) {
    std::thread::spawn(move || drop(client));
}

#[async_trait]
impl Consumer for KafkaConsumer {
    async fn poll(&mut self, max_records: usize, max_wait: Duration) -> Result<Option<Event>, StreamError> {
        let deadline = Instant::now() + max_wait;
        loop {
            if let Some(event) = self.renew()? {
                return Ok(Some(event));
            }
            if let Some(change) = self.client.context().next_change() {
                return self.adopt(change).await.map(Some);
            }
            if let Some(error) = self.buffer.truncated() {
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
        self.buffer.sought(partition, offset, range);
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
        self.buffer.pause(partitions);
        Ok(())
    }

    async fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), StreamError> {
        partitions.iter().try_for_each(|partition| self.check_assigned(partition))?;
        self.buffer.resume(partitions);
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
        leave(Arc::clone(&self.client));
    }
}
