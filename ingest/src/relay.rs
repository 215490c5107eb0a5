//! Inventories of other producers: from a tenant's own topic, `inventory.<tenant>`, into `inventory`.
//!
//! Who may write such a topic is for the brokers to say (ACLs). That a record stands there makes it that tenant's, whatever it says
//! of itself; what contradicts goes to the tenant's quarantine. The relay gives each record its address and the time of its
//! receipt, as the gateway does. Copies and the group's position are one transaction, so each record is copied once.
//!
//! Each topic has a group and a task of its own: one that can't be read holds up nobody else.

mod copy;

use std::{collections::HashMap, sync::Arc, time::Duration};

use chrono::Utc;
use firn_catalog_client::{CatalogClient, ClientError};
use firn_inventory::tables::producers_topic;
use firn_runtime::{StageState, StatusBoard, retry::Backoff};
use firn_stream::{
    Consumer, Event, Log, StreamError, StreamErrorKind, SubscribeOptions, TransactionalProducer,
};
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use copy::copy;

/// Name on the status board.
const STAGE: &str = "relay";
/// Begins the names of groups and of transactional producers.
const GROUP: &str = "firn-relay";
/// How often it is looked for new topics.
const LOOK: Duration = Duration::from_secs(10);
/// Records of one transaction.
const MAX_RECORDS: usize = 1_000;
/// Longest wait for records: also how late the end is noticed.
const POLL: Duration = Duration::from_millis(200);

/// Between tries of a topic that can't be relayed.
const AGAIN: Backoff =
    Backoff { initial: Duration::from_secs(1), max: Duration::from_secs(60), attempts: u32::MAX };
/// A topic that went well this long begins anew with its failures.
const WELL: Duration = Duration::from_secs(120);

/// Why there is nothing to relay from. Run it again.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The log failed.
    #[error(transparent)]
    Log(#[from] StreamError),
    /// The catalog can't be asked for its tenants.
    #[error("the catalog can't be asked for its tenants")]
    Catalog(#[from] ClientError),
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct Relay {
    log: Arc<dyn Log>,
    catalog: CatalogClient,
    board: StatusBoard,
}

impl Relay {
    /// A relay of all tenants that have a topic of their own.
    #[must_use]
    pub fn new(log: Arc<dyn Log>, catalog: CatalogClient, board: StatusBoard) -> Self {
        Self { log, catalog, board }
    }

    /// Runs until `stop`; a transaction that has begun ends first.
    ///
    /// # Errors
    /// If topics or tenants can't be asked for. Failures of one topic don't end it.
    pub async fn run(&self, stop: CancellationToken) -> Result<(), RelayError> {
        // They end with this run, whatever ends it.
        let stop = stop.child_token();
        let _ended = stop.clone().drop_guard();
        let mut running: HashMap<String, JoinHandle<()>> = HashMap::new();
        while !stop.is_cancelled() {
            running.retain(|_, task| !task.is_finished());
            for tenant in self.tenants().await? {
                running.entry(tenant.clone()).or_insert_with(|| {
                    let (relay, stop) = (self.clone(), stop.clone());
                    tokio::spawn(async move { relay.keep(&tenant, &stop).await })
                });
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = stop.cancelled() => {}
            }
        }
        for task in running.into_values() {
            // A crash was told by the panic itself.
            let _ = task.await;
        }
        Ok(())
    }

    /// Those that there is a topic of.
    async fn tenants(&self) -> Result<Vec<String>, RelayError> {
        let topics = self.log.topics().await?;
        if !topics.iter().any(|topic| topic.starts_with(&producers_topic(""))) {
            return Ok(Vec::new());
        }
        let tenants = self.catalog.tenants().await?.into_iter().map(|tenant| tenant.name);
        Ok(tenants.filter(|tenant| topics.contains(&producers_topic(tenant))).collect())
    }

    /// Relays a tenant's topic until `stop`, or until there is none any more.
    async fn keep(&self, tenant: &str, stop: &CancellationToken) {
        let mut failures = 0;
        while !stop.is_cancelled() {
            let began = Instant::now();
            let Err(error) = self.relay(tenant, stop).await else { return };
            if error.kind == StreamErrorKind::NoSuchTopic {
                return;
            }
            failures = if began.elapsed() >= WELL { 1 } else { failures + 1 };
            let delay = AGAIN.delay(failures);
            tracing::warn!(tenant, %error, failures, ?delay, "the tenant's own topic can't be relayed; trying again");
            self.board.update(STAGE, tenant, |status| {
                status.state = StageState::Failing;
                status.message = error.to_string();
            });
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    async fn relay(&self, tenant: &str, stop: &CancellationToken) -> Result<(), StreamError> {
        // Another id each time: it is the group that shuts out whoever lost its partitions.
        let id = format!("{GROUP}-{tenant}-{}", Uuid::new_v4());
        let mut producer = self.log.transactional(&id).await?;
        let options = SubscribeOptions {
            group: format!("{GROUP}-{tenant}"),
            topics: vec![producers_topic(tenant)],
            instance_id: None,
            from_beginning: true,
        };
        let mut consumer = self.log.subscribe(options).await?;
        let ended = self.work(tenant, consumer.as_mut(), producer.as_mut(), stop).await;
        consumer.close().await;
        ended
    }

    async fn work(
        &self,
        tenant: &str,
        consumer: &mut dyn Consumer,
        producer: &mut dyn TransactionalProducer,
        stop: &CancellationToken,
    ) -> Result<(), StreamError> {
        while !stop.is_cancelled() {
            let Some(Event::Records(partition, records)) = consumer.poll(MAX_RECORDS, POLL).await? else {
                continue;
            };
            let Some(next) = records.last().map(|record| record.offset + 1) else { continue };
            let (count, received_at_us) = (records.len() as u64, Utc::now().timestamp_micros());
            let copies = records.into_iter().map(|record| copy(tenant, record, received_at_us)).collect();
            producer.commit(copies, &[(partition, next)], Some(&*consumer)).await?;
            metrics::counter!("firn_relay_records_total", "tenant" => tenant.to_owned()).increment(count);
            self.board.update(STAGE, tenant, |status| {
                status.state = StageState::Running;
                status.message.clear();
                *status.totals.entry("records".to_owned()).or_default() += count;
            });
        }
        Ok(())
    }
}
