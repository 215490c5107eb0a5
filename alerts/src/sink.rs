//! From the topic `compliance` to others: Elasticsearch or OpenSearch, and webhooks.
//!
//! # Delivery
//! At least once from the log, exactly once in effect: the state of a finding is a document with the finding's id and its
//! version as external version, so that an older transition never overwrites a newer one and a repeated one is a 409 that
//! means "done"; a transition is created once under an id of its own. Positions are committed to the group after the server
//! took everything before them. A document that the server can't take (a mapping error) goes to `compliance-dead-letter`
//! with the reason. A server that is down, slow or read-only is asked again with back-off for as long as it takes: the log
//! keeps the records, the worker is not disturbed, and the status says so.

mod aliases;
mod bulk;
mod document;
mod erase;
mod lifecycle;
mod outcome;
mod search;
mod template;
mod webhook;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use firn_inventory::tables::COMPLIANCE_TOPIC;
use firn_runtime::{StageState, StatusBoard, retry::Backoff};
use firn_stream::{
    Consumer, Event, Log, ProduceRecord, Record, StreamError, SubscribeOptions, TopicPartition, TopicSpec,
};
use tokio_util::sync::CancellationToken;

pub(crate) use document::{STATE_ALIAS, TRANSITIONS_PREFIX};
pub use search::Reindex;
pub(crate) use search::Search;
pub(crate) use webhook::Webhook;
pub use webhook::WebhookFormat;

/// What the server can't take, with the reason in the header `firn-reason`.
pub(crate) const DEAD_LETTER_TOPIC: &str = "compliance-dead-letter";
const MAX_RECORDS: usize = 1_000;
const POLL: Duration = Duration::from_millis(500);
/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const RETRIES: Backoff =
    Backoff { initial: Duration::from_millis(200), max: Duration::from_secs(30), attempts: u32::MAX };

/// Why records could not be delivered now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SinkError {
    #[error("{0}")]
    Server(String),
    #[error("{0}")]
    Log(#[from] StreamError),
}

/// Where transitions go. Repeating a delivery must do no harm.
#[async_trait]
pub(crate) trait Destination: Send + Sync {
    /// The stage on the status board; the group of its sinks is this behind `firn-`.
    fn stage(&self) -> &'static str;

    /// Makes sure that it is there and can take transitions; answers what had to be left out, for people.
    async fn prepare(&self) -> Result<String, SinkError>;

    /// Delivers records of one partition in order. An error means that none was taken and that it should be left alone for
    /// a while.
    async fn deliver(&self, records: &[Record]) -> Result<Delivered, SinkError>;
}

/// What a delivery came to.
#[derive(Debug, Default)]
pub(crate) struct Delivered {
    /// So many of the first records are done; the rest is to be delivered again.
    done: usize,
    /// What can never be delivered, by the record's place, and why.
    rejected: BTreeMap<usize, String>,
}

/// The sink.
pub(crate) struct Sink {
    to: Box<dyn Destination>,
    log: Arc<dyn Log>,
    board: StatusBoard,
}

/// What the status tells.
#[derive(Default)]
struct Totals {
    delivered: u64,
    dead: u64,
    left_out: String,
}

impl Sink {
    pub(crate) fn new(to: Box<dyn Destination>, log: Arc<dyn Log>, board: StatusBoard) -> Self {
        Self { to, log, board }
    }

    /// Delivers until `stop`. Never fails: what is wrong shows on the status board and is tried again.
    pub(crate) async fn run(&self, stop: &CancellationToken) {
        let mut failures = 0;
        let mut totals = Totals::default();
        while !stop.is_cancelled() {
            let Err(error) = self.session(stop, &mut totals, &mut failures).await else { return };
            failures += 1;
            let delay = RETRIES.delay(failures);
            tracing::warn!(%error, failures, ?delay, "findings could not be delivered; trying again");
            self.board.update(self.to.stage(), "*", |status| {
                status.state = StageState::Failing;
                status.message =
                    format!("{error}; nothing is lost, trying again in {} s", delay.as_secs().max(1));
            });
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// From preparing the server to the first error. What was read and not delivered is read again by the next session.
    async fn session(
        &self,
        stop: &CancellationToken,
        totals: &mut Totals,
        failures: &mut u32,
    ) -> Result<(), SinkError> {
        let left_out = self.to.prepare().await?;
        if left_out != totals.left_out {
            if !left_out.is_empty() {
                tracing::warn!(
                    sink = self.to.stage(),
                    left_out,
                    "the server can't do all that findings could use"
                );
            }
            totals.left_out = left_out;
        }
        let mut consumer = self.join().await?;
        let result = loop {
            if stop.is_cancelled() {
                break Ok(());
            }
            match self.turn(consumer.as_mut(), totals).await {
                Ok(()) => *failures = 0,
                Err(error) => break Err(error),
            }
        };
        consumer.close().await;
        result
    }

    async fn join(&self) -> Result<Box<dyn Consumer>, SinkError> {
        let partitions = self.log.topic(COMPLIANCE_TOPIC).await?.map_or(1, |topic| topic.partitions);
        for name in [COMPLIANCE_TOPIC, DEAD_LETTER_TOPIC] {
            if self.log.topic(name).await?.is_none() {
                let spec = TopicSpec { name: name.to_owned(), partitions, compacted: false, retention: None };
                // The worker makes `compliance` with as many partitions as `inventory` has: wait for it.
                if name == COMPLIANCE_TOPIC {
                    return Err(SinkError::Server("waiting for the topic 'compliance'".to_owned()));
                }
                self.log.ensure_topic(&spec).await?;
            }
        }
        let options = SubscribeOptions {
            group: format!("firn-{}", self.to.stage()),
            topics: vec![COMPLIANCE_TOPIC.to_owned()],
            instance_id: None,
            from_beginning: true,
        };
        Ok(self.log.subscribe(options).await?)
    }

    /// Takes what is there, delivers it, commits.
    async fn turn(&self, consumer: &mut dyn Consumer, totals: &mut Totals) -> Result<(), SinkError> {
        let (partition, records) = match consumer.poll(MAX_RECORDS, POLL).await? {
            Some(Event::Records(partition, records)) => (partition, records),
            Some(Event::Assigned(_) | Event::Revoked(_)) => return Ok(()),
            None => {
                self.tell(totals, None);
                return Ok(());
            }
        };
        let Delivered { done, rejected } = self.to.deliver(&records).await?;
        let Some(last) = done.checked_sub(1).and_then(|last| records.get(last)) else { return Ok(()) };
        totals.delivered += (done - rejected.len()) as u64;
        totals.dead += rejected.len() as u64;
        let (sink, dead) = (self.to.stage(), rejected.len() as u64);
        metrics::counter!("firn_alerts_sink_delivered_total", "sink" => sink).increment(done as u64 - dead);
        metrics::counter!("firn_alerts_sink_dead_letters_total", "sink" => sink).increment(dead);
        self.bury(&partition, &records, rejected).await?;
        consumer.commit(&[(partition.clone(), last.offset + 1)]).await?;
        self.tell(totals, Some(last));
        if let Some(rest) = records.get(done) {
            consumer.seek(&partition, rest.offset).await?;
        }
        Ok(())
    }

    /// Keeps what the server refused for good, with the reason.
    async fn bury(
        &self,
        from: &TopicPartition,
        records: &[Record],
        rejected: BTreeMap<usize, String>,
    ) -> Result<(), SinkError> {
        let letters = rejected.into_iter().map(|(at, reason)| {
            let record = &records[at];
            tracing::error!(
                partition = record.partition,
                offset = record.offset,
                reason,
                "finding went to the dead letters"
            );
            let mut headers = record.headers.clone();
            headers.push(("firn-reason".to_owned(), reason.into_bytes().into()));
            headers.push(("firn-offset".to_owned(), record.offset.to_string().into_bytes().into()));
            ProduceRecord {
                topic: DEAD_LETTER_TOPIC.to_owned(),
                key: record.key.clone(),
                partition: Some(from.partition),
                value: record.value.clone(),
                headers,
            }
        });
        for result in self.log.append(letters.collect()).await {
            result?;
        }
        Ok(())
    }

    fn tell(&self, totals: &Totals, newest: Option<&Record>) {
        self.board.update(self.to.stage(), "*", |status| {
            status.state = StageState::Running;
            status.message.clone_from(&totals.left_out);
            if let Some(record) = newest {
                status.fresh_until_ms = Some(record.timestamp_ms);
            }
            status.totals.insert("delivered".to_owned(), totals.delivered);
            status.totals.insert("dead_letters".to_owned(), totals.dead);
        });
    }
}

#[cfg(test)]
mod tests;
