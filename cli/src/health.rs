//! `firn health`: whether a process is ready, for containers that have no shell and no curl.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail};
use firn_runtime::tls;

use crate::{
    connection::unanswered,
    data_dir::{self, DataDir},
    server,
    settings::Settings,
    tls::TlsArgs,
};

const TIMEOUT: Duration = Duration::from_secs(5);

/// Arguments of `firn health`.
#[derive(clap::Args)]
pub(crate) struct HealthArgs {
    /// URL of the process (default: where one with this configuration listens)
    #[arg(long, value_name = "URL", env = "FIRN_URL")]
    url: Option<String>,
    /// Configuration file of the process (default: firn.toml in the data directory)
    #[arg(long, value_name = "FILE", env = "FIRN_CONFIG")]
    config: Option<PathBuf>,
    /// Data directory of the process
    #[arg(long, value_name = "DIR", default_value = data_dir::DEFAULT)]
    data_dir: PathBuf,
    /// Ask whether it lives, though it may wait for something
    #[arg(long)]
    live: bool,
    #[command(flatten)]
    tls: TlsArgs,
}

/// Prints `ready` or `live`, or fails with what the process waits for.
pub(crate) async fn run(args: &HealthArgs) -> Result<()> {
    let settings = Settings::load(args.config.as_deref(), &DataDir::new(&args.data_dir))?;
    args.tls.install(&settings.tls)?;
    let url = match &args.url {
        Some(url) => url.clone(),
        None => server::own_url(&settings).await?,
    };
    let asked = if args.live { "live" } else { "ready" };
    let url = format!("{}/health/{asked}", url.trim_end_matches('/'));
    // What listens here needs no proxy.
    let http = tls::inside().no_proxy().timeout(TIMEOUT).build()?;
    let answer = http.get(&url).send().await.map_err(|error| unanswered(&url, error))?;
    let status = answer.status();
    if status.is_success() {
        return crate::output::line(asked);
    }
    let body: serde_json::Value = answer.json().await.context("an answer that isn't Firn's")?;
    bail!(
        "not ready: waiting for {} (HTTP {})",
        body["for"].as_str().unwrap_or("what it doesn't say"),
        status.as_u16()
    )
}
