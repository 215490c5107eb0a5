//! Topics: made, grown, asked for.

use std::{sync::Arc, time::Instant};

use rdkafka::{
    admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication, TopicResult},
    client::DefaultClientContext,
    error::{KafkaError, RDKafkaErrorCode},
};

use super::{Cluster, REQUEST_TIMEOUT, failure::failed, topic_id};
use crate::{StreamError, StreamErrorKind, Topic, TopicSpec};

type Admin = AdminClient<DefaultClientContext>;

pub(super) async fn topic(cluster: &Arc<Cluster>, name: &str) -> Result<Option<Topic>, StreamError> {
    let asked = name.to_owned();
    let Some(partitions) = cluster.ask(move |cluster| cluster.count_partitions(&asked)).await? else {
        return Ok(None);
    };
    let id = topic_id::ask(&cluster.config.bootstrap_servers, name).await?;
    Ok(id.map(|id| Topic { name: name.to_owned(), id, partitions }))
}

pub(super) async fn ensure_topic(cluster: &Arc<Cluster>, spec: &TopicSpec) -> Result<Topic, StreamError> {
    let admin: Admin = cluster
        .config
        .client()
        .create()
        .map_err(|error| failed(&format!("creating topic {}", spec.name), &error))?;
    match topic(cluster, &spec.name).await? {
        Some(present) if present.partitions >= spec.partitions => return Ok(present),
        Some(_) => grow(&admin, spec).await?,
        None => create(cluster, &admin, spec).await?,
    }
    cluster.forget(&spec.name);
    // Brokers learn of it one after the other.
    let deadline = Instant::now() + REQUEST_TIMEOUT;
    loop {
        match topic(cluster, &spec.name).await? {
            Some(made) if made.partitions >= spec.partitions => return Ok(made),
            _ if Instant::now() >= deadline => {
                let message =
                    format!("topic {} was created, but the brokers don't list it yet: try again", spec.name);
                return Err(StreamError::new(StreamErrorKind::Unavailable, message));
            }
            _ => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
        }
    }
}

async fn create(cluster: &Cluster, admin: &Admin, spec: &TopicSpec) -> Result<(), StreamError> {
    let retention = spec.retention.map(|age| age.as_millis().to_string());
    let mut topic =
        NewTopic::new(&spec.name, spec.partitions, TopicReplication::Fixed(cluster.config.replication));
    if spec.compacted {
        // Small segments and a low ratio keep what a restart has to read near the number of keys.
        topic = topic
            .set("cleanup.policy", "compact")
            .set("segment.bytes", "67108864")
            .set("min.cleanable.dirty.ratio", "0.1")
            .set("max.compaction.lag.ms", "600000");
    } else if let Some(retention) = &retention {
        topic = topic.set("retention.ms", retention);
    }
    if cluster.config.replication >= 3 {
        // With acks=all: acknowledged means on two brokers at least.
        topic = topic.set("min.insync.replicas", "2");
    }
    let answer = admin.create_topics([&topic], &options()).await;
    // Another process may have been faster.
    settled(&format!("creating topic {}", spec.name), answer, RDKafkaErrorCode::TopicAlreadyExists)
}

async fn grow(admin: &Admin, spec: &TopicSpec) -> Result<(), StreamError> {
    let wanted = usize::try_from(spec.partitions).unwrap_or_default();
    let answer = admin.create_partitions([&NewPartitions::new(&spec.name, wanted)], &options()).await;
    settled(&format!("adding partitions to {}", spec.name), answer, RDKafkaErrorCode::InvalidPartitions)
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT)).operation_timeout(Some(REQUEST_TIMEOUT))
}

/// One topic was asked for, so one result is expected; `done_already` is success.
fn settled(
    doing: &str,
    answer: Result<Vec<TopicResult>, KafkaError>,
    done_already: RDKafkaErrorCode,
) -> Result<(), StreamError> {
    match answer.map_err(|error| failed(doing, &error))?.pop() {
        Some(Err((_, code))) if code != done_already => Err(failed(doing, &KafkaError::AdminOp(code))),
        _ => Ok(()),
    }
}
