//! Transactions: one job of the writer each.

use std::sync::Arc;

use async_trait::async_trait;

use super::{consumer::EmbeddedConsumer, writer::Core};
use crate::{Consumer, ProduceRecord, StreamError, StreamErrorKind, TopicPartition, TransactionalProducer};

/// A producer of one epoch.
pub(super) struct EmbeddedProducer {
    core: Arc<Core>,
    transactional_id: String,
    epoch: i64,
}

impl EmbeddedProducer {
    pub(super) async fn open(core: Arc<Core>, transactional_id: &str) -> Result<Self, StreamError> {
        let id = transactional_id.to_owned();
        let epoch = core.submit(0, move |batch| batch.open_producer(&id).map(Ok)).await?;
        Ok(Self { core, transactional_id: transactional_id.to_owned(), epoch })
    }
}

#[async_trait]
impl TransactionalProducer for EmbeddedProducer {
    async fn commit(
        &mut self,
        records: Vec<ProduceRecord>,
        offsets: &[(TopicPartition, i64)],
        consumer: Option<&dyn Consumer>,
    ) -> Result<(), StreamError> {
        let membership = match consumer.map(|consumer| consumer.as_any().downcast_ref::<EmbeddedConsumer>()) {
            Some(Some(consumer)) => Some(consumer.membership()),
            None if offsets.is_empty() => None,
            Some(None) | None => {
                return Err(StreamError::new(
                    StreamErrorKind::Config,
                    format!(
                        "transaction of {}: offsets need the consumer of the same log",
                        self.transactional_id
                    ),
                ));
            }
        };
        let (id, epoch, offsets) = (self.transactional_id.clone(), self.epoch, offsets.to_vec());
        let bytes = records.iter().map(ProduceRecord::payload_bytes).sum();
        self.core
            .submit(bytes, move |batch| {
                batch.commit_transaction((&id, epoch), &records, membership.as_ref(), &offsets)
            })
            .await
    }
}
