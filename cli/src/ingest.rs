//! `firn ingest`: the way from the log to bronze, in an operator's hands.

mod organizations;
mod replay;

use std::time::{Duration, Instant};

use anyhow::Result;
use firn_catalog_client::SuspensionRequest;
use firn_ingest::{ForgetRequest, Forgotten, PartitionStanding, Standing};
use firn_runtime::{StageState, StageStatus};
use serde_json::json;

use crate::{
    connection::{Connection, ConnectionArgs},
    output,
    service::ServeArgs,
    status::ServerStatus,
};

/// The stage's name, in the status and in suspensions.
const STAGE: &str = "ingest";

/// How long a worker may take to end a tenant's commit before the command stops waiting for it.
const STOP_DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(500);

/// Subcommands of `firn ingest`.
#[derive(clap::Subcommand)]
pub(crate) enum IngestCommand {
    /// Take records from the log into the tables, in a process of its own
    Serve(ServeArgs),
    /// Take nothing more for a tenant, after the commit that is on its way; uploads are still accepted and wait in the log
    Suspend(SuspendArgs),
    /// Go on for a tenant where it was suspended
    Resume(ResumeArgs),
    /// Show the tenant's positions beside what the log holds
    Positions(PositionsArgs),
    /// Take records once more: from quarantine after a fix, or from the log onto a branch
    Replay(replay::ReplayArgs),
    /// Say whose computers are whose: a CSV file as the table reference.organizations, from which records that come get org_id,
    /// org_name, org_unit and org_attributes
    Organizations(organizations::OrganizationsArgs),
}

/// Arguments of `firn ingest suspend`.
#[derive(clap::Args)]
pub(crate) struct SuspendArgs {
    /// Why, for those who see it in the status
    #[arg(long, default_value = "")]
    reason: String,
    /// Every tenant that there is now, instead of one
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Arguments of `firn ingest resume`.
#[derive(clap::Args)]
pub(crate) struct ResumeArgs {
    /// Every tenant, instead of one
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Arguments of `firn ingest positions`.
#[derive(clap::Args)]
pub(crate) struct PositionsArgs {
    /// Forget the positions in a topic that was replaced: the present one is then read from its beginning
    #[arg(long, value_name = "TOPIC-ID")]
    forget: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Runs `firn ingest`.
pub(crate) async fn run(command: &IngestCommand) -> Result<()> {
    match command {
        IngestCommand::Suspend(args) => suspend(args).await,
        IngestCommand::Resume(args) => resume(args).await,
        IngestCommand::Positions(args) => positions(args).await,
        // No client: it runs on threads of its own.
        IngestCommand::Serve(_) => Ok(()),
        IngestCommand::Replay(args) => replay::run(args).await,
        IngestCommand::Organizations(args) => organizations::run(args).await,
    }
}

async fn suspend(args: &SuspendArgs) -> Result<()> {
    let connection = args.connection.connect().await?;
    let catalog = connection.catalog()?;
    let tenants = tenants(&connection, args.all).await?;
    for tenant in &tenants {
        let request = SuspensionRequest { reason: args.reason.clone() };
        catalog.tenant(tenant).suspend(STAGE, &request).await?;
    }
    for tenant in &tenants {
        let stopped = is(&connection, tenant, |status| status.state == StageState::Suspended).await?;
        let said =
            if stopped { "suspended" } else { "to be suspended, but no worker has said that it stopped" };
        output::line(&format!("ingest of {tenant}: {said}"))?;
    }
    Ok(())
}

async fn resume(args: &ResumeArgs) -> Result<()> {
    let connection = args.connection.connect().await?;
    let catalog = connection.catalog()?;
    let tenants = tenants(&connection, args.all).await?;
    for tenant in &tenants {
        catalog.tenant(tenant).resume(STAGE).await?;
    }
    for tenant in &tenants {
        let goes_on = is(&connection, tenant, |status| status.state != StageState::Suspended).await?;
        let said = if goes_on { "resumed" } else { "to be resumed, but no worker has said that it goes on" };
        output::line(&format!("ingest of {tenant}: {said}"))?;
    }
    Ok(())
}

async fn tenants(connection: &Connection, all: bool) -> Result<Vec<String>> {
    if !all {
        return Ok(vec![connection.tenant.clone()]);
    }
    Ok(connection.catalog()?.tenants().await?.into_iter().map(|tenant| tenant.name).collect())
}

/// Waits until the tenant's line of the status is as wanted; a tenant without a line is not suspended.
async fn is(connection: &Connection, tenant: &str, wanted: impl Fn(&StageStatus) -> bool) -> Result<bool> {
    let began = Instant::now();
    loop {
        let server: ServerStatus = connection.get("/v1/status").await?;
        let mut lines = server.stages.into_iter();
        let line = lines.find(|line| line.stage == STAGE && line.tenant == tenant);
        if wanted(&line.map(|line| line.status).unwrap_or_default()) {
            return Ok(true);
        }
        if began.elapsed() > STOP_DEADLINE {
            return Ok(false);
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn positions(args: &PositionsArgs) -> Result<()> {
    let connection = args.connection.connect().await?;
    let path = format!("/v1/tenants/{}/ingest/positions", connection.tenant);
    if let Some(topic_id) = &args.forget {
        let request = ForgetRequest { topic_id: topic_id.clone() };
        let forgotten: Forgotten = connection.post(&format!("{path}/forget"), &json!(request)).await?;
        let (tenant, partitions) = (&connection.tenant, forgotten.partitions);
        return output::line(&format!(
            "{tenant}: forgot the positions of {partitions} partitions in {topic_id}"
        ));
    }
    let standing: Standing = connection.get(&path).await?;
    if args.json {
        return output::json(&standing);
    }
    let row = |line: &PartitionStanding| {
        let number = |number: Option<i64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
        let known =
            [line.partition.into(), line.log_start, line.log_end].map(|number: i64| number.to_string());
        let [partition, start, end] = known;
        let (position, group) = (number(line.position), number(line.group_offset));
        vec![partition, position, group, start, end, line.lag_records.to_string()]
    };
    let headings = ["partition", "position", "group", "log start", "log end", "lag"];
    let rows = standing.partitions.iter().map(row).collect();
    output::rows(&headings, rows, "the log has no partitions")?;
    let id = standing.topic_id.as_deref().unwrap_or("none");
    output::line(&format!("topic {} (id {id}), {} records behind", standing.topic, standing.lag_records))?;
    for problem in &standing.problems {
        output::line(&format!("PROBLEM: {}", output::plain(problem)))?;
    }
    Ok(())
}
