//! Transactions.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use rdkafka::{
    TopicPartitionList, consumer::ConsumerGroupMetadata, error::KafkaError, producer::Producer as _,
};

use super::{
    Cluster, Producer,
    consumer::KafkaConsumer,
    failure::{failed, task_failed},
    produce,
};
use crate::{Consumer, ProduceRecord, StreamError, StreamErrorKind, TopicPartition, TransactionalProducer};

/// How long each step with the transaction coordinator may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);

/// How often a step is tried that the coordinator says can be tried again.
const STEP_ATTEMPTS: u32 = 5;

/// See the module.
pub(super) struct KafkaProducer {
    cluster: Arc<Cluster>,
    producer: Producer,
    transactional_id: String,
    /// A transaction was begun and not ended, since the call was dropped: it is aborted first.
    open: bool,
}

/// The positions that a transaction moves.
struct Positions {
    list: TopicPartitionList,
    group: ConsumerGroupMetadata,
}

impl KafkaProducer {
    pub(super) async fn open(cluster: Arc<Cluster>, transactional_id: &str) -> Result<Self, StreamError> {
        let id = transactional_id.to_owned();
        let producer = cluster
            .ask(move |cluster| {
                let doing = format!("opening the transactional producer {id}");
                let mut client = cluster.config.producer();
                client.set("transactional.id", &id).set("transaction.timeout.ms", "10000");
                let producer: Producer =
                    cluster.config.create(&client).map_err(|error| failed(&doing, &error))?;
                again(|| producer.init_transactions(STEP_TIMEOUT)).map_err(|error| failed(&doing, &error))?;
                Ok(producer)
            })
            .await?;
        Ok(Self { cluster, producer, transactional_id: transactional_id.to_owned(), open: false })
    }

    fn positions(
        &self,
        offsets: &[(TopicPartition, i64)],
        consumer: Option<&dyn Consumer>,
    ) -> Result<Option<Positions>, StreamError> {
        if offsets.is_empty() {
            return Ok(None);
        }
        let doing = format!("transaction of {}", self.transactional_id);
        let consumer = consumer
            .and_then(|consumer| consumer.as_any().downcast_ref::<KafkaConsumer>())
            .ok_or_else(|| {
                StreamError::new(
                    StreamErrorKind::Config,
                    format!("{doing}: offsets need the consumer of the same log"),
                )
            })?;
        let list = consumer.offsets_to_commit(offsets)?;
        Ok(Some(Positions { list, group: consumer.group_metadata()? }))
    }

    async fn run(
        &mut self,
        records: &[ProduceRecord],
        positions: Option<Positions>,
    ) -> Result<(), StreamError> {
        let doing = format!("transaction of {}", self.transactional_id);
        if self.open {
            self.abort().await?;
        }
        self.producer.begin_transaction().map_err(|error| failed(&doing, &error))?;
        self.open = true;
        for record in records {
            // Deliveries are not awaited one by one: the commit fails unless all arrived.
            produce::enqueue(&self.producer, record).await?;
        }
        let producer = self.producer.clone();
        let outcome = tokio::task::spawn_blocking(move || end(&producer, positions, &doing));
        outcome.await.map_err(|_| task_failed())??;
        self.open = false;
        Ok(())
    }

    /// Makes sure that nothing of the open transaction will be seen.
    async fn abort(&mut self) -> Result<(), StreamError> {
        let (producer, doing) =
            (self.producer.clone(), format!("aborting a transaction of {}", self.transactional_id));
        let aborted = tokio::task::spawn_blocking(move || {
            again(|| producer.abort_transaction(STEP_TIMEOUT)).map_err(|error| failed(&doing, &error))
        });
        aborted.await.map_err(|_| task_failed())??;
        self.open = false;
        Ok(())
    }
}

/// Positions, then the commit. Waits for the cluster.
fn end(producer: &Producer, positions: Option<Positions>, doing: &str) -> Result<(), StreamError> {
    if let Some(Positions { list, group }) = &positions {
        again(|| producer.send_offsets_to_transaction(list, group, STEP_TIMEOUT))
            .map_err(|error| failed(doing, &error))?;
    }
    again(|| producer.commit_transaction(STEP_TIMEOUT)).map_err(|error| {
        if matches!(&error, KafkaError::Transaction(reason) if reason.txn_requires_abort() || reason.is_fatal()) {
            return failed(doing, &error);
        }
        // Nobody knows whether the coordinator has it. A new producer settles that; this one must not go on.
        StreamError::new(
            StreamErrorKind::Fenced,
            format!("{doing}: the commit's outcome is unknown ({error}): start again from the committed positions"),
        )
    })
}

/// librdkafka says which failures of a transaction's step may be tried again; a repeated step has no further effect.
fn again(step: impl Fn() -> Result<(), KafkaError>) -> Result<(), KafkaError> {
    let mut attempt = 1;
    loop {
        match step() {
            Err(KafkaError::Transaction(error)) if error.is_retriable() && attempt < STEP_ATTEMPTS => {
                attempt += 1;
            }
            outcome => return outcome,
        }
    }
}

#[async_trait]
impl TransactionalProducer for KafkaProducer {
    async fn commit(
        &mut self,
        records: Vec<ProduceRecord>,
        offsets: &[(TopicPartition, i64)],
        consumer: Option<&dyn Consumer>,
    ) -> Result<(), StreamError> {
        let positions = self.positions(offsets, consumer)?;
        for record in &records {
            produce::check(&self.cluster, record).await?;
        }
        let Err(error) = self.run(&records, positions).await else { return Ok(()) };
        // A fenced producer can't abort, and needn't: its successor has.
        if self.open && error.kind != StreamErrorKind::Fenced {
            self.abort().await?;
        }
        Err(error)
    }
}
