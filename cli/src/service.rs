//! `firn SERVICE serve`: one service as a process of its own, with the same configuration as `firn up`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use firn_auth::SigningKey;
use firn_runtime::{
    config::SecretRef,
    shutdown, telemetry,
    tls::{self, Tls},
};

use crate::{
    data_dir::DataDir,
    failure::usage,
    server::{self, Plan, Running, Service},
    settings::Settings,
};

/// Arguments of a service.
#[derive(clap::Args)]
pub(crate) struct ServeArgs {
    /// Configuration file
    #[arg(long, value_name = "FILE", env = "FIRN_CONFIG")]
    config: Option<PathBuf>,
    /// Where to listen (default: 127.0.0.1:8181)
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
}

/// Subcommands of `firn gateway`.
#[derive(clap::Subcommand)]
pub(crate) enum GatewayCommand {
    /// Take uploads, and pass everything else on to the other services
    Serve(ServeArgs),
}

/// Subcommands of `firn compactor`.
#[derive(clap::Subcommand)]
pub(crate) enum CompactorCommand {
    /// Promote bronze to silver and gold, and maintain tables
    Serve(ServeArgs),
}

/// Runs one service until a signal. What it needs and can't reach is waited for: `/health/ready` says what.
pub(crate) fn serve(service: Service, args: &ServeArgs) -> Result<()> {
    let mut settings = settings(args.config.as_deref())?;
    if let Some(listen) = &args.listen {
        settings.server.listen.clone_from(listen);
    }
    settings.check_service(service)?;
    let key = signing_key(&settings)?;
    // Before anything that has a client, such as that of traces.
    let tls = Tls::of_server(&settings.tls)?;
    tls::install(&tls);
    let (log, trace, level) = (settings.log.clone(), settings.trace.clone(), std::env::var("FIRN_LOG").ok());
    let plan = Plan { services: alone(service), settings, tls, dir: nowhere(), key, patient: true };
    server::block_on(async {
        let name = format!("firn-{}", service.name());
        let _exporter = telemetry::init(&log, level.as_deref(), &trace, &name)?;
        let signal = shutdown::on_signals()?;
        match Running::start(plan, &signal).await {
            Ok(running) => running.until(&signal).await,
            // Asked to stop while it waited: that is no failure.
            Err(error) if signal.is_cancelled() => {
                tracing::info!(reason = format!("{error:#}"), "stopped");
                Ok(())
            }
            Err(error) => Err(error),
        }
    })
}

const fn alone(service: Service) -> &'static [Service] {
    match service {
        Service::Catalog => &[Service::Catalog],
        Service::Gateway => &[Service::Gateway],
        Service::Ingest => &[Service::Ingest],
        Service::Compactor => &[Service::Compactor],
        Service::Alerts => &[Service::Alerts],
    }
}

/// The settings of a service: there is no data directory to look for a file in.
pub(crate) fn settings(file: Option<&std::path::Path>) -> Result<Settings> {
    Settings::load(file, &nowhere())
}

/// The configured key, which every service needs.
pub(crate) fn signing_key(settings: &Settings) -> Result<SigningKey> {
    let reference =
        settings.auth.signing_key.as_ref().ok_or_else(|| usage("auth.signing_key: needed here"))?;
    let pem = SecretRef::resolve(reference).map_err(|error| usage(format!("auth.signing_key: {error}")))?;
    SigningKey::from_pem(&pem).with_context(|| format!("auth.signing_key: {reference}"))
}

/// A service by itself has no data directory; whatever would lie there is named by its settings.
pub(crate) fn nowhere() -> DataDir {
    DataDir::new(std::path::Path::new("/nonexistent"))
}
