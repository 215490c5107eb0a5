//! The service: worker, rules and sink under one roof, and their API.

use std::{sync::Arc, time::Duration};

use axum::Router;
use firn_auth::Guard;
use firn_catalog_client::CatalogClient;
use firn_runtime::{StageState, StatusBoard, reload::Live};
use firn_stream::Log;
use firn_table::FileIo;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::{
    AlertsError,
    api::{self, ApiState},
    index::FindingsIndex,
    rules::RuleBook,
    sink::{Destination, Search, Sink, SinkError, Webhook, WebhookFormat},
    worker::{Rebuilding, Rebuilt, Repartitioned, Repartitioning, STAGE, Worker},
};

/// Settings.
#[derive(Clone, Debug)]
pub struct AlertsConfig {
    /// Partitions of the topics, where they don't exist yet. Default 8.
    pub partitions: i32,
    /// Name of this worker, the same after a restart, another for each replica: the log fences off the older of two.
    pub instance: String,
    /// How often tenants' rules are looked after. Default 2 seconds.
    pub rules_interval: Duration,
    /// A host that was silent for so long is retired, and its findings are over; never, if `None`. Default 90 days.
    pub retire_after: Option<Duration>,
    /// Elasticsearch or OpenSearch; no sink without it. User and password may stand in the URL, and change meanwhile.
    pub elasticsearch_url: Option<Live<Url>>,
    /// Each transition is posted there; no webhook without it.
    pub webhook_url: Option<Live<Url>>,
    /// What is posted.
    pub webhook_format: WebhookFormat,
}

impl Default for AlertsConfig {
    fn default() -> Self {
        Self {
            partitions: 8,
            instance: "0".to_owned(),
            rules_interval: Duration::from_secs(2),
            retire_after: Some(Duration::from_secs(90 * 24 * 3_600)),
            elasticsearch_url: None,
            webhook_url: None,
            webhook_format: WebhookFormat::default(),
        }
    }
}

/// See the crate. Cheap to clone.
#[derive(Clone)]
pub struct Alerts {
    worker: Worker,
}

impl Alerts {
    /// Nothing runs yet.
    #[must_use]
    pub fn new(
        config: AlertsConfig,
        log: Arc<dyn Log>,
        catalog: CatalogClient,
        file_io: FileIo,
        board: StatusBoard,
    ) -> Self {
        let book = Arc::new(RuleBook::new(catalog, file_io));
        Self { worker: Worker { log, book, index: FindingsIndex::default(), board, config } }
    }

    /// Runs worker, rules and sink until `shutdown`; a transaction that was begun is finished. A server behind the sink that
    /// is down never ends this; a log that fails for good does.
    pub async fn run(&self, shutdown: CancellationToken) -> Result<(), AlertsError> {
        let stop = shutdown.child_token();
        let work = async {
            let ended = self.worker.run(&stop).await;
            stop.cancel();
            ended
        };
        let (ended, (), ()) = tokio::join!(work, self.keep_rules(&stop), self.deliver(&stop));
        ended
    }

    /// After the topic `inventory` grew: takes each host's state to the partition that its records come to now, and brings the
    /// topics of alerts to as many partitions. No worker may be at work. What was interrupted is completed by another call.
    /// `settle` is how long those who write to `inventory` may take to learn of its new partitions; `tell` hears what is going on.
    ///
    /// # Errors
    /// Workers that are at work, topics that don't fit, log or catalog that fail.
    pub async fn repartition(
        &self,
        settle: Duration,
        tell: impl Fn(&str) + Send + Sync,
    ) -> Result<Repartitioned, AlertsError> {
        self.worker.book.learn_erased().await?;
        self.worker.repartition(&Repartitioning::after(settle), &tell).await
    }

    /// What [`Alerts::repartition`] would do as of now; changes nothing.
    ///
    /// # Errors
    /// Topics that don't fit, a log that fails.
    pub async fn plan_repartition(&self) -> Result<Repartitioned, AlertsError> {
        self.worker.plan_repartition().await
    }

    /// After states were lost, or are doubted: makes those that differ from the ledger anew. No worker may be at work. What was
    /// interrupted is completed by another call. `tell` hears what is going on.
    ///
    /// # Errors
    /// Workers that are at work, topics that don't fit, log, catalog or tables that fail.
    pub async fn rebuild(&self, tell: impl Fn(&str) + Send + Sync) -> Result<Rebuilt, AlertsError> {
        self.worker.rebuild(&Rebuilding::default(), &tell).await
    }

    /// What [`Alerts::rebuild`] would do as of now; changes nothing.
    ///
    /// # Errors
    /// Topics that don't fit, log, catalog or tables that fail.
    pub async fn plan_rebuild(&self, tell: impl Fn(&str) + Send + Sync) -> Result<Rebuilt, AlertsError> {
        self.worker.plan_rebuild(&tell).await
    }

    /// The API: findings, and commands to them. `/v1/tenants/{tenant}/findings…`
    pub fn router(&self, guard: impl Into<Guard>) -> Router {
        api::router(ApiState {
            guard: guard.into(),
            log: Arc::clone(&self.worker.log),
            index: self.worker.index.clone(),
            book: Arc::clone(&self.worker.book),
        })
    }

    async fn keep_rules(&self, stop: &CancellationToken) {
        let report = |tenant: &str, error: Option<String>| {
            let problems =
                self.worker.book.cached(tenant).map(|rules| rules.problems.clone()).unwrap_or_default();
            self.worker.board.update(STAGE, tenant, |status| {
                status.state = if error.is_some() { StageState::Failing } else { StageState::Running };
                status.message = error.unwrap_or_else(|| problems.join("; "));
            });
        };
        self.worker.book.keep(self.worker.config.rules_interval, stop, report).await;
    }

    async fn deliver(&self, stop: &CancellationToken) {
        let config = &self.worker.config;
        let search = |url: &Url| Search::new(url).map(|to| Box::new(to) as Box<dyn Destination>);
        let webhook = |url: &Url| {
            Webhook::new(url.clone(), config.webhook_format).map(|to| Box::new(to) as Box<dyn Destination>)
        };
        tokio::join!(
            self.sinks(config.elasticsearch_url.as_ref(), search, stop),
            self.sinks(config.webhook_url.as_ref(), webhook, stop)
        );
    }

    /// One sink after the other: each ends in order when the URL changes, and the next goes on from where it was.
    async fn sinks(
        &self,
        url: Option<&Live<Url>>,
        open: impl Fn(&Url) -> Result<Box<dyn Destination>, SinkError>,
        stop: &CancellationToken,
    ) {
        let Some(url) = url else { return };
        while !stop.is_cancelled() {
            let (now, end) = (url.get(), stop.child_token());
            let sink = self.sink(open(&now), &end);
            let changed = async {
                url.changed_from(&now).await;
                end.cancel();
            };
            tokio::join!(sink, end.run_until_cancelled(changed));
        }
    }

    async fn sink(&self, to: Result<Box<dyn Destination>, SinkError>, end: &CancellationToken) {
        match to {
            Ok(to) => Sink::new(to, Arc::clone(&self.worker.log), self.worker.board.clone()).run(end).await,
            Err(error) => {
                tracing::error!(%error, "findings can't be delivered: correct the setting");
                end.cancelled().await;
            }
        }
    }
}
