//! Topics: made, grown, asked for.
//!
//! Over connections of our own: the crate's client for this never asks for a token, so that it can't be let in by one.

use std::{sync::Arc, time::Instant};

use super::{
    Cluster, REQUEST_TIMEOUT, topic_id,
    wire::{Answer, Api, Body, malformed},
};
use crate::{StreamError, StreamErrorKind, Topic, TopicSpec};

const CREATE_TOPICS: Api = Api { key: 19, version: 5, flexible: true };
const CREATE_PARTITIONS: Api = Api { key: 37, version: 2, flexible: true };

const TIMED_OUT: i16 = 7;
const TOPIC_NOT_AUTHORIZED: i16 = 29;
const CLUSTER_NOT_AUTHORIZED: i16 = 31;
const TOPIC_EXISTS: i16 = 36;
const NOT_MORE_PARTITIONS: i16 = 37;
const NOT_ENOUGH_BROKERS: i16 = 38;
const POLICY_VIOLATION: i16 = 44;

pub(super) async fn topic(cluster: &Arc<Cluster>, name: &str) -> Result<Option<Topic>, StreamError> {
    let asked = name.to_owned();
    let Some(partitions) = cluster.ask(move |cluster| cluster.count_partitions(&asked)).await? else {
        return Ok(None);
    };
    let id = topic_id::ask(&cluster.wire, name).await?;
    Ok(id.map(|id| Topic { name: name.to_owned(), id, partitions }))
}

pub(super) async fn ensure_topic(cluster: &Arc<Cluster>, spec: &TopicSpec) -> Result<Topic, StreamError> {
    match topic(cluster, &spec.name).await? {
        Some(present) if present.partitions >= spec.partitions => return Ok(present),
        Some(_) => grow(cluster, spec).await?,
        None => create(cluster, spec).await?,
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

async fn create(cluster: &Cluster, spec: &TopicSpec) -> Result<(), StreamError> {
    let replication = cluster.config.replication;
    let settings = settings(spec, replication);
    let topic = Body::default().length(1).string(&spec.name).int(spec.partitions);
    // Kafka chooses the brokers.
    let topic = topic.short(i16::try_from(replication).unwrap_or(i16::MAX)).length(0);
    let topic = settings.iter().fold(topic.length(settings.len()), |topic, (name, value)| {
        topic.string(name).string(value).no_tags()
    });
    // Another process may have been faster.
    let doing = format!("creating topic {}", spec.name);
    request(cluster, &doing, CREATE_TOPICS, topic.no_tags(), TOPIC_EXISTS).await
}

fn settings(spec: &TopicSpec, replication: i32) -> Vec<(&'static str, String)> {
    let mut settings = Vec::new();
    if spec.compacted {
        // Small segments and a low ratio keep what a restart has to read near the number of keys.
        let compaction = [
            ("cleanup.policy", "compact"),
            ("segment.bytes", "67108864"),
            ("min.cleanable.dirty.ratio", "0.1"),
            ("max.compaction.lag.ms", "600000"),
        ];
        settings.extend(compaction.map(|(name, value)| (name, value.to_owned())));
    } else if let Some(retention) = spec.retention {
        settings.push(("retention.ms", retention.as_millis().to_string()));
    }
    if replication >= 3 {
        // With acks=all: acknowledged means on two brokers at least.
        settings.push(("min.insync.replicas", "2".to_owned()));
    }
    settings
}

async fn grow(cluster: &Cluster, spec: &TopicSpec) -> Result<(), StreamError> {
    let doing = format!("adding partitions to {}", spec.name);
    let topic = Body::default().length(1).string(&spec.name).int(spec.partitions).null().no_tags();
    request(cluster, &doing, CREATE_PARTITIONS, topic, NOT_MORE_PARTITIONS).await
}

/// Both requests end with a timeout and whether they are only meant as a question; both answers begin with throttle time,
/// then the name of each topic and its error. `done_already` is success.
async fn request(
    cluster: &Cluster,
    doing: &str,
    api: Api,
    topics: Body,
    done_already: i16,
) -> Result<(), StreamError> {
    let timeout_ms = i32::try_from(REQUEST_TIMEOUT.as_millis()).unwrap_or(i32::MAX);
    let body = topics.int(timeout_ms).flag(false).no_tags();
    let answer = cluster.wire.ask(doing, api, &body).await?;
    let (code, reason) = parse(&answer).ok_or_else(|| {
        StreamError::new(StreamErrorKind::Unavailable, format!("{doing} failed: {}", malformed()))
    })?;
    if code == 0 || code == done_already {
        return Ok(());
    }
    let (kind, remedy) = match code {
        TIMED_OUT | NOT_ENOUGH_BROKERS => (StreamErrorKind::Unavailable, "check the brokers and try again"),
        TOPIC_NOT_AUTHORIZED | CLUSTER_NOT_AUTHORIZED => {
            (StreamErrorKind::Config, "let this principal create topics, or create it beforehand")
        }
        POLICY_VIOLATION => {
            (StreamErrorKind::Config, "create it beforehand, as the brokers' policy wants it")
        }
        _ => (StreamErrorKind::Unavailable, "see the broker's log"),
    };
    Err(StreamError::new(kind, format!("{doing} failed: {reason} (Kafka's error {code}); {remedy}")))
}

/// Error and reason of the only topic.
fn parse(answer: &[u8]) -> Option<(i16, String)> {
    let mut answer = Answer(answer);
    answer.int()?; // throttle time
    if answer.length()? != 1 {
        return None;
    }
    answer.string()?; // name
    let code = answer.short()?;
    let reason = String::from_utf8_lossy(answer.string()?).into_owned();
    Some((code, reason))
}
