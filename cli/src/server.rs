//! A process that serves: which services it runs, how it starts, and how it ends.
//!
//! `firn up` runs all services in one process, `firn SERVICE serve` one of them. Either way a service reaches the others
//! through HTTP, topics and tables alone, with a service token, so that one process and many behave alike.
//!
//! Start: take the port and answer health checks, open what the services need, serve them, start their stages.
//! End: say that it isn't ready, take no more uploads, let the stages finish or abandon their batch, then end HTTP, all
//! within a deadline.

mod events;
mod front;
mod listen;
mod measures;
mod open;
mod policies;
mod router;
mod secrets;
mod stages;

#[cfg(test)]
pub(crate) mod routes;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use axum::{Router, http::StatusCode};
use firn_alerts::Alerts;
use firn_auth::{Guard, SigningKey};
use firn_catalog::Catalog;
use firn_runtime::{
    StageState, StatusBoard,
    health::{self, Readiness},
    http::{self, Drained, come_back, json_error},
    metrics,
    reload::Watch,
    tls::{Tls, TlsListener},
};
use firn_stream::Log;
use firn_table::FileIo;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{console::OneTimeCodes, data_dir::DataDir, settings::Settings};
pub(crate) use listen::own_url;
pub(crate) use open::create_tenant;
use secrets::Secrets;
use stages::{Services, Stages};

/// Requests are short and wait for disks; more threads only hold more memory.
const MAX_THREADS: usize = 4;
/// Of the drain's deadline, what is left to HTTP after the stages ended.
const HTTP_DRAIN: Duration = Duration::from_secs(5);
/// How often the process looks at itself to say whether it is ready.
const LOOK: Duration = Duration::from_secs(5);
/// How often deleted tenants are looked at.
const PURGE_INTERVAL: Duration = Duration::from_secs(600);
/// A call of a C library that waits for a server that is away doesn't keep an ended process.
const THREADS_END: Duration = Duration::from_secs(1);

/// What a process may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// Iceberg REST, Nessie REST, tenants.
    Catalog,
    /// Uploads; alone, also the one address of all services.
    Gateway,
    /// From the log into the tables.
    Ingest,
    /// Promotion and maintenance.
    Compactor,
    /// Rules over the stream.
    Alerts,
}

impl Service {
    /// All of them.
    pub(crate) const ALL: &[Self] =
        &[Self::Catalog, Self::Gateway, Self::Ingest, Self::Compactor, Self::Alerts];

    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Catalog => "catalog",
            Self::Gateway => "gateway",
            Self::Ingest => "ingest",
            Self::Compactor => "compactor",
            Self::Alerts => "alerts",
        }
    }

    /// Whether it reads or writes the log.
    pub(crate) fn needs_log(self) -> bool {
        matches!(self, Self::Gateway | Self::Ingest | Self::Alerts)
    }

    /// Whether it reads or writes files of tables by itself.
    pub(crate) fn needs_storage(self) -> bool {
        self != Self::Gateway
    }

    /// Whether it does nothing without the catalog. The gateway takes records as long as the log does.
    fn needs_catalog(self) -> bool {
        matches!(self, Self::Ingest | Self::Compactor | Self::Alerts)
    }
}

/// What a process is to be.
pub(crate) struct Plan {
    /// Services of this process.
    pub(crate) services: &'static [Service],
    /// Settings.
    pub(crate) settings: Settings,
    /// How it listens, and what its clients trust.
    pub(crate) tls: Tls,
    /// Where files lie that no setting names.
    pub(crate) dir: DataDir,
    /// The built-in issuer's key.
    pub(crate) key: SigningKey,
    /// Whether a server that is away is waited for, with the reason in `/health/ready`, or ends the start.
    pub(crate) patient: bool,
}

/// What the parts of a running process share.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) services: &'static [Service],
    pub(crate) settings: Arc<Settings>,
    /// If this process runs it.
    pub(crate) catalog: Option<Catalog>,
    /// If a service of this process needs it.
    pub(crate) log: Option<Arc<dyn Log>>,
    pub(crate) file_io: FileIo,
    pub(crate) key: SigningKey,
    /// Decides who may do what.
    pub(crate) guard: Guard,
    pub(crate) board: StatusBoard,
    pub(crate) readiness: Readiness,
    pub(crate) metrics: metrics::Metrics,
    pub(crate) tls: Tls,
    /// What may change meanwhile.
    secrets: Secrets,
    dir: DataDir,
    pub(crate) codes: OneTimeCodes,
    /// Where this process reaches itself.
    pub(crate) own_url: String,
    /// Where clients reach the server.
    pub(crate) public_url: String,
    /// Where services reach the catalog.
    pub(crate) catalog_url: String,
    /// Cancelled when the gateway is to take no more.
    draining: CancellationToken,
}

impl Server {
    fn runs(&self, service: Service) -> bool {
        self.services.contains(&service)
    }

    /// Whether everything is in this process, so that nothing has to be asked elsewhere.
    fn is_whole(&self) -> bool {
        self.services.len() == Service::ALL.len()
    }
}

/// Runs `work` on the threads of a server.
pub(crate) fn block_on(work: impl Future<Output = Result<()>>) -> Result<()> {
    let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, MAX_THREADS);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    let done = runtime.block_on(work);
    runtime.shutdown_timeout(THREADS_END);
    done
}

/// The alerts service, which serves nobody: for a command that changes what it keeps.
pub(crate) async fn alerts(plan: Plan) -> Result<Alerts> {
    let (nobody, readiness) = (SocketAddr::from(([127, 0, 0, 1], 0)), Readiness::waiting_for("the start"));
    let server =
        open::server(plan, nobody, readiness, metrics::install()?, &CancellationToken::new()).await?;
    stages::alerts(&server)
}

/// The same beside the catalog of a directory that nobody serves, until `work` is done with it.
pub(crate) async fn with_alerts<T>(plan: Plan, work: impl AsyncFnOnce(Alerts) -> Result<T>) -> Result<T> {
    let (signal, http_end) = (CancellationToken::new(), CancellationToken::new());
    let tls = plan.tls.clone();
    let (listener, address) = listen::bind("127.0.0.1:0", tls.serves()).await?;
    let readiness = Readiness::waiting_for("the start");
    let server = open::server(plan, address, readiness, metrics::install()?, &signal).await?;
    let services = Services::new(&server)?;
    let alerts = services.alerts.clone().context("alerts are not among the services")?;
    let routes = router::of(&server, &services, &signal)?;
    let http = tokio::spawn(serve(listener, tls, routes, http_end.clone()));
    server.readiness.set_ready();
    let done = work(alerts).await;
    http_end.cancel();
    let served = http.await;
    if let Some(catalog) = &server.catalog {
        catalog.close().await;
    }
    let done = done?;
    served.context("the HTTP server crashed")?.context("the HTTP server failed")?;
    Ok(done)
}

/// A process whose services run.
pub(crate) struct Running {
    pub(crate) server: Server,
    address: SocketAddr,
    stages: Stages,
    http: JoinHandle<std::io::Result<Drained>>,
    http_end: CancellationToken,
}

impl Running {
    /// Starts what `plan` says. The process isn't ready yet: see [`Running::until`].
    ///
    /// # Errors
    /// A port that can't be had, wrong settings, a `signal` while it waits; and whatever is away, unless the plan is
    /// patient.
    pub(crate) async fn start(plan: Plan, signal: &CancellationToken) -> Result<Self> {
        let readiness = Readiness::waiting_for("the start");
        let metrics = metrics::install()?;
        measures::describe();
        let tls = plan.tls.clone();
        let (listener, address) = listen::bind(&plan.settings.server.listen, tls.serves()).await?;
        let (listener, early) = listen::share(listener)?;
        let opened = CancellationToken::new();
        let awaited = readiness.clone();
        // 404 would mean that there is no such table.
        let starting = move || async move {
            let reason = awaited.reason().unwrap_or_default();
            let message = format!("the server is starting, and waits for {reason}: try again");
            come_back(json_error(StatusCode::SERVICE_UNAVAILABLE, "Unavailable", message), Some(1))
        };
        let routes = health::router(readiness.clone()).merge(metrics.router()).fallback(starting);
        let routes = http::with_basics(routes, opened.clone());
        let early = tokio::spawn(serve(early, tls.clone(), routes, opened.clone()));
        tokio::spawn(watch(&tls).run(signal.clone()));

        let server = open::server(plan, address, readiness, metrics, signal).await?;
        tokio::spawn(secrets::watch(&server).run(signal.clone()));
        let services = Services::new(&server)?;
        let http_end = CancellationToken::new();
        let routes = router::of(&server, &services, signal)?;
        let http = tokio::spawn(serve(listener, tls, routes, http_end.clone()));
        opened.cancel();
        early.await.context("the HTTP server crashed")?.context("the HTTP server failed")?;
        let stages = Stages::start(&server, services);
        Ok(Self { server, address, stages, http, http_end })
    }

    /// Is ready and works until `signal`, then drains.
    pub(crate) async fn until(self, signal: &CancellationToken) -> Result<()> {
        let Self { server, address, stages, http, http_end } = self;
        wait(&server, address, signal).await;
        server.readiness.set_waiting("draining");
        // Load balancers need a moment to see that.
        tokio::time::sleep(server.settings.server.linger).await;
        server.draining.cancel();
        stages.drain(stages_drain(&server.settings)).await;
        http_end.cancel();
        let drained = http.await.context("the HTTP server crashed")?.context("the HTTP server failed")?;
        if let Some(catalog) = &server.catalog {
            catalog.close().await;
        }
        tracing::info!(?drained, "stopped");
        Ok(())
    }
}

/// Serves with TLS, if there is a certificate.
async fn serve(
    listener: TcpListener,
    tls: Tls,
    routes: Router,
    end: CancellationToken,
) -> std::io::Result<Drained> {
    if tls.serves() {
        http::serve(TlsListener::new(listener, tls), routes, end, HTTP_DRAIN).await
    } else {
        http::serve(listener, routes, end, HTTP_DRAIN).await
    }
}

/// What is read anew when its files change.
fn watch(tls: &Tls) -> Watch {
    let mut watch = Watch::default();
    let again = tls.clone();
    watch.add("tls", tls.config().files(), move || again.reload().map_err(|error| error.to_string()));
    watch
}

/// Until a signal; meanwhile the process looks at itself.
async fn wait(server: &Server, address: SocketAddr, signal: &CancellationToken) {
    tracing::info!(%address, services = ?server.services, "serving");
    let mut tick = tokio::time::interval(LOOK);
    let mut purge = tokio::time::interval(PURGE_INTERVAL);
    loop {
        tokio::select! {
            () = signal.cancelled() => return,
            _ = tick.tick() => look(server).await,
            _ = purge.tick() => purge_tenants(server).await,
        }
    }
}

/// Removes the data of deleted tenants whose grace period is over. What fails is tried again at the next turn.
async fn purge_tenants(server: &Server) {
    let Some(catalog) = &server.catalog else { return };
    match catalog.purge_due().await {
        Ok(purged) if purged.is_empty() => {}
        Ok(purged) => tracing::info!(tenants = purged.join(", "), "purged deleted tenants"),
        Err(error) => tracing::warn!(%error, "deleted tenants are not purged yet"),
    }
}

async fn look(server: &Server) {
    let trouble = match &server.catalog {
        Some(catalog) => report_catalog(server, catalog).await.err(),
        None => None,
    };
    measures::report_stages(&server.board);
    measures::report_process();
    server.tls.report();
    // With all services in one process, one that fails is no reason to turn the others' requests away.
    let failing = || if server.services.len() == 1 { stages::failing(&server.board) } else { None };
    match trouble.or_else(failing) {
        None => server.readiness.set_ready(),
        Some(reason) => server.readiness.set_waiting(&reason),
    }
}

async fn report_catalog(server: &Server, catalog: &Catalog) -> Result<(), String> {
    let health = catalog.health().await;
    server.board.update("catalog", "*", |status| {
        (status.state, status.message) = match &health {
            Ok(()) => (StageState::Running, String::new()),
            Err(reason) => (StageState::Failing, reason.clone()),
        };
    });
    health
}

/// Of the drain's deadline, what the stages have.
fn stages_drain(settings: &Settings) -> Duration {
    settings.server.drain.saturating_sub(HTTP_DRAIN)
}
