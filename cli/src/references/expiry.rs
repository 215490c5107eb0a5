//! When branches and tags go by themselves: `--expires`, `expire` and `prune`.

use std::time::Duration;

use anyhow::{Context, Result};
use chrono::{SecondsFormat, Utc};
use firn_catalog_client::{Pruned, TenantClient};

use crate::{connection::ConnectionArgs, duration, failure::usage, output};

/// Arguments of `expire`.
#[derive(clap::Args)]
pub(crate) struct ExpireArgs {
    /// Its name
    name: String,
    /// How long from now it stays, such as 30d
    #[arg(long, value_name = "AGE", value_parser = duration::parse, required_unless_present = "never")]
    after: Option<Duration>,
    /// It stays until somebody deletes it
    #[arg(long, conflicts_with = "after")]
    never: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Arguments of `prune`.
#[derive(clap::Args)]
pub(crate) struct PruneArgs {
    /// Only tell which would go
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Says that a reference goes so long from now; answers when.
pub(super) async fn set(client: &TenantClient, name: &str, after: Duration) -> Result<String> {
    let at = Utc::now().checked_add_signed(chrono::TimeDelta::from_std(after)?);
    let at = at.ok_or_else(|| usage("that is too long from now: leave it out, and the reference stays"))?;
    let expiry = client.set_expiry(name, &at.to_rfc3339_opts(SecondsFormat::Secs, true)).await;
    Ok(expiry.with_context(|| format!("'{name}' doesn't expire"))?.expires_at)
}

/// `expire`.
pub(super) async fn expire(args: &ExpireArgs) -> Result<()> {
    let (client, name) = (args.connection.connect().await?.tenant_client()?, &args.name);
    match args.after {
        Some(after) => {
            let at = set(&client, name, after).await?;
            output::line(&format!("{name} expires at {at}"))
        }
        None => {
            client.unset_expiry(name).await?;
            output::line(&format!("{name} stays until it is deleted"))
        }
    }
}

/// `prune`.
pub(super) async fn prune(args: &PruneArgs) -> Result<()> {
    let client = args.connection.connect().await?.tenant_client()?;
    let pruned = client.prune_references(args.dry_run).await?;
    if args.json {
        return output::json(&pruned);
    }
    let (gone, nothing) = match args.dry_run {
        true => ("would go", "no branch or tag is due"),
        false => ("gone", "no branch or tag was due"),
    };
    let row = |pruned: &Pruned| {
        let outcome = if pruned.removed { gone.to_owned() } else { format!("stays: {}", pruned.reason) };
        vec![pruned.reference.clone(), pruned.expires_at.clone(), outcome]
    };
    output::rows(&["name", "expired", "outcome"], pruned.iter().map(row).collect(), nothing)
}
