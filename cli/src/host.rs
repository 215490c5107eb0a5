//! `firn host`.

use anyhow::Result;
use serde_json::{Value, json};

use crate::{connection::ConnectionArgs, findings::encode, output};

/// Subcommands of `firn host`.
#[derive(clap::Subcommand)]
pub(crate) enum HostCommand {
    /// Say that a computer is gone for good: its findings end, and nobody waits for its inventory. A report brings it back
    Retire(RetireArgs),
}

/// Arguments of `firn host retire`.
#[derive(clap::Args)]
pub(crate) struct RetireArgs {
    /// Its id
    host: String,
    /// Why
    #[arg(short, long, default_value = "")]
    note: String,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Runs `firn host`.
pub(crate) async fn run(command: &HostCommand) -> Result<()> {
    let HostCommand::Retire(args) = command;
    let connection = args.connection.connect().await?;
    let path = format!("/v1/tenants/{}/hosts/{}/retire", connection.tenant, encode(&args.host));
    connection.post::<Value>(&path, &json!({ "note": args.note })).await?;
    output::line(&format!("retired {}", args.host))
}
