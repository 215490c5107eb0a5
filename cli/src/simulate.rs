//! `firn simulate`: a fleet with a life of its own, and a ledger of what was sent.
//!
//! The same seed and start give the same bytes. The ledger is the truth that tests compare everything downstream with: an
//! upload whose outcome is not known is written down as unknown and never sent again.

mod device;
mod fleet;
mod ledger;
mod malformed;
mod script;
mod traits;
mod upload;
mod verdicts;

use std::{
    io::IsTerminal,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use chrono::{DateTime, TimeDelta, Utc};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{connection::ConnectionArgs, duration, failure::usage, output, tls::TlsArgs};
use ledger::Ledger;

pub(crate) use fleet::Fleet;
pub(crate) use ledger::Outcome;
pub(crate) use malformed::Destination;
pub(crate) use script::{Line, Script, number_in, number_of};
pub(crate) use upload::Uploader;

/// Arguments of `firn simulate`.
#[derive(clap::Args)]
pub(crate) struct SimulateArgs {
    /// Computers in the fleet
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    devices: u32,
    /// Records per second
    #[arg(long, value_name = "R", default_value_t = 20.0)]
    rate: f64,
    /// Same seed and start, same records
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Stop after this long, such as 30s or 10m (default: go on until interrupted)
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, conflicts_with = "count")]
    duration: Option<Duration>,
    /// Stop after this many records
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Share of malformed records, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    malformed: f64,
    /// Records per upload
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    batch: u32,
    /// Instant of the first record, to repeat a run byte by byte; expected ages assume now (default: now)
    #[arg(long, value_name = "INSTANT")]
    start: Option<DateTime<Utc>>,
    /// URL of the server
    #[arg(long = "to", value_name = "URL", env = "FIRN_URL")]
    to: Option<String>,
    /// Access token that may upload
    #[arg(long, value_name = "TOKEN", env = "FIRN_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Tenant
    #[arg(long, value_name = "NAME", env = "FIRN_TENANT")]
    tenant: Option<String>,
    /// Data directory of a server on this machine
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    tls: TlsArgs,
    /// File to which each record's fate is appended, as JSON lines
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
}

/// How much and how fast.
struct Pace {
    rate: f64,
    batch: u64,
    limit: Option<u64>,
    start: DateTime<Utc>,
}

/// Sends records until the limit or an interrupt.
pub(crate) async fn run(args: SimulateArgs) -> Result<()> {
    let pace = pace(&args)?;
    let target = ConnectionArgs {
        data_dir: args.data_dir.clone(),
        url: args.to.clone(),
        token: args.token.clone(),
        tenant: args.tenant.clone(),
        tls: args.tls.clone(),
    };
    let connection = target.connect().await?;
    let mut script = Script::new(args.seed, args.devices, args.malformed);
    let mut ledger = Ledger::open(args.ledger.as_deref())?;
    let uploader = Uploader::new(&connection)?;
    let bar = progress_bar(pace.limit);
    let stop = firn_runtime::shutdown::on_signals().context("signals can't be awaited")?;
    let sent = tokio::select! {
        sent = send_all(&pace, &mut script, &uploader, &mut ledger, &bar) => sent,
        () = stop.cancelled() => Ok(()),
    };
    bar.finish_and_clear();
    let summary = ledger.close()?;
    output::json(&summary)?;
    sent
}

fn pace(args: &SimulateArgs) -> Result<Pace> {
    if !(args.rate > 0.0 && args.rate <= 1_000_000.0) {
        return Err(usage("--rate must be above 0 and at most 1000000 records per second"));
    }
    if !(0.0..=1.0).contains(&args.malformed) {
        return Err(usage("--malformed is a share from 0 to 1"));
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and saturating")]
    let within = |duration: Duration| (duration.as_secs_f64() * args.rate).round() as u64;
    Ok(Pace {
        rate: args.rate,
        batch: u64::from(args.batch),
        limit: args.count.or(args.duration.map(within)),
        start: args.start.unwrap_or_else(Utc::now),
    })
}

async fn send_all(
    pace: &Pace,
    script: &mut Script,
    uploader: &Uploader<'_>,
    ledger: &mut Ledger,
    bar: &ProgressBar,
) -> Result<()> {
    let began = Instant::now();
    // A slow fleet sends smaller batches rather than rare ones.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive and small")]
    let batch = pace.batch.min((pace.rate / 2.0).ceil() as u64).max(1);
    let mut sent = 0;
    while pace.limit.is_none_or(|limit| sent < limit) {
        let size = pace.limit.map_or(batch, |limit| batch.min(limit - sent));
        let due = began + offset(sent + size - 1, pace.rate);
        tokio::time::sleep_until(due.into()).await;
        let lines: Vec<_> = (sent..sent + size).map(|number| script.next(number, at(pace, number))).collect();
        let begun = ledger.begin(&lines);
        let uploaded = uploader.send(&lines).await;
        ledger.record(begun, &lines, &uploaded.outcomes)?;
        if let Some(fatal) = uploaded.fatal {
            return Err(fatal);
        }
        sent += size;
        bar.set_position(sent);
    }
    Ok(())
}

fn offset(number: u64, rate: f64) -> Duration {
    #[allow(clippy::cast_precision_loss, reason = "record numbers stay far below 2^52")]
    Duration::from_secs_f64(number as f64 / rate)
}

/// Times follow from the start and the record's number alone, so that a slow machine sends the same bytes.
fn at(pace: &Pace, number: u64) -> DateTime<Utc> {
    let offset = TimeDelta::from_std(offset(number, pace.rate)).unwrap_or(TimeDelta::MAX);
    pace.start.checked_add_signed(offset).unwrap_or(pace.start)
}

fn progress_bar(limit: Option<u64>) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match limit {
        Some(limit) => (ProgressBar::new(limit), "{bar:40} {pos}/{len} records, {per_sec}, {eta} left"),
        None => (ProgressBar::new_spinner(), "{spinner} {pos} records, {per_sec}"),
    };
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}

#[cfg(test)]
mod tests;
