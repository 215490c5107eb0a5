//! What happens in tenants' catalogs, published to a topic as CloudEvents: each event once, in its tenant's order.
//!
//! Tenants belong to partitions of a compacted topic beside it, which holds how far each tenant's events are published. Who
//! owns a partition publishes its tenants' events: events, position and the proof of ownership are one transaction, so that
//! neither a crash nor a worker that lost its partition unawares publishes anything twice.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use bytes::Bytes;
use firn_catalog_client::{CatalogClient, ClientErrorKind, Event as CatalogEvent, EventPage};
use firn_runtime::StatusBoard;
use firn_stream::{
    Assigned, Consumer, Contents, Event, Log, ProduceRecord, Record, SubscribeOptions, TopicPartition,
    TopicSpec, TransactionalProducer, partition_for_key,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Name of the stage on the status board.
pub(super) const STAGE: &str = "events";
const GROUP: &str = "firn-events";
/// Of the topics that are made; those that exist keep theirs.
const PARTITIONS: i32 = 8;
/// How often the catalog is asked how far events go.
const LOOK: Duration = Duration::from_secs(1);
/// Longest wait for the log: also how late the end is noticed.
const POLL_WAIT: Duration = Duration::from_millis(100);
/// Events of one transaction.
const PAGE: usize = 500;

/// See the module.
pub(super) struct Publisher {
    pub(super) log: Arc<dyn Log>,
    pub(super) catalog: CatalogClient,
    pub(super) topic: String,
    pub(super) board: StatusBoard,
}

impl Publisher {
    /// Publishes until `stop`. What was not published then is published by who comes next.
    ///
    /// # Errors
    /// If the log or the catalog fails. Run it again: it goes on where it was.
    pub(super) async fn run(&self, stop: &CancellationToken) -> Result<()> {
        let mut session = Session::join(self).await?;
        let ended = session.work(stop).await;
        session.consumer.close().await;
        ended
    }
}

/// How far the events of a partition's tenants are published, by tenant.
type Positions = BTreeMap<String, i64>;

/// One membership in the group.
struct Session<'a> {
    publisher: &'a Publisher,
    positions_topic: String,
    partitions: i32,
    consumer: Box<dyn Consumer>,
    producer: Box<dyn TransactionalProducer>,
    /// Partitions that are ours: the next offset to read there, and what they hold.
    owned: HashMap<i32, (i64, Positions)>,
    looked_at: Option<Instant>,
}

impl<'a> Session<'a> {
    async fn join(publisher: &'a Publisher) -> Result<Self> {
        let log = publisher.log.as_ref();
        let positions_topic = format!("{}-positions", publisher.topic);
        let spec = |name: &str, compacted| TopicSpec {
            name: name.to_owned(),
            partitions: PARTITIONS,
            compacted,
            retention: None,
        };
        if log.topic(&publisher.topic).await?.is_none() {
            log.ensure_topic(&spec(&publisher.topic, false)).await?;
        }
        let positions = match log.topic(&positions_topic).await? {
            Some(topic) => topic,
            None => log.ensure_topic(&spec(&positions_topic, true)).await?,
        };
        // Another id each time: it is the group that shuts out whoever lost its partitions.
        let producer = log.transactional(&format!("{GROUP}-{}", Uuid::new_v4())).await?;
        let options = SubscribeOptions {
            group: GROUP.to_owned(),
            topics: vec![positions_topic.clone()],
            instance_id: None,
            from_beginning: true,
        };
        Ok(Self {
            publisher,
            positions_topic,
            partitions: positions.partitions,
            consumer: log.subscribe(options).await?,
            producer,
            owned: HashMap::new(),
            looked_at: None,
        })
    }

    async fn work(&mut self, stop: &CancellationToken) -> Result<()> {
        while !stop.is_cancelled() {
            match self.consumer.poll(PAGE, POLL_WAIT).await? {
                None => {}
                Some(Event::Assigned(assigned)) => {
                    for partition in assigned {
                        self.restore(partition).await?;
                    }
                }
                Some(Event::Revoked(partitions)) => {
                    partitions.iter().for_each(|lost| drop(self.owned.remove(&lost.partition)));
                }
                // Our own: whoever owned the partition before has been read when it was assigned.
                Some(Event::Records(partition, records)) => {
                    if let (Some((next, _)), Some(last)) =
                        (self.owned.get_mut(&partition.partition), records.last())
                    {
                        *next = last.offset + 1;
                    }
                }
            }
            if self.looked_at.is_none_or(|at| at.elapsed() >= LOOK) {
                self.looked_at = Some(Instant::now());
                self.publish_all(stop).await?;
            }
        }
        Ok(())
    }

    /// What the partition holds: all that its former owner has committed, since its offset was asked for before its range.
    async fn restore(&mut self, assigned: Assigned) -> Result<()> {
        let log = self.publisher.log.as_ref();
        let Assigned { partition, offset, range, .. } = assigned;
        let number = partition.partition;
        let mut positions = Positions::new();
        let mut contents = Contents::new(log, partition, range);
        while let Some(records) = contents.next().await? {
            for record in &records {
                let (tenant, sequence) = position_of(record).with_context(|| {
                    format!(
                        "{}/{number}, offset {}: no position; does another program write here?",
                        self.positions_topic, record.offset
                    )
                })?;
                positions.insert(tenant, sequence);
            }
        }
        self.owned.insert(number, (offset, positions));
        Ok(())
    }

    /// Publishes what is new of all tenants whose partition is ours.
    async fn publish_all(&mut self, stop: &CancellationToken) -> Result<()> {
        if self.owned.is_empty() {
            return Ok(());
        }
        let last = self.publisher.catalog.last_events().await.context("asking the catalog for events")?;
        for last in last.tenants {
            let partition = partition_for_key(last.tenant.as_bytes(), self.partitions);
            while let Some((_, positions)) = self.owned.get(&partition) {
                let after = positions.get(&last.tenant).copied().unwrap_or_default();
                if after >= last.sequence || stop.is_cancelled() {
                    break;
                }
                match self.publisher.catalog.tenant(&last.tenant).events(after, PAGE, 0).await {
                    Ok(page) => self.publish(&last.tenant, partition, page).await?,
                    // Deleted: it may be restored, and is then gone on with.
                    Err(error) if error.kind == ClientErrorKind::NotFound => break,
                    Err(error) => {
                        return Err(error).with_context(|| format!("reading events of '{}'", last.tenant));
                    }
                }
            }
        }
        Ok(())
    }

    /// Publishes a page of a tenant's events, and that it is.
    async fn publish(&mut self, tenant: &str, partition: i32, page: EventPage) -> Result<()> {
        let EventPage { events, next } = page;
        let published = u64::try_from(events.len())?;
        let topic = &self.publisher.topic;
        let mut records: Vec<_> = events.into_iter().map(|event| cloud_event(topic, tenant, event)).collect();
        records.push(position(&self.positions_topic, partition, tenant, next));
        let Some((offset, positions)) = self.owned.get_mut(&partition) else { return Ok(()) };
        let owner = TopicPartition { topic: self.positions_topic.clone(), partition };
        self.producer.commit(records, &[(owner, *offset)], Some(self.consumer.as_ref())).await?;
        positions.insert(tenant.to_owned(), next);
        self.publisher.board.update(STAGE, tenant, |status| {
            *status.totals.entry("events".to_owned()).or_default() += published;
        });
        Ok(())
    }
}

/// A record of the positions topic.
fn position(topic: &str, partition: i32, tenant: &str, sequence: i64) -> ProduceRecord {
    ProduceRecord {
        topic: topic.to_owned(),
        key: Some(Bytes::copy_from_slice(tenant.as_bytes())),
        partition: Some(partition),
        value: Some(sequence.to_string().into()),
        headers: Vec::new(),
    }
}

/// What [`position`] wrote.
fn position_of(record: &Record) -> Option<(String, i64)> {
    let tenant = std::str::from_utf8(record.key.as_deref()?).ok()?;
    let sequence = std::str::from_utf8(record.value.as_deref()?).ok()?.parse().ok()?;
    Some((tenant.to_owned(), sequence))
}

/// An event in the binary mode of CloudEvents' Kafka binding. Source and id are unique together.
fn cloud_event(topic: &str, tenant: &str, event: CatalogEvent) -> ProduceRecord {
    let CatalogEvent { sequence, event_type, time, data } = event;
    let header = |name: &str, value: String| (name.to_owned(), Bytes::from(value));
    let mut headers = vec![
        header("content-type", "application/json".to_owned()),
        header("ce_specversion", "1.0".to_owned()),
        header("ce_id", sequence.to_string()),
        header("ce_source", format!("/v1/tenants/{tenant}/events")),
        header("ce_type", format!("firn.catalog.{event_type}")),
        header("ce_time", time),
    ];
    if let Some(reference) = data["reference"].as_str() {
        headers.push(header("ce_subject", reference.to_owned()));
    }
    ProduceRecord {
        topic: topic.to_owned(),
        key: Some(Bytes::copy_from_slice(tenant.as_bytes())),
        partition: None,
        value: Some(data.to_string().into()),
        headers,
    }
}
