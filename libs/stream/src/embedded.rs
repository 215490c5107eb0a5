//! The embedded log: one SQLite file, WAL, `synchronous=FULL`, one writer thread.
//!
//! Everything that changes the file is a job of the writer thread, which puts all jobs that wait into one transaction:
//! many appends share one fsync, and a group's claims, commits and transactions have one order. A job answers only after
//! the transaction is durable, so an acknowledged record survives `kill -9` at any moment. Readers use connections of
//! their own and never wait for the writer. Groups live in the process; their committed offsets live in the file.
//!
//! | | appended | offsets | group membership | transactions |
//! |-|-|-|-|-|
//! | Kafka | acks=all | group coordinator | group coordinator | two-phase, by the transaction coordinator |
//! | here | fsynced | a table | in memory, one process | the same SQLite transaction |

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::time::Instant;

use crate::{
    Consumer, Log, OffsetRange, ProduceRecord, Record, StreamError, StreamErrorKind, SubscribeOptions, Topic,
    TopicPartition, TopicSpec, TransactionalProducer,
};

mod batch;
mod consumer;
mod groups;
mod headers;
mod layout;
mod producer;
mod readers;
mod retention;
mod schema;
mod writer;

use consumer::EmbeddedConsumer;
use producer::EmbeddedProducer;
use writer::Core;

/// Settings.
#[derive(Clone, Debug)]
pub struct EmbeddedConfig {
    /// The file.
    pub path: PathBuf,
    /// Default retention of topics that are not compacted, seconds. Default 7 days.
    pub retention_s: u64,
    /// Size after which records that every group has passed go. Default 10 GB.
    pub max_bytes: u64,
}

impl EmbeddedConfig {
    /// The defaults, in this file.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), retention_s: 7 * 24 * 3600, max_bytes: 10_000_000_000 }
    }
}

/// See the module.
pub struct EmbeddedLog {
    core: Arc<Core>,
}

impl EmbeddedLog {
    /// Opens the log, creating it if need be.
    ///
    /// # Errors
    /// `Config` if another log has the file open or a newer version wrote it, `Broken` if it is damaged, `Unavailable` if
    /// the disk is full.
    pub fn open(config: EmbeddedConfig) -> Result<Arc<Self>, StreamError> {
        Ok(Arc::new(Self { core: Core::start(config)? }))
    }

    /// Compacts and applies retention now, all of it; the writer does the same in small steps by itself.
    ///
    /// # Errors
    /// What the file answers.
    pub async fn maintain(&self) -> Result<(), StreamError> {
        while self.core.submit(0, |batch| Ok(Ok(retention::step(batch)?))).await? {}
        Ok(())
    }
}

#[async_trait]
impl Log for EmbeddedLog {
    async fn ensure_topic(&self, spec: &TopicSpec) -> Result<Topic, StreamError> {
        if spec.name.is_empty() || spec.partitions < 1 {
            return Err(StreamError::new(
                StreamErrorKind::Config,
                format!(
                    "topic {:?} with {} partitions: needs a name and at least one",
                    spec.name, spec.partitions
                ),
            ));
        }
        let spec = spec.clone();
        self.core.submit(0, move |batch| batch.ensure_topic(&spec).map(Ok)).await
    }

    async fn topics(&self) -> Result<Vec<String>, StreamError> {
        Ok(self.core.layout().topics.keys().cloned().collect())
    }

    async fn topic(&self, name: &str) -> Result<Option<Topic>, StreamError> {
        Ok(self.core.layout().topic(name))
    }

    async fn append(&self, records: Vec<ProduceRecord>) -> Vec<Result<(TopicPartition, i64), StreamError>> {
        if records.is_empty() {
            return Vec::new();
        }
        let count = records.len();
        let bytes = records.iter().map(ProduceRecord::payload_bytes).sum();
        match self.core.submit(bytes, move |batch| batch.append(&records).map(Ok)).await {
            Ok(results) => results,
            Err(error) => vec![Err(error); count],
        }
    }

    async fn offsets(&self, topic: &str) -> Result<Vec<OffsetRange>, StreamError> {
        let layout = self.core.layout();
        let entry = layout.entry(topic)?;
        Ok(entry.slots.iter().map(|slot| layout.slot(*slot).range()).collect())
    }

    async fn committed(&self, group: &str, topic: &str) -> Result<Vec<Option<i64>>, StreamError> {
        let slots = self.core.layout().entry(topic)?.slots.clone();
        let group = group.to_owned();
        self.core.readers.run(move |connection| readers::committed(connection, &group, &slots)).await
    }

    async fn subscribe(&self, options: SubscribeOptions) -> Result<Box<dyn Consumer>, StreamError> {
        Ok(Box::new(EmbeddedConsumer::join(Arc::clone(&self.core), options)?))
    }

    async fn read(
        &self,
        from: &TopicPartition,
        offset: i64,
        max_records: usize,
        max_wait: Duration,
    ) -> Result<Vec<Record>, StreamError> {
        let deadline = Instant::now() + max_wait;
        let mut changes = self.core.changes();
        loop {
            changes.mark_unchanged();
            let (slot, range) = {
                let layout = self.core.layout();
                let slot = layout.slot_of(from)?;
                (slot, layout.slot(slot).range())
            };
            if offset < range.start || offset > range.end {
                return Err(StreamError::truncated(
                    &from.topic,
                    from.partition,
                    offset,
                    range.start,
                    range.end,
                ));
            }
            if offset < range.end {
                let (partition, ahead) = (from.partition, OffsetRange { start: offset, ..range });
                let records = self
                    .core
                    .readers
                    .run(move |connection| readers::records(connection, slot, partition, ahead, max_records))
                    .await?;
                if !records.is_empty() {
                    return Ok(records);
                }
            }
            if tokio::time::timeout_at(deadline, changes.changed()).await.is_err() {
                return Ok(Vec::new());
            }
        }
    }

    async fn transactional(
        &self,
        transactional_id: &str,
    ) -> Result<Box<dyn TransactionalProducer>, StreamError> {
        Ok(Box::new(EmbeddedProducer::open(Arc::clone(&self.core), transactional_id).await?))
    }
}

#[cfg(test)]
mod tests;
