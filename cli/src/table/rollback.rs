//! `firn table rollback`: one table as it was, on a branch.

use anyhow::Result;
use chrono::Local;
use firn_compactor::{Rollback, RollbackTarget};
use serde_json::json;

use super::load;
use crate::{connection::ConnectionArgs, failure::usage, output, revision};

/// Arguments of `firn table rollback`.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("to").required(true))]
pub(crate) struct RollbackArgs {
    /// Its name, such as gold.device
    table: String,
    /// To a snapshot, as 'firn table snapshots' lists them
    #[arg(long, group = "to", value_name = "ID")]
    to_snapshot: Option<i64>,
    /// To what was current at a time: 2026-11-22T10:00:00Z, yesterday, '2 hours ago'
    #[arg(long, group = "to", value_name = "TIME")]
    to_time: Option<String>,
    /// To what was current at a commit of the catalog, such as main~3 or a hash; also if the snapshot has expired
    #[arg(long, group = "to", value_name = "COMMIT")]
    to_commit: Option<String>,
    /// Branch
    #[arg(long = "ref", default_value = "main")]
    reference: String,
    /// Also to a snapshot that the current one was not built on, as after an earlier rollback
    #[arg(long)]
    any: bool,
    /// Only tell what would change
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Runs `firn table rollback`.
pub(super) async fn rollback(args: &RollbackArgs) -> Result<()> {
    let target = target(args).await?;
    let table = load(&args.table, &args.reference, &args.connection).await?;
    let plan = Rollback::plan(&table, &target, args.any).await?;
    let mut report = json!(plan);
    report["dry_run"] = json!(args.dry_run);
    let said = describe(&plan, args.dry_run);
    let made_by_model = plan.made_by_model;
    if !args.dry_run {
        report["current_snapshot"] = json!(plan.commit(&table).await?);
    }
    if args.json {
        return output::json(&report);
    }
    if made_by_model {
        output::complain(
            "a model makes this table: the next promotion computes it anew from its inputs as they are",
        );
    }
    output::line(&said)
}

async fn target(args: &RollbackArgs) -> Result<RollbackTarget> {
    if let Some(id) = args.to_snapshot {
        return Ok(RollbackTarget::Snapshot(id));
    }
    if let Some(text) = &args.to_time {
        let instant = revision::parse_instant(text.trim(), Local::now()).ok_or_else(|| {
            usage(format!(
                "'{text}' is no instant: write yesterday, '2 hours ago', 2026-11-22 or 2026-11-22T10:00:00Z"
            ))
        })?;
        return Ok(RollbackTarget::Time(instant.timestamp_millis()));
    }
    let commit = args.to_commit.as_deref().unwrap_or_default();
    let client = args.connection.connect().await?.tenant_client()?;
    Ok(RollbackTarget::Commit(revision::resolve(&client, commit).await?))
}

fn describe(plan: &Rollback, dry_run: bool) -> String {
    let number =
        |rows: Option<u64>| rows.map_or_else(|| "an unknown number of".to_owned(), |rows| rows.to_string());
    let from = plan.from_snapshot.map_or_else(|| "none".to_owned(), |id| id.to_string());
    format!(
        "{} on {}: {} from snapshot {from} with {} rows to {}{} with {} rows",
        plan.table,
        plan.reference,
        if dry_run { "would go" } else { "went" },
        number(plan.rows_before),
        plan.to_snapshot,
        if plan.restores { ", whose files come back in a new snapshot," } else { "" },
        number(plan.rows_after),
    )
}
