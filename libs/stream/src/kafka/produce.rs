//! Appending: everything is handed to librdkafka in order, then all acknowledgements are awaited.

use std::{sync::Arc, time::Duration};

use rdkafka::{
    error::{KafkaError, RDKafkaErrorCode},
    producer::DeliveryFuture,
};

use super::{
    Cluster, Producer,
    failure::{code, failed},
    record::to_send,
};
use crate::{MAX_RECORD_BYTES, ProduceRecord, StreamError, StreamErrorKind, TopicPartition};

/// How long the producer's queue may stay full before a record is refused.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) async fn append(
    cluster: &Arc<Cluster>,
    producer: &Producer,
    records: Vec<ProduceRecord>,
) -> Vec<Result<(TopicPartition, i64), StreamError>> {
    let mut waiting = Vec::with_capacity(records.len());
    for record in &records {
        waiting.push(match check(cluster, record).await {
            Ok(()) => enqueue(producer, record).await,
            Err(error) => Err(error),
        });
    }
    let mut results = Vec::with_capacity(records.len());
    for (delivery, record) in waiting.into_iter().zip(&records) {
        results.push(match delivery {
            Ok(delivery) => acknowledged(cluster, delivery, record).await,
            Err(error) => Err(error),
        });
    }
    results
}

/// Whether the record can be sent at all.
pub(super) async fn check(cluster: &Arc<Cluster>, record: &ProduceRecord) -> Result<(), StreamError> {
    let bytes = record.payload_bytes();
    if bytes > MAX_RECORD_BYTES {
        return Err(StreamError::too_large(&record.topic, bytes, MAX_RECORD_BYTES));
    }
    let known = cluster.partitions_of(&record.topic).await?;
    let Some(partition) = record.partition.filter(|partition| !(0..known).contains(partition)) else {
        return Ok(());
    };
    // The topic may have grown since it was looked at.
    cluster.forget(&record.topic);
    let partitions = cluster.partitions_of(&record.topic).await?;
    if (0..partitions).contains(&partition) {
        return Ok(());
    }
    Err(StreamError::no_such_partition(&record.topic, partition, partitions))
}

/// Hands a record to librdkafka, which keeps the order; waits while its queue is full.
pub(super) async fn enqueue(
    producer: &Producer,
    record: &ProduceRecord,
) -> Result<DeliveryFuture, StreamError> {
    let deadline = tokio::time::Instant::now() + QUEUE_TIMEOUT;
    let mut message = to_send(record);
    loop {
        match producer.send_result(message) {
            Ok(delivery) => return Ok(delivery),
            Err((error, unsent))
                if code(&error) == Some(RDKafkaErrorCode::QueueFull)
                    && tokio::time::Instant::now() < deadline =>
            {
                message = unsent;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err((error, _)) => return Err(failed(&format!("sending a record to {}", record.topic), &error)),
        }
    }
}

async fn acknowledged(
    cluster: &Cluster,
    delivery: DeliveryFuture,
    record: &ProduceRecord,
) -> Result<(TopicPartition, i64), StreamError> {
    let error = match delivery.await {
        Ok(Ok(delivery)) => {
            let to = TopicPartition { topic: record.topic.clone(), partition: delivery.partition };
            return Ok((to, delivery.offset));
        }
        Ok(Err((error, _))) => error,
        Err(_) => KafkaError::Canceled,
    };
    let error = failed(&format!("appending to {}", record.topic), &error);
    if error.kind == StreamErrorKind::NoSuchTopic {
        cluster.forget(&record.topic);
    }
    Err(error)
}
