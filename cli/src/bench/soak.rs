//! `firn bench soak`: a fleet reports for hours, and afterwards each record is where it belongs, once.
//!
//! The tenants are the run's own, so whatever is in their tables is the run's. A record's `event_id` is its number, and what the
//! gateway said of each number is kept; at the end all rows are read. An upload whose outcome nobody knows may have arrived or
//! not, but not twice.

mod account;
mod fleet;
mod freshness;
mod rows;
mod server;

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use firn_catalog_client::TenantCreate;
use futures::{StreamExt as _, TryStreamExt as _, future::try_join_all, stream};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    connection::{Connection, ConnectionArgs},
    duration,
    failure::usage,
    output,
    simulate::Uploader,
};
use account::{Account, Differences, Sent};
use fleet::{Fleet, Pace};
use freshness::Freshness;
use server::{Memory, OwnServer};

/// Tenants whose rows are looked for as they come.
const WATCHED: usize = 4;
/// Tenants that are asked for at once.
const AT_ONCE: usize = 8;
/// Between two looks for rows that are on their way.
const LOOK: Duration = Duration::from_millis(500);

/// Arguments of `firn bench soak`.
#[derive(clap::Args)]
pub(crate) struct SoakArgs {
    /// How long to send, such as 10m or 1h; an interrupt ends it earlier, and what was sent is compared
    #[arg(long = "for", value_name = "DURATION", default_value = "1h", value_parser = duration::parse)]
    lasting: Duration,
    /// Records per second, over all tenants
    #[arg(long, value_name = "R", default_value_t = 1_000.0)]
    rate: f64,
    /// Tenants, which are made for this and deleted if all is well
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    tenants: u32,
    /// Computers of each tenant
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    devices: u32,
    /// Records per upload, at the most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    batch: u32,
    /// Share of malformed records, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.01)]
    malformed: f64,
    /// Same seed, same fleets
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// How long the last records may take to their tables
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration::parse)]
    patience: Duration,
    /// Configuration of the server that is started if none is named
    #[arg(long, value_name = "FILE", conflicts_with_all = ["data_dir", "url"])]
    config: Option<PathBuf>,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// What is printed at the end.
#[derive(Debug, Serialize)]
struct Report {
    url: String,
    tenants: usize,
    seconds: f64,
    sent: Sent,
    differences: Differences,
    freshness: freshness::Summary,
    memory: Memory,
}

/// Sends, waits, compares. A difference is an error.
pub(crate) async fn run(args: &SoakArgs) -> Result<()> {
    check(args)?;
    let own = if args.connection.names_a_server() {
        None
    } else {
        Some(OwnServer::start(args.config.as_deref()).await?)
    };
    let connection = match &own {
        Some(own) => own.connect().await?,
        None => args.connection.connect().await?,
    };
    let tenants = make_tenants(&connection, args.tenants).await?;
    let result = soak(args, &tenants).await;
    let report = match (result, &own) {
        (Ok(report), _) => report,
        (Err(error), Some(own)) => return Err(error.context(own.keep())),
        (Err(error), None) => return Err(error),
    };
    output::json(&report)?;
    end(own, &tenants, report.differences.is_empty()).await?;
    if !report.differences.is_empty() {
        bail!("the tables are not what was sent: {}", report.differences);
    }
    Ok(())
}

fn check(args: &SoakArgs) -> Result<()> {
    if !(args.rate > 0.0 && args.rate <= 1_000_000.0) {
        return Err(usage("--rate must be above 0 and at most 1000000 records per second"));
    }
    if !(0.0..=1.0).contains(&args.malformed) {
        return Err(usage("--malformed is a share from 0 to 1"));
    }
    Ok(())
}

/// A connection for each of the run's tenants.
async fn make_tenants(connection: &Connection, count: u32) -> Result<Vec<Connection>> {
    let (catalog, run) = (connection.catalog()?, Uuid::new_v4().simple().to_string());
    let names: Vec<String> = (0..count).map(|number| format!("soak-{}-{number}", &run[..8])).collect();
    let catalog = &catalog;
    let create = |name: &String| {
        let request = TenantCreate { name: name.clone(), ..TenantCreate::default() };
        async move { catalog.create_tenant(&request).await.map(drop) }
    };
    stream::iter(names.iter().map(create))
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await
        .context("making the run's tenants, which takes an operator's token")?;
    Ok(names.iter().map(|name| connection.of_tenant(name)).collect())
}

/// What was found different stays to be looked at.
async fn end(own: Option<OwnServer>, tenants: &[Connection], clean: bool) -> Result<()> {
    if let Some(own) = own {
        if clean {
            return own.stop().await;
        }
        output::complain(&own.keep());
        return Ok(());
    }
    for tenant in tenants.iter().filter(|_| clean) {
        tenant.tenant_client()?.delete_tenant(None).await.context("deleting the run's tenants")?;
    }
    Ok(())
}

async fn soak(args: &SoakArgs, tenants: &[Connection]) -> Result<Report> {
    let first = tenants.first().context("a soak without tenants")?;
    let stop = firn_runtime::shutdown::on_signals().context("signals can't be awaited")?;
    let freshness = Freshness::default();
    let seen_enough = CancellationToken::new();
    let memory = Memory::at_start(first).await;
    let pace = Pace::of(args.rate / f64::from(args.tenants), args.batch, args.lasting);
    let uploader = Uploader::new(first)?;
    let mut fleets = Vec::new();
    let mut watches = Vec::new();
    for (number, tenant) in (0..).zip(tenants) {
        let fleet = Fleet::new(args.seed + number, args.devices, args.malformed, pace, tenants.len());
        if watches.len() < WATCHED {
            let watch = freshness.watch(tenant.lake_client()?, fleet.acknowledged());
            watches.push(tokio::spawn(seen_enough.clone().run_until_cancelled_owned(watch)));
        }
        fleets.push(fleet.report_to(uploader.to(tenant), stop.clone()));
    }
    let began = tokio::time::Instant::now();
    let mut accounts = try_join_all(fleets).await?;
    let seconds = began.elapsed().as_secs_f64();
    let memory = memory.at_end(first).await;
    settle(tenants, &accounts, args.patience).await?;
    // The last rows are there; the watches find them at their next look.
    tokio::time::sleep(2 * freshness::LOOK).await;
    seen_enough.cancel();
    for watch in watches {
        if let Some(failed) = watch.await? {
            failed.context("looking for new rows")?;
        }
    }
    let (mut sent, mut differences) = (Sent::default(), Differences::default());
    for (tenant, account) in tenants.iter().zip(&mut accounts) {
        rows::read_all(&tenant.lake_client()?, account).await.with_context(|| tenant.tenant.clone())?;
        sent.add(&account.sent());
        differences.add(&account.differences());
    }
    let (url, tenants, freshness) = (first.url.clone(), tenants.len(), freshness.summary());
    Ok(Report { url, tenants, seconds, sent, differences, freshness, memory })
}

/// Waits until as many rows are there as were acknowledged; what is still missing then is lost.
async fn settle(tenants: &[Connection], accounts: &[Account], patience: Duration) -> Result<()> {
    let deadline = tokio::time::Instant::now() + patience;
    for (tenant, account) in tenants.iter().zip(accounts) {
        let client = tenant.lake_client()?;
        while rows::count(&client).await? < account.sent().acknowledged {
            if tokio::time::Instant::now() >= deadline {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    }
    Ok(())
}

/// Shared between who sends and who watches.
type Acknowledged = Arc<fleet::Acknowledgements>;
