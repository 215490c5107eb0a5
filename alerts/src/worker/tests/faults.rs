//! A log whose transactions fail: before they are made, or after, with the answer lost.

use std::{collections::VecDeque, sync::Mutex};

use firn_stream::{
    Consumer, OffsetRange, ProduceRecord, Record, StreamError, SubscribeOptions, Topic, TopicPartition,
    TopicSpec, TransactionalProducer,
};

use super::{Arc, Duration, Log, StreamErrorKind};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    Before,
    After,
    /// Nothing comes of it, neither good nor bad.
    Stuck,
}

pub(super) struct FaultyLog {
    inner: Arc<dyn Log>,
    faults: Arc<Mutex<VecDeque<Fault>>>,
}

struct FaultyProducer {
    inner: Box<dyn TransactionalProducer>,
    faults: Arc<Mutex<VecDeque<Fault>>>,
}

impl FaultyLog {
    pub(super) fn new(inner: Arc<dyn Log>, faults: Vec<Fault>) -> Self {
        Self { inner, faults: Arc::new(Mutex::new(faults.into())) }
    }

    pub(super) fn faults_left(&self) -> usize {
        self.faults.lock().unwrap().len()
    }
}

#[async_trait::async_trait]
impl TransactionalProducer for FaultyProducer {
    async fn commit(
        &mut self,
        records: Vec<ProduceRecord>,
        offsets: &[(TopicPartition, i64)],
        consumer: Option<&dyn Consumer>,
    ) -> Result<(), StreamError> {
        let fault = self.faults.lock().unwrap().pop_front().unwrap_or(Fault::None);
        let failed =
            StreamError { kind: StreamErrorKind::Unavailable, message: format!("injected: {fault:?}") };
        if fault == Fault::Stuck {
            return std::future::pending().await;
        }
        if fault == Fault::Before {
            return Err(failed);
        }
        self.inner.commit(records, offsets, consumer).await?;
        if fault == Fault::After { Err(failed) } else { Ok(()) }
    }
}

#[async_trait::async_trait]
impl Log for FaultyLog {
    async fn ensure_topic(&self, spec: &TopicSpec) -> Result<Topic, StreamError> {
        self.inner.ensure_topic(spec).await
    }

    async fn topics(&self) -> Result<Vec<String>, StreamError> {
        self.inner.topics().await
    }

    async fn topic(&self, name: &str) -> Result<Option<Topic>, StreamError> {
        self.inner.topic(name).await
    }

    async fn append(&self, records: Vec<ProduceRecord>) -> Vec<Result<(TopicPartition, i64), StreamError>> {
        self.inner.append(records).await
    }

    async fn offsets(&self, topic: &str) -> Result<Vec<OffsetRange>, StreamError> {
        self.inner.offsets(topic).await
    }

    async fn committed(&self, group: &str, topic: &str) -> Result<Vec<Option<i64>>, StreamError> {
        self.inner.committed(group, topic).await
    }

    async fn subscribe(&self, options: SubscribeOptions) -> Result<Box<dyn Consumer>, StreamError> {
        self.inner.subscribe(options).await
    }

    async fn read(
        &self,
        from: &TopicPartition,
        offset: i64,
        max_records: usize,
        max_wait: Duration,
    ) -> Result<Vec<Record>, StreamError> {
        self.inner.read(from, offset, max_records, max_wait).await
    }

    async fn transactional(
        &self,
        transactional_id: &str,
    ) -> Result<Box<dyn TransactionalProducer>, StreamError> {
        let inner = self.inner.transactional(transactional_id).await?;
        Ok(Box::new(FaultyProducer { inner, faults: Arc::clone(&self.faults) }))
    }
}
