//! `firn promote`: runs of the models, and what became of them.

use anyhow::{Result, bail};
use chrono::DateTime;
use firn_compactor::{FailingCheck, ModelReceipt, RunRecord, RunState};
use serde::Deserialize;

use crate::{connection::ConnectionArgs, duration, output};

/// Subcommands of `firn promote`.
#[derive(clap::Subcommand)]
pub(crate) enum PromoteCommand {
    /// List recent runs, newest first
    Ls(ListArgs),
    /// Show one run: what each model read and wrote, and the rows that broke a check
    Show(ShowArgs),
}

/// Arguments of `firn promote ls`.
#[derive(clap::Args)]
pub(crate) struct ListArgs {
    /// At most this many
    #[arg(short = 'n', long, default_value_t = 20)]
    limit: usize,
    /// Branch that they ran on
    #[arg(long = "ref", default_value = "main")]
    reference: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Arguments of `firn promote show`.
#[derive(clap::Args)]
pub(crate) struct ShowArgs {
    /// The run, or the beginning of its id; the newest one if absent
    run: Option<String>,
    /// Branch that it ran on
    #[arg(long = "ref", default_value = "main")]
    reference: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

#[derive(Deserialize)]
struct Promotions {
    promotions: Vec<RunRecord>,
}

/// Runs `firn promote`.
pub(crate) async fn run(command: &PromoteCommand) -> Result<()> {
    match command {
        PromoteCommand::Ls(args) => list(args).await,
        PromoteCommand::Show(args) => show(args).await,
    }
}

async fn runs(connection: &ConnectionArgs, reference: &str, limit: usize) -> Result<Vec<RunRecord>> {
    let connection = connection.connect().await?;
    let reference: String = url::form_urlencoded::byte_serialize(reference.as_bytes()).collect();
    let path = format!("/v1/tenants/{}/promotions?limit={limit}&ref={reference}", connection.tenant);
    Ok(connection.get::<Promotions>(&path).await?.promotions)
}

async fn list(args: &ListArgs) -> Result<()> {
    let runs = runs(&args.connection, &args.reference, args.limit).await?;
    if args.json {
        return output::json(&runs);
    }
    let row = |run: &RunRecord| {
        let rows = run.receipt.as_ref().map_or_else(
            || "-".to_owned(),
            |receipt| receipt.models.iter().map(|model| model.rows).sum::<u64>().to_string(),
        );
        let told = run.error.clone().unwrap_or_default();
        vec![run.run.clone(), state_name(run.state).to_owned(), duration::ago(run.started_at_ms), rows, told]
    };
    let headings = ["run", "state", "started", "rows", "error"];
    output::rows(&headings, runs.iter().map(row).collect(), "no promotion ran yet")
}

fn state_name(state: RunState) -> &'static str {
    match state {
        RunState::Running => "running",
        RunState::Succeeded => "succeeded",
        RunState::Failed => "failed",
        RunState::Repeated => "repeated",
    }
}

async fn show(args: &ShowArgs) -> Result<()> {
    let runs = runs(&args.connection, &args.reference, usize::MAX).await?;
    let wanted = |run: &&RunRecord| args.run.as_ref().is_none_or(|id| run.run.starts_with(id.as_str()));
    let Some(run) = runs.iter().find(wanted) else {
        let id = args.run.as_deref().unwrap_or("any");
        bail!("no recent run '{id}' on {}: 'firn promote ls' lists them", args.reference);
    };
    if args.json { output::json(run) } else { print(run) }
}

/// What a run did, or why it failed.
pub(crate) fn print(run: &RunRecord) -> Result<()> {
    let started = DateTime::from_timestamp_millis(run.started_at_ms).map(|at| at.to_rfc3339());
    output::line(&format!("run      {}", run.run))?;
    output::line(&format!("on       {}", run.reference))?;
    output::line(&format!("state    {}", state_name(run.state)))?;
    output::line(&format!("started  {}", started.unwrap_or_default()))?;
    if let Some(branch) = &run.branch {
        output::line(&format!("branch   {branch}"))?;
    }
    if let Some(error) = &run.error {
        output::line(&format!("error    {error}"))?;
    }
    if let Some(receipt) = &run.receipt {
        let row = |model: &ModelReceipt| {
            let counts = [model.rows, model.removed, model.dropped].map(|count| count.to_string());
            let [rows, removed, dropped] = counts;
            vec![model.model.clone(), model.action.clone(), rows, removed, dropped, model.reason.clone()]
        };
        output::line("")?;
        let headings = ["model", "action", "rows", "removed", "dropped", "why"];
        output::rows(&headings, receipt.models.iter().map(row).collect(), "nothing was to do")?;
    }
    run.checks.iter().try_for_each(show_check)
}

fn show_check(check: &FailingCheck) -> Result<()> {
    output::line("")?;
    output::line(&format!(
        "{}: {} row(s) break check '{}' ({:?}): {}",
        check.model, check.violations, check.check, check.severity, check.condition
    ))?;
    for row in &check.rows {
        output::line(&format!("  {}", output::plain(&row.to_string())))?;
    }
    let more = check.violations.saturating_sub(check.rows.len() as u64);
    if more > 0 { output::line(&format!("  and {more} more")) } else { Ok(()) }
}
