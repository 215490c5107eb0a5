//! `firn erase`: a subject's data goes from every table, and a signed receipt tells so.

mod verify;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use firn_catalog_client::{Erasure, ErasureRequest, ErasureState, Subject, TenantClient};

use crate::{connection::ConnectionArgs, failure::usage, output};

/// Pause between two looks at a running erasure.
const POLL: Duration = Duration::from_millis(500);

/// Arguments of `firn erase`.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct EraseArgs {
    #[command(subcommand)]
    command: Option<EraseCommand>,
    /// Whose data goes: a column and its value, such as host_id=pc-7 or owner_email=jo@example.org
    #[arg(long, value_name = "COLUMN=VALUE", required = true, value_parser = subject)]
    subject: Option<Subject>,
    /// Also all that there is of the computers whose records name the subject
    #[arg(long)]
    with_hosts: bool,
    /// Only say what would go
    #[arg(long)]
    dry_run: bool,
    /// Why, for the receipt and the audit log; it must not name the subject
    #[arg(long, default_value = "")]
    reason: String,
    /// Write the receipt to a file
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,
    /// Don't wait for the end; `firn erase show` tells how it goes on
    #[arg(long, conflicts_with = "receipt")]
    no_wait: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Subcommands of `firn erase`.
#[derive(clap::Subcommand)]
enum EraseCommand {
    /// List the tenant's erasures
    Ls(ListArgs),
    /// Show one erasure, and wait for its end if asked to
    Show(ShowArgs),
    /// Check a receipt: its signature, and that the files it names are gone
    Verify(verify::VerifyArgs),
}

/// Arguments of `firn erase ls`.
#[derive(clap::Args)]
struct ListArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Arguments of `firn erase show`.
#[derive(clap::Args)]
struct ShowArgs {
    /// Its id
    id: String,
    /// Wait until it is done, or held
    #[arg(long)]
    wait: bool,
    /// Write the receipt to a file
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Reads `COLUMN=VALUE`.
pub(crate) fn subject(text: &str) -> Result<Subject, String> {
    match text.split_once('=') {
        Some((column, value)) if !column.is_empty() && !value.is_empty() => {
            Ok(Subject { column: column.to_owned(), value: value.to_owned() })
        }
        _ => Err(format!("'{text}' is not of the form COLUMN=VALUE, such as host_id=pc-7")),
    }
}

/// Runs `firn erase`.
pub(crate) async fn run(args: &EraseArgs) -> Result<()> {
    match &args.command {
        None => erase(args).await,
        Some(EraseCommand::Ls(args)) => list(args).await,
        Some(EraseCommand::Show(args)) => show(args).await,
        Some(EraseCommand::Verify(args)) => verify::run(args).await,
    }
}

async fn erase(args: &EraseArgs) -> Result<()> {
    let Some(subject) = args.subject.clone() else { return Err(usage("--subject is needed")) };
    let client = args.connection.connect().await?.tenant_client()?;
    let request = ErasureRequest {
        subject,
        with_hosts: args.with_hosts,
        dry_run: args.dry_run,
        reason: args.reason.clone(),
    };
    let mut erasure = client.erase(&request).await?;
    if !args.no_wait {
        output::complain(&format!("erasure {}; it goes on by itself if this command ends", erasure.id));
        erasure = wait(&client, erasure).await?;
    }
    tell(&erasure, args.json, args.receipt.as_ref())
}

async fn show(args: &ShowArgs) -> Result<()> {
    let client = args.connection.connect().await?.tenant_client()?;
    let mut erasure = client.erasure(&args.id).await?;
    if args.wait {
        erasure = wait(&client, erasure).await?;
    }
    tell(&erasure, args.json, args.receipt.as_ref())
}

/// Until it is done or held; what it does meanwhile is told once each.
async fn wait(client: &TenantClient, mut erasure: Erasure) -> Result<Erasure> {
    let mut told = String::new();
    loop {
        if erasure.message != told {
            told.clone_from(&erasure.message);
            output::complain(&output::plain(&told));
        }
        if matches!(erasure.state, ErasureState::Done | ErasureState::Held) {
            return Ok(erasure);
        }
        tokio::time::sleep(POLL).await;
        erasure = client.erasure(&erasure.id).await?;
    }
}

fn tell(erasure: &Erasure, json: bool, file: Option<&PathBuf>) -> Result<()> {
    if let Some(file) = file {
        let receipt = erasure.receipt.as_ref();
        let receipt = receipt.context("there is no receipt: the erasure isn't done, or was a dry run")?;
        std::fs::write(file, format!("{receipt}\n"))
            .with_context(|| format!("can't write the receipt to {}", file.display()))?;
    }
    if json {
        return output::json(erasure);
    }
    let counts = &erasure.counts;
    output::line(&format!("erasure    {}", erasure.id))?;
    output::line(&format!("subject    {} (hash {})", output::plain(&erasure.column), erasure.subject_hash))?;
    output::line(&format!("state      {}: {}", word(erasure.state), output::plain(&erasure.message)))?;
    if erasure.dry_run {
        output::line(&format!("would go   {} rows of {} tables, in:", counts.rows, erasure.tables.len()))?;
        for file in &erasure.removed {
            output::line(&format!("  {}", output::plain(file)))?;
        }
        return Ok(());
    }
    output::line(&format!(
        "went       {} rows of {} tables, in {} passes over {} files",
        counts.rows,
        erasure.tables.len(),
        counts.passes,
        counts.files_listed
    ))?;
    output::line(&format!(
        "written    {} data and delete files, {} manifests and lists, {} states of tables",
        counts.files_rewritten, counts.manifests_rewritten, counts.states_changed
    ))?;
    output::line(&format!("deleted    {} files", counts.files_removed))?;
    match (&erasure.receipt, file) {
        (Some(_), Some(file)) => output::line(&format!("receipt    {}", file.display())),
        (Some(receipt), None) => output::line(&format!("receipt    {receipt}")),
        (None, _) => Ok(()),
    }
}

async fn list(args: &ListArgs) -> Result<()> {
    let erasures = args.connection.connect().await?.tenant_client()?.erasures().await?;
    if args.json {
        return output::json(&erasures);
    }
    let row = |erasure: &Erasure| {
        vec![
            erasure.id.clone(),
            erasure.requested_at.clone(),
            erasure.requested_by.clone(),
            erasure.column.clone(),
            word(erasure.state).to_owned(),
            erasure.counts.rows.to_string(),
            erasure.message.clone(),
        ]
    };
    let headings = ["id", "requested", "by", "column", "state", "rows", ""];
    output::rows(&headings, erasures.iter().map(row).collect(), "no erasure was asked for")
}

fn word(state: ErasureState) -> &'static str {
    match state {
        ErasureState::Waiting => "waiting",
        ErasureState::Running => "running",
        ErasureState::Held => "held",
        ErasureState::Done => "done",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn subjects_are_a_column_and_a_value() {
        let read = subject("owner_email=jo=x@example.org").unwrap();
        assert_eq!((read.column.as_str(), read.value.as_str()), ("owner_email", "jo=x@example.org"));
        assert!(subject("host_id").is_err() && subject("=x").is_err() && subject("host_id=").is_err());
    }
}
