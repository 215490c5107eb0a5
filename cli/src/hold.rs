//! `firn hold`: legal holds.

use anyhow::Result;
use firn_catalog_client::{Hold, HoldRequest, Subject};

use crate::{connection::ConnectionArgs, erase, output};

/// Subcommands of `firn hold`.
#[derive(clap::Subcommand)]
pub(crate) enum HoldCommand {
    /// Place a hold on a subject, a table or a reference; on all of the tenant if none is named
    Add(AddArgs),
    /// List the holds in force
    Ls(ListArgs),
    /// Release a hold; what waited for it goes on
    Release(ReleaseArgs),
}

/// Arguments of `firn hold add`.
#[derive(clap::Args)]
pub(crate) struct AddArgs {
    /// Rows of a subject, such as host_id=pc-7
    #[arg(long, value_name = "COLUMN=VALUE", value_parser = erase::subject, conflicts_with_all = ["table", "reference"])]
    subject: Option<Subject>,
    /// A table, NAMESPACE.NAME
    #[arg(long, value_name = "TABLE", conflicts_with = "reference")]
    table: Option<String>,
    /// A branch or tag with all that it reaches
    #[arg(long = "ref", value_name = "NAME")]
    reference: Option<String>,
    /// Why, for those who are refused
    #[arg(long)]
    reason: String,
    /// When it ends by itself, such as 2027-01-31T00:00:00Z (default: when it is released)
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Arguments of `firn hold ls`.
#[derive(clap::Args)]
pub(crate) struct ListArgs {
    /// Also those that were released or have ended
    #[arg(long)]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Arguments of `firn hold release`.
#[derive(clap::Args)]
pub(crate) struct ReleaseArgs {
    /// Its id
    id: String,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Runs `firn hold`.
pub(crate) async fn run(command: &HoldCommand) -> Result<()> {
    match command {
        HoldCommand::Add(args) => add(args).await,
        HoldCommand::Ls(args) => list(args).await,
        HoldCommand::Release(args) => release(args).await,
    }
}

async fn add(args: &AddArgs) -> Result<()> {
    let client = args.connection.connect().await?.tenant_client()?;
    let request = HoldRequest {
        subject: args.subject.clone(),
        table: args.table.clone(),
        reference: args.reference.clone(),
        reason: args.reason.clone(),
        until: args.until.clone(),
    };
    let hold = client.place_hold(&request).await?;
    if args.json {
        return output::json(&hold);
    }
    output::line(&format!("{} is in force", output::plain(&hold.describe())))
}

async fn list(args: &ListArgs) -> Result<()> {
    let mut holds = args.connection.connect().await?.tenant_client()?.holds().await?;
    holds.retain(|hold| args.all || hold.active);
    if args.json {
        return output::json(&holds);
    }
    let row = |hold: &Hold| {
        let held = &hold.held;
        let subject = held.subject.as_ref().map(|subject| format!("{}={}", subject.column, subject.value));
        let reference = held.reference.as_ref().map(|name| format!("reference {name}"));
        let what = subject.or_else(|| held.table.as_ref().map(|name| format!("table {name}"))).or(reference);
        let end = match (&hold.released_at, &held.until) {
            (Some(at), _) => {
                format!("released {at} by {}", hold.released_by.as_deref().unwrap_or_default())
            }
            (None, Some(until)) => format!("until {until}"),
            (None, None) => "until released".to_owned(),
        };
        vec![
            hold.id.clone(),
            what.unwrap_or_else(|| "all of the tenant".to_owned()),
            held.reason.clone(),
            hold.placed_by.clone(),
            hold.placed_at.clone(),
            end,
        ]
    };
    let headings = ["id", "what", "why", "by", "since", "end"];
    output::rows(&headings, holds.iter().map(row).collect(), "nothing is held")
}

async fn release(args: &ReleaseArgs) -> Result<()> {
    args.connection.connect().await?.tenant_client()?.release_hold(&args.id).await?;
    output::line(&format!("the hold {} is released", args.id))
}
