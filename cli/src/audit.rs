//! `firn audit`: who did what, and who was refused.

use anyhow::Result;
use firn_catalog_client::{AuditEntry, TenantClient};

use crate::{connection::ConnectionArgs, output};

const PAGE: usize = 1_000;

/// Arguments of `firn audit`.
#[derive(clap::Args)]
pub(crate) struct AuditArgs {
    /// Only what this principal did
    #[arg(long, value_name = "NAME")]
    principal: Option<String>,
    /// Only this: commit, merge, client-created, tenant-suspended …
    #[arg(long, value_name = "WORD")]
    action: Option<String>,
    /// Only what was refused
    #[arg(long)]
    denied: bool,
    /// Only what comes after this entry's number
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    after: i64,
    /// The newest of them, at most
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 50)]
    limit: usize,
    /// All of them as JSON lines, oldest first, for other programs
    #[arg(long)]
    export: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Runs `firn audit`.
pub(crate) async fn run(args: &AuditArgs) -> Result<()> {
    let client = args.connection.connect().await?.tenant_client()?;
    let mut filters = Vec::new();
    filters.extend(args.principal.as_deref().map(|name| ("principal", name)));
    filters.extend(args.action.as_deref().map(|word| ("action", word)));
    filters.extend(args.denied.then_some(("decision", "denied")));
    if args.export {
        return each_page(&client, args.after, &filters, |entries| {
            entries.iter().try_for_each(|entry| output::line(&serde_json::to_string(entry)?))
        })
        .await;
    }
    let mut newest: Vec<AuditEntry> = Vec::new();
    each_page(&client, args.after, &filters, |entries| {
        newest.extend(entries);
        let surplus = newest.len().saturating_sub(args.limit);
        newest.drain(..surplus);
        Ok(())
    })
    .await?;
    let rows = newest.into_iter().map(|entry| {
        let about =
            entry.commit.map_or_else(|| entry.details.to_string(), |hash| hash.chars().take(12).collect());
        vec![
            entry.sequence.to_string(),
            entry.time,
            entry.principal,
            entry.action,
            entry.decision,
            about,
            entry.request_id.unwrap_or_default(),
        ]
    });
    let headings = ["number", "time", "principal", "action", "decision", "about", "request"];
    output::rows(&headings, rows.collect(), "nothing yet")
}

async fn each_page(
    client: &TenantClient,
    mut after: i64,
    filters: &[(&str, &str)],
    mut take: impl FnMut(Vec<AuditEntry>) -> Result<()>,
) -> Result<()> {
    loop {
        let (entries, next) = client.audit(after, PAGE, filters).await?;
        take(entries)?;
        if next == after {
            return Ok(());
        }
        after = next;
    }
}
