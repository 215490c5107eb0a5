//! `firn table`: what tables are made of, and their maintenance.

mod inspect;
mod maintain;
mod metrics;
mod orphans;
mod rollback;

use anyhow::{Context, Result};
use firn_catalog_client::{TenantClient, iceberg::TableIdent};
use firn_table::{FileIo, StorageConfig, Table};
use serde::Serialize;
use serde_json::Value;

use crate::{connection::ConnectionArgs, duration, failure::usage, output};

/// Subcommands of `firn table`.
#[derive(clap::Subcommand)]
pub(crate) enum TableCommand {
    /// List tables with rows, files and last commit
    Ls(ListArgs),
    /// Show columns, partitioning, properties and size of a table
    Show(TableArgs),
    /// List the data files of a table
    Files(inspect::FilesArgs),
    /// List the snapshots in a table's log, newest first
    Snapshots(TableArgs),
    /// Tell which snapshot was current when, newest first
    History(TableArgs),
    /// Tell what engines said that their scans and commits of a table cost, newest first
    Metrics(metrics::MetricsArgs),
    /// Tell how much a table would gain from maintenance
    Health(TableArgs),
    /// Rewrite small files, and files with many deleted rows, into larger ones
    Compact(maintain::CompactArgs),
    /// Remove old snapshots from a table's log; no file and no commit goes with them
    Expire(maintain::ExpireArgs),
    /// Take partitions out that lie wholly beyond the retention; the server does so by itself for tenants that set one
    Retain(maintain::RetainArgs),
    /// List, or remove, files in a table's folder that no kept state of any branch or tag needs
    Orphans(orphans::OrphansArgs),
    /// Take a table back to an earlier snapshot, time or commit
    Rollback(rollback::RollbackArgs),
}

/// A table, and how it is printed.
#[derive(clap::Args)]
pub(crate) struct TableArgs {
    /// Its name, such as bronze.inventory
    table: String,
    /// Branch, tag, hash, or Nessie's reference syntax
    #[arg(long = "ref", default_value = "main")]
    reference: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// A table's dotted name.
fn ident(name: &str) -> Result<TableIdent> {
    let mut namespace: Vec<String> = name.split('.').map(str::to_owned).collect();
    let last = namespace.pop().filter(|last| !last.is_empty());
    match last.filter(|_| !namespace.is_empty()) {
        Some(name) => Ok(TableIdent { namespace, name }),
        None => Err(usage(format!(
            "'{name}' is no table name: write it with its namespace, as in gold.compliance"
        ))),
    }
}

/// Loads a table by its dotted name.
async fn load(name: &str, reference: &str, connection: &ConnectionArgs) -> Result<Table> {
    let ident = ident(name)?;
    let client = connection.connect().await?.lake_client()?;
    let file_io = FileIo::new(StorageConfig::default());
    Table::load(&client, &file_io, reference, &ident)
        .await
        .with_context(|| format!("table {name} on {reference}"))
}

/// Arguments of `firn table ls`.
#[derive(clap::Args)]
pub(crate) struct ListArgs {
    /// Branch, tag or hash
    #[arg(long = "ref", default_value = "main")]
    reference: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// What a table's current snapshot says of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct TableSummary {
    /// Dotted name.
    pub(crate) name: String,
    /// First level of the namespace: the layer.
    pub(crate) layer: String,
    /// Rows, if the writer said so.
    pub(crate) rows: Option<u64>,
    /// Data files, if the writer said so.
    pub(crate) files: Option<u64>,
    /// Last change of the data, milliseconds since the epoch.
    pub(crate) changed_ms: Option<i64>,
}

/// Runs `firn table`.
pub(crate) async fn run(command: &TableCommand) -> Result<()> {
    match command {
        TableCommand::Ls(args) => list(args).await,
        TableCommand::Show(args) => inspect::show(args).await,
        TableCommand::Files(args) => inspect::files(args).await,
        TableCommand::Snapshots(args) => inspect::snapshots(args).await,
        TableCommand::History(args) => inspect::history(args).await,
        TableCommand::Metrics(args) => metrics::metrics(args).await,
        TableCommand::Health(args) => maintain::health(args).await,
        TableCommand::Compact(args) => maintain::compact(args).await,
        TableCommand::Expire(args) => maintain::expire(args).await,
        TableCommand::Retain(args) => maintain::retain(args).await,
        TableCommand::Orphans(args) => orphans::orphans(args).await,
        TableCommand::Rollback(args) => rollback::rollback(args).await,
    }
}

async fn list(args: &ListArgs) -> Result<()> {
    let client = args.connection.connect().await?.lake_client()?;
    let (tables, _) = summaries(&client, &args.reference, usize::MAX).await?;
    if args.json {
        return output::json(&tables);
    }
    let row = |table: &TableSummary| {
        let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |n| n.to_string());
        let changed = table.changed_ms.map_or_else(|| "never".to_owned(), duration::ago);
        vec![table.name.clone(), number(table.rows), number(table.files), changed]
    };
    let headings = ["table", "rows", "files", "last change"];
    output::rows(&headings, tables.iter().map(row).collect(), "no tables yet")
}

/// The first `limit` tables of a reference by name, and how many more there are. All are read at the same commit.
pub(crate) async fn summaries(
    client: &TenantClient,
    reference: &str,
    limit: usize,
) -> Result<(Vec<TableSummary>, usize)> {
    let pinned = client.reference(reference).await?.hash().to_owned();
    let entries = client.entries(&pinned, None, false).await?;
    let mut tables: Vec<_> =
        entries.into_iter().filter(|entry| entry.content_type == "ICEBERG_TABLE").collect();
    let more = tables.len().saturating_sub(limit);
    tables.truncate(limit);
    let mut summaries = Vec::with_capacity(tables.len());
    for entry in tables {
        let mut namespace = entry.name.elements;
        let Some(name) = namespace.pop() else { continue };
        let ident = TableIdent { namespace, name };
        let loaded = client.load_table(&pinned, &ident).await?;
        summaries.push(summarize(&ident, &loaded.metadata));
    }
    Ok((summaries, more))
}

fn summarize(ident: &TableIdent, metadata: &Value) -> TableSummary {
    let current = &metadata["current-snapshot-id"];
    let snapshots = metadata["snapshots"].as_array().map(Vec::as_slice).unwrap_or_default();
    let snapshot = snapshots.iter().find(|snapshot| current.is_i64() && snapshot["snapshot-id"] == *current);
    let total = |name: &str| snapshot.and_then(|s| s["summary"][name].as_str()?.parse().ok());
    TableSummary {
        name: ident.to_string(),
        layer: ident.namespace.first().cloned().unwrap_or_default(),
        rows: if snapshot.is_none() { Some(0) } else { total("total-records") },
        files: if snapshot.is_none() { Some(0) } else { total("total-data-files") },
        changed_ms: snapshot.and_then(|snapshot| snapshot["timestamp-ms"].as_i64()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn summary_is_of_the_current_snapshot() {
        let metadata = json!({"current-snapshot-id": 2, "snapshots": [
            {"snapshot-id": 1, "timestamp-ms": 5, "summary": {"total-records": "9"}},
            {"snapshot-id": 2, "timestamp-ms": 7, "summary": {"total-records": "10", "total-data-files": "3"}},
        ]});
        let summary = summarize(&TableIdent::new("gold", "t"), &metadata);
        let want = TableSummary {
            name: "gold.t".into(),
            layer: "gold".into(),
            rows: Some(10),
            files: Some(3),
            changed_ms: Some(7),
        };
        assert_eq!(summary, want);
    }

    #[test]
    fn table_without_snapshot_has_no_rows() {
        let summary = summarize(&TableIdent::new("gold", "t"), &json!({"current-snapshot-id": null}));
        assert_eq!((summary.rows, summary.changed_ms), (Some(0), None));
    }
}
