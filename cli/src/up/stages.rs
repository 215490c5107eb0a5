//! The long-lived tasks of the process: one supervisor each.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use firn_alerts::{Alerts, AlertsConfig};
use firn_catalog_client::CatalogClient;
use firn_compactor::{Compactor, CompactorConfig};
use firn_ingest::{Gateway, GatewayConfig, Worker, WorkerConfig};
use firn_runtime::supervise::supervise;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Server;
use crate::connection::MintedTokens;

/// The services, built but not running.
pub(super) struct Services {
    pub(super) gateway: Gateway,
    pub(super) compactor: Compactor,
    pub(super) alerts: Alerts,
    pub(super) worker: Worker,
}

impl Services {
    pub(super) fn new(server: &Server) -> Result<Self> {
        let settings = &server.settings;
        let gateway = Gateway::new(
            GatewayConfig::default(),
            server.log.clone(),
            server.catalog.guard(),
            client(server, "gateway")?,
            server.board.clone(),
        );
        let worker = WorkerConfig {
            commit_interval: settings.ingest.commit_interval,
            commit_bytes: usize::try_from(settings.ingest.commit_bytes).unwrap_or(usize::MAX),
            drain: super::stages_drain(settings),
            ..WorkerConfig::default()
        };
        let worker = Worker::new(
            worker,
            server.log.clone(),
            client(server, "ingest")?,
            server.file_io.clone(),
            server.board.clone(),
        );
        // The directory's lock makes this process the only one: it need not wait for the lease of a killed one.
        let compactor = CompactorConfig {
            holder: "firn-up".to_owned(),
            interval: settings.promotion.interval,
            ..CompactorConfig::default()
        };
        let compactor = Compactor::new(
            compactor,
            client(server, "compactor")?,
            server.file_io.clone(),
            server.board.clone(),
        )
        .context("can't start the compactor")?;
        let alerts = AlertsConfig {
            retire_after: Some(settings.alerts.retire_after),
            webhook_url: settings.webhook_url()?,
            webhook_format: settings.alerts.webhook_format,
            elasticsearch_url: settings.alerts.elasticsearch_url.clone(),
            ..AlertsConfig::default()
        };
        let alerts = Alerts::new(
            alerts,
            server.log.clone(),
            client(server, "alerts")?,
            server.file_io.clone(),
            server.board.clone(),
        );
        Ok(Self { gateway, compactor, alerts, worker })
    }
}

/// A client of this process's own port.
fn client(server: &Server, service: &'static str) -> Result<CatalogClient> {
    let tokens = Arc::new(MintedTokens::service(server.key.clone(), service));
    Ok(CatalogClient::new(&server.own_url, tokens)?)
}

/// The running stages.
pub(super) struct Stages {
    stop: CancellationToken,
    supervisors: Vec<JoinHandle<()>>,
}

impl Stages {
    pub(super) fn start(server: &Server, services: Services) -> Self {
        let stop = CancellationToken::new();
        let Services { worker, compactor, alerts, .. } = services;
        let transitions = worker.clone().of_transitions();
        let upkeep = tokio::spawn(server.metrics.clone().upkeep(stop.clone()));
        let supervisors = vec![
            upkeep,
            stage(server, "ingest", &stop, move |stop| {
                let worker = worker.clone();
                async move { worker.run(stop).await.map_err(|error| format!("{error}")) }
            }),
            stage(server, "transitions", &stop, move |stop| {
                let worker = transitions.clone();
                async move { worker.run(stop).await.map_err(|error| format!("{error}")) }
            }),
            stage(server, "promotion", &stop, move |stop| {
                let compactor = compactor.clone();
                async move {
                    compactor.run(stop).await;
                    Ok(())
                }
            }),
            stage(server, "alerts", &stop, move |stop| {
                let alerts = alerts.clone();
                async move { alerts.run(stop).await.map_err(|error| error.chain()) }
            }),
        ];
        Self { stop, supervisors }
    }

    /// Lets every stage finish or abandon what it has in hand, for at most `deadline`. Whatever is cut off was not
    /// committed: the next start takes it again.
    pub(super) async fn drain(self, deadline: Duration) {
        self.stop.cancel();
        let aborts: Vec<_> = self.supervisors.iter().map(JoinHandle::abort_handle).collect();
        let all = futures::future::join_all(self.supervisors);
        if tokio::time::timeout(deadline, all).await.is_err() {
            tracing::warn!(
                ?deadline,
                "stages cut off at the deadline; the next start takes their batch again"
            );
            aborts.iter().for_each(tokio::task::AbortHandle::abort);
        }
    }
}

/// One supervisor over runs of one stage.
fn stage<F, R>(server: &Server, name: &'static str, stop: &CancellationToken, run: F) -> JoinHandle<()>
where
    F: Fn(CancellationToken) -> R + Send + Sync + 'static,
    R: Future<Output = Result<(), String>> + Send + 'static,
{
    let (board, stop) = (server.board.clone(), stop.clone());
    tokio::spawn(async move {
        supervise(name, &board, &stop, || tokio::spawn(run(stop.clone()))).await;
    })
}
