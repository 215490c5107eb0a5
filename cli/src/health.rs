//! `firn health`: whether a process is ready, for containers that have no shell and no curl.

use std::time::Duration;

use anyhow::{Context, Result, bail};

const TIMEOUT: Duration = Duration::from_secs(5);

/// Arguments of `firn health`.
#[derive(clap::Args)]
pub(crate) struct HealthArgs {
    /// URL of the process
    #[arg(long, value_name = "URL", env = "FIRN_URL", default_value = "http://127.0.0.1:8181")]
    url: String,
}

/// Prints `ready`, or fails with what the process waits for.
pub(crate) async fn run(args: &HealthArgs) -> Result<()> {
    let url = format!("{}/health/ready", args.url.trim_end_matches('/'));
    let http = reqwest::Client::builder().timeout(TIMEOUT).build()?;
    let answer = http.get(&url).send().await.with_context(|| format!("{url} doesn't answer"))?;
    let status = answer.status();
    if status.is_success() {
        return crate::output::line("ready");
    }
    let body: serde_json::Value = answer.json().await.unwrap_or_default();
    bail!(
        "not ready: waiting for {} (HTTP {})",
        body["for"].as_str().unwrap_or("what it doesn't say"),
        status.as_u16()
    )
}
