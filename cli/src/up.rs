//! `firn up`: every service in one process, over one data directory, on one port.
//!
//! The services still meet only through HTTP, topics and tables: each reaches the catalog over this process's own port with
//! a service token, so that one process and many behave alike.
//!
//! Start: lock the directory, take the port, open catalog and log, serve, start the stages, tell clients, be ready.
//! End: the gateway takes no more, the stages finish or abandon their batch, then HTTP ends, all within a deadline.

mod banner;
mod demo;
mod listen;
mod router;
mod stages;

#[cfg(test)]
mod routes;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use firn_auth::{Claims, SigningKey};
use firn_catalog::Catalog;
use firn_catalog_client::TenantCreate;
use firn_runtime::{StageState, StatusBoard, health::Readiness, http, metrics, shutdown, telemetry};
use firn_stream::{EmbeddedConfig, EmbeddedLog, KafkaConfig, KafkaLog, Log};
use firn_table::FileIo;
use tokio_util::sync::CancellationToken;

use crate::{
    connection::FIRST_TENANT,
    console::OneTimeCodes,
    data_dir::{self, DataDir, LockedDataDir, ServerFile},
    settings::{Backend, Settings},
};
use stages::{Services, Stages};

/// The tenant that holds what belongs to no other, such as records of unknown tenants.
const BUILT_IN_TENANT: &str = "firn";
/// How long the first operator token is valid; `firn env` mints others at any time.
const OPERATOR_TOKEN_TTL: Duration = Duration::from_secs(30 * 86_400);
/// Requests are short and wait for disks; more threads only hold more memory.
const MAX_THREADS: usize = 4;
/// How often deleted tenants are looked at.
const PURGE_INTERVAL: Duration = Duration::from_secs(600);
/// Of the drain's deadline, what is left to HTTP after the stages ended.
const HTTP_DRAIN: Duration = Duration::from_secs(5);

/// Arguments of `firn up`.
#[derive(clap::Args)]
pub(crate) struct UpArgs {
    /// Where everything is kept
    #[arg(long, value_name = "DIR", default_value = data_dir::DEFAULT)]
    data_dir: PathBuf,
    /// Where to listen (default: 127.0.0.1:8181)
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Configuration file (default: firn.toml in the data directory)
    #[arg(long, value_name = "FILE", env = "FIRN_CONFIG")]
    config: Option<PathBuf>,
    /// Send the inventories of a simulated fleet, so that there is something to see
    #[arg(long)]
    demo: bool,
}

/// Runs until a signal.
pub(crate) fn run(args: &UpArgs) -> Result<()> {
    let dir = DataDir::new(&args.data_dir);
    let mut settings = Settings::load(args.config.as_deref(), &dir)?;
    if let Some(listen) = &args.listen {
        settings.server.listen.clone_from(listen);
    }
    telemetry::init(&settings.log, std::env::var("FIRN_LOG").ok().as_deref())?;
    let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, MAX_THREADS);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    runtime.block_on(serve(dir, settings, args.demo))
}

/// What the parts of the server share.
#[derive(Clone)]
struct Server {
    settings: Arc<Settings>,
    catalog: Catalog,
    log: Arc<dyn Log>,
    file_io: FileIo,
    key: SigningKey,
    board: StatusBoard,
    readiness: Readiness,
    metrics: metrics::Metrics,
    codes: OneTimeCodes,
    /// Where this process reaches itself.
    own_url: String,
    /// Cancelled when the gateway is to take no more.
    draining: CancellationToken,
}

async fn serve(dir: DataDir, settings: Settings, demo: bool) -> Result<()> {
    let signal = shutdown::on_signals()?;
    let locked = dir.lock()?;
    let (listener, address) = listen::bind(&settings.server.listen).await?;
    let own_url = listen::url_of(address);
    let public_url = settings.server.public_url.clone().unwrap_or_else(|| own_url.clone());
    let server = open(&locked, settings, own_url, &public_url).await?;
    let services = Services::new(&server)?;

    let http_end = CancellationToken::new();
    let routes = router::of(&server, &services);
    let http = tokio::spawn(http::serve(listener, routes, http_end.clone(), HTTP_DRAIN));
    create_tenants(&server.catalog).await?;
    let stages = Stages::start(&server, services);
    let first_token = announce(&locked, &server, &public_url)?;
    server.readiness.set_ready();
    // A closed standard output is no reason not to serve.
    if let Err(error) = banner::print(&server, &locked, &public_url, first_token.as_deref()) {
        tracing::warn!(%error, "can't print where everything is");
    }
    let demo = demo.then(|| tokio::spawn(demo::run(server.clone(), signal.clone())));

    wait(&server, address, &signal).await;
    drain(&server, stages, demo).await;
    http_end.cancel();
    locked.remove_server_file();
    let drained = http.await.context("the HTTP server crashed")?.context("the HTTP server failed")?;
    tracing::info!(?drained, "stopped");
    Ok(())
}

async fn open(
    locked: &LockedDataDir,
    settings: Settings,
    own_url: String,
    public_url: &str,
) -> Result<Server> {
    let dir = &locked.dir;
    let key = locked.signing_key_or_new(settings.auth.signing_key.as_ref())?;
    let config = settings.catalog_config(dir, key.clone(), public_url)?;
    let verifier = key.verifier_with(settings.issuers()?);
    let catalog = Catalog::open_for(config, verifier).await.context("can't open the catalog")?;
    let log = open_log(&settings, dir).await.context("can't open the log")?;
    // The gateway may be asked before the worker has begun.
    firn_ingest::ensure_inventory_topic(log.as_ref())
        .await
        .context("can't create the topic of inventories")?;
    Ok(Server {
        file_io: FileIo::new(settings.storage_config()?),
        settings: Arc::new(settings),
        catalog,
        log,
        key,
        board: StatusBoard::default(),
        readiness: Readiness::waiting_for("the first tenant"),
        metrics: metrics::install()?,
        codes: OneTimeCodes::default(),
        own_url,
        draining: CancellationToken::new(),
    })
}

async fn open_log(settings: &Settings, dir: &DataDir) -> Result<Arc<dyn Log>> {
    let stream = &settings.stream;
    match (stream.backend, &stream.bootstrap_servers) {
        (Backend::Kafka, Some(servers)) => {
            let config = KafkaConfig { bootstrap_servers: servers.clone(), replication: stream.replication };
            Ok(KafkaLog::connect(config).await?)
        }
        _ => {
            let config = EmbeddedConfig {
                path: dir.log_file(),
                retention_s: stream.retention.as_secs(),
                max_bytes: stream.max_bytes,
            };
            Ok(tokio::task::spawn_blocking(|| EmbeddedLog::open(config)).await??)
        }
    }
}

async fn create_tenants(catalog: &Catalog) -> Result<()> {
    for name in [BUILT_IN_TENANT, FIRST_TENANT] {
        let request = TenantCreate { name: name.to_owned(), ..TenantCreate::default() };
        catalog.ensure_tenant(&request).await.with_context(|| format!("can't create the tenant '{name}'"))?;
    }
    Ok(())
}

/// From here on clients find the server. Answers the operator token if this is the first start.
fn announce(locked: &LockedDataDir, server: &Server, public_url: &str) -> Result<Option<String>> {
    locked.write_server_file(&ServerFile {
        url: public_url.trim_end_matches('/').to_owned(),
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        signing_key: server.settings.auth.signing_key.clone(),
    })?;
    let mint =
        || server.key.sign(&Claims { operator: true, ..Claims::new("first-operator", OPERATOR_TOKEN_TTL) });
    locked.first_operator_token(mint)
}

/// Until a signal; meanwhile the catalog's health is looked at.
async fn wait(server: &Server, address: SocketAddr, signal: &CancellationToken) {
    tracing::info!(%address, "serving");
    let mut tick = tokio::time::interval(Duration::from_secs(5));
    let mut purge = tokio::time::interval(PURGE_INTERVAL);
    loop {
        tokio::select! {
            () = signal.cancelled() => return,
            _ = tick.tick() => report_catalog(server).await,
            _ = purge.tick() => purge_tenants(server).await,
        }
    }
}

/// Removes the data of deleted tenants whose grace period is over. What fails is tried again at the next turn.
async fn purge_tenants(server: &Server) {
    match server.catalog.purge_due().await {
        Ok(purged) if purged.is_empty() => {}
        Ok(purged) => tracing::info!(tenants = purged.join(", "), "purged deleted tenants"),
        Err(error) => tracing::warn!(%error, "deleted tenants are not purged yet"),
    }
}

async fn report_catalog(server: &Server) {
    let health = server.catalog.health().await;
    match &health {
        Ok(()) => server.readiness.set_ready(),
        Err(reason) => server.readiness.set_waiting(reason),
    }
    server.board.update("catalog", "*", |status| {
        (status.state, status.message) = match health {
            Ok(()) => (StageState::Running, String::new()),
            Err(reason) => (StageState::Failing, reason),
        };
    });
}

async fn drain(server: &Server, stages: Stages, demo: Option<tokio::task::JoinHandle<()>>) {
    server.readiness.set_waiting("draining");
    server.draining.cancel();
    if let Some(demo) = demo {
        demo.abort();
    }
    stages.drain(stages_drain(&server.settings)).await;
}

/// Of the drain's deadline, what the stages have.
fn stages_drain(settings: &Settings) -> Duration {
    settings.server.drain.saturating_sub(HTTP_DRAIN)
}
