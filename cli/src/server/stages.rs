//! The long-lived tasks of the process: one supervisor each.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use firn_alerts::{Alerts, AlertsConfig};
use firn_catalog_client::CatalogClient;
use firn_compactor::{Compactor, CompactorConfig};
use firn_ingest::{Gateway, GatewayConfig, Relay, Worker, WorkerConfig};
use firn_runtime::{StageState, StageStatus, StatusBoard, supervise::supervise, with_causes};
use firn_stream::Log;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Server, Service, events};
use crate::{connection::MintedTokens, settings::Backend};

/// Stages that start again when they end, by the names that they have on the status board.
const STAGES: [&str; 6] = ["ingest", "transitions", "relay", events::STAGE, "promotion", "alerts"];

/// The services of this process, built but not running.
pub(super) struct Services {
    pub(super) gateway: Option<Gateway>,
    pub(super) compactor: Option<Compactor>,
    pub(super) alerts: Option<Alerts>,
    pub(super) worker: Option<Worker>,
    pub(super) relay: Option<Relay>,
    pub(super) publisher: Option<events::Publisher>,
}

impl Services {
    pub(super) fn new(server: &Server) -> Result<Self> {
        let runs = |service| server.runs(service).then_some(());
        Ok(Self {
            gateway: runs(Service::Gateway).map(|()| gateway(server)).transpose()?,
            compactor: runs(Service::Compactor).map(|()| compactor(server)).transpose()?,
            alerts: runs(Service::Alerts).map(|()| alerts(server)).transpose()?,
            worker: runs(Service::Ingest).map(|()| worker(server)).transpose()?,
            relay: runs(Service::Ingest).and_then(|()| relay(server).transpose()).transpose()?,
            publisher: runs(Service::Ingest).and_then(|()| publisher(server).transpose()).transpose()?,
        })
    }
}

fn gateway(server: &Server) -> Result<Gateway> {
    Ok(Gateway::new(
        GatewayConfig::default(),
        log(server)?,
        server.guard.clone(),
        client(server, "gateway")?,
        server.board.clone(),
    ))
}

fn worker(server: &Server) -> Result<Worker> {
    let settings = &server.settings;
    let config = WorkerConfig {
        instance_id: settings.ingest.instance.clone(),
        commit_interval: settings.ingest.commit_interval,
        commit_bytes: usize::try_from(settings.ingest.commit_bytes).unwrap_or(usize::MAX),
        drain: super::stages_drain(settings),
        ..WorkerConfig::default()
    };
    let (catalog, file_io) = (client(server, "ingest")?, server.file_io.clone());
    Ok(Worker::new(config, log(server)?, catalog, file_io, server.board.clone()))
}

/// Nobody else writes to an embedded log.
fn relay(server: &Server) -> Result<Option<Relay>> {
    if server.settings.stream.backend == Backend::Embedded {
        return Ok(None);
    }
    Ok(Some(Relay::new(log(server)?, client(server, "relay")?, server.board.clone())))
}

/// The ingest workers stand between log and catalog anyway.
fn publisher(server: &Server) -> Result<Option<events::Publisher>> {
    let Some(topic) = server.settings.catalog.events_topic.clone() else { return Ok(None) };
    Ok(Some(events::Publisher {
        log: log(server)?,
        catalog: client(server, "events")?,
        topic,
        board: server.board.clone(),
    }))
}

fn compactor(server: &Server) -> Result<Compactor> {
    let promotion = &server.settings.promotion;
    let mut config = CompactorConfig {
        interval: promotion.interval,
        parallel_models: promotion.parallel_models,
        memory_bytes: promotion.memory_bytes,
        spill_bytes: promotion.spill_bytes,
        maintenance: server.settings.maintenance.config()?,
        ..CompactorConfig::default()
    };
    config.erasure.settle = server.settings.erasure.settle;
    config.erasure.recheck = server.settings.erasure.recheck;
    if server.is_whole() {
        // The directory's lock makes this process the only one: it need not wait for the lease of a killed one.
        "firn-up".clone_into(&mut config.holder);
    }
    let (catalog, file_io) = (client(server, "compactor")?, server.file_io.clone());
    Compactor::new(config, catalog, file_io, server.board.clone()).context("can't start the compactor")
}

pub(super) fn alerts(server: &Server) -> Result<Alerts> {
    let settings = &server.settings;
    let config = AlertsConfig {
        instance: settings.server.instance.clone(),
        retire_after: Some(settings.alerts.retire_after),
        webhook_url: server.secrets.webhook_url.clone(),
        webhook_format: settings.alerts.webhook_format,
        elasticsearch_url: server.secrets.elasticsearch_url.clone(),
        ..AlertsConfig::default()
    };
    let (catalog, file_io) = (client(server, "alerts")?, server.file_io.clone());
    Ok(Alerts::new(config, log(server)?, catalog, file_io, server.board.clone()))
}

fn log(server: &Server) -> Result<Arc<dyn Log>> {
    server.log.clone().context("this service needs the log")
}

/// A client of the catalog, wherever it runs.
fn client(server: &Server, service: &'static str) -> Result<CatalogClient> {
    let tokens = Arc::new(MintedTokens::service(server.key.clone(), service));
    Ok(CatalogClient::new(&server.catalog_url, tokens)?)
}

/// What a stage that fails says of itself.
pub(super) fn failing(board: &StatusBoard) -> Option<String> {
    let fails = |((stage, tenant), status): ((String, String), StageStatus)| {
        let failing =
            tenant == "*" && status.state == StageState::Failing && STAGES.contains(&stage.as_str());
        failing.then(|| format!("{stage}: {}", status.message))
    };
    board.all().into_iter().find_map(fails)
}

/// The running stages.
pub(super) struct Stages {
    stop: CancellationToken,
    supervisors: Vec<JoinHandle<()>>,
}

impl Stages {
    pub(super) fn start(server: &Server, services: Services) -> Self {
        let stop = CancellationToken::new();
        let mut supervisors = vec![tokio::spawn(server.metrics.clone().upkeep(stop.clone()))];
        if let Some(worker) = services.worker {
            for (name, worker) in [("ingest", worker.clone()), ("transitions", worker.of_transitions())] {
                supervisors.push(stage(server, name, &stop, move |stop| {
                    let worker = worker.clone();
                    async move { worker.run(stop).await.map_err(|error| format!("{error}")) }
                }));
            }
        }
        if let Some(relay) = services.relay {
            supervisors.push(stage(server, "relay", &stop, move |stop| {
                let relay = relay.clone();
                async move { relay.run(stop).await.map_err(|error| with_causes(&error)) }
            }));
        }
        if let Some(publisher) = services.publisher.map(Arc::new) {
            supervisors.push(stage(server, events::STAGE, &stop, move |stop| {
                let publisher = Arc::clone(&publisher);
                async move { publisher.run(&stop).await.map_err(|error| format!("{error:#}")) }
            }));
        }
        if let Some(compactor) = services.compactor {
            supervisors.push(stage(server, "promotion", &stop, move |stop| {
                let compactor = compactor.clone();
                async move {
                    compactor.run(stop).await;
                    Ok(())
                }
            }));
        }
        if let Some(alerts) = services.alerts {
            supervisors.push(stage(server, "alerts", &stop, move |stop| {
                let alerts = alerts.clone();
                async move { alerts.run(stop).await.map_err(|error| with_causes(&error)) }
            }));
        }
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
