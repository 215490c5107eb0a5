//! `firn up`: every service in one process, over one data directory, on one port.

mod banner;
mod demo;

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use firn_auth::Claims;
use firn_runtime::{
    shutdown, telemetry,
    tls::{self, Tls},
};

use crate::{
    connection::FIRST_TENANT,
    data_dir::{self, DataDir, LockedDataDir, ServerFile},
    server::{self, Plan, Running, Server, Service, create_tenant},
    settings::Settings,
};

/// How long the first operator token is valid; `firn env` mints others at any time.
const OPERATOR_TOKEN_TTL: Duration = Duration::from_secs(30 * 86_400);

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
    // Before anything that has a client, such as that of traces.
    let tls = Tls::of_server(&settings.tls)?;
    tls::install(&tls);
    let demo = args.demo;
    server::block_on(async move {
        let level = std::env::var("FIRN_LOG").ok();
        let _exporter = telemetry::init(&settings.log, level.as_deref(), &settings.trace, "firn")?;
        serve(dir, settings, tls, demo).await
    })
}

async fn serve(dir: DataDir, settings: Settings, tls: Tls, demo: bool) -> Result<()> {
    let signal = shutdown::on_signals()?;
    let locked = dir.lock()?;
    let key = locked.signing_key_or_new(settings.auth.signing_key.as_ref())?;
    // Who starts it at a terminal is told at once of what is away.
    let plan = Plan { services: Service::ALL, settings, tls, dir: locked.dir.clone(), key, patient: false };
    let running = Running::start(plan, &signal).await?;
    let server = running.server.clone();
    if let Some(catalog) = &server.catalog {
        create_tenant(catalog, FIRST_TENANT).await?;
    }
    let first_token = announce(&locked, &server)?;
    server.readiness.set_ready();
    // A closed standard output is no reason not to serve.
    if let Err(error) = banner::print(&server, &locked, first_token.as_deref()) {
        tracing::warn!(%error, "can't print where everything is");
    }
    if demo {
        tokio::spawn(demo::run(server.clone(), signal.clone()));
    }
    let done = running.until(&signal).await;
    locked.remove_server_file();
    done
}

/// From here on clients find the server. Answers the operator token if this is the first start.
fn announce(locked: &LockedDataDir, server: &Server) -> Result<Option<String>> {
    locked.write_server_file(&ServerFile {
        url: server.public_url.trim_end_matches('/').to_owned(),
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        signing_key: server.settings.auth.signing_key.clone(),
        tls: crate::tls::anywhere(server.tls.config()),
    })?;
    let mint =
        || server.key.sign(&Claims { operator: true, ..Claims::new("first-operator", OPERATOR_TOKEN_TTL) });
    locked.first_operator_token(mint)
}
