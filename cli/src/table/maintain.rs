//! `firn table health|compact|expire|retain`: maintenance in this process, under the lease that the server's own takes too.

use std::time::Duration;

use anyhow::{Result, bail};
use firn_compactor::{Compacted, CompactorConfig, FileGroup, MaintenanceConfig, Retained, TableMaintenance};
use firn_table::{FileIo, RowOrder, StorageConfig};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::{TableArgs, inspect::print_snapshots, load};
use crate::{connection::ConnectionArgs, duration, failure::usage, output};

/// Arguments of `firn table compact`.
#[derive(clap::Args)]
pub(crate) struct CompactArgs {
    /// Its name, such as bronze.inventory
    table: String,
    /// Rewrite all files, also those that are well as they are
    #[arg(long)]
    all: bool,
    /// Put rows in order: 'sort(host_id, received_at desc)', 'zorder(host_id, received_at)' or none (default: as the table's
    /// property firn.maintenance.order or its sort order says)
    #[arg(long, value_parser = RowOrder::parse)]
    order: Option<RowOrder>,
    /// Groups of files that are rewritten at the same time
    #[arg(long, value_name = "COUNT", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..))]
    parallel: u8,
    /// Only tell what would be rewritten
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Arguments of `firn table expire`.
#[derive(clap::Args)]
pub(crate) struct ExpireArgs {
    /// Its name, such as bronze.inventory
    table: String,
    /// Remove snapshots older than this, such as 7d (default: as the table's properties say)
    #[arg(long, value_name = "AGE", value_parser = duration::parse)]
    older_than: Option<Duration>,
    /// Keep at least this many (default: as the table's properties say)
    #[arg(long, value_name = "COUNT")]
    keep: Option<usize>,
    /// Only tell which would be removed
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Arguments of `firn table retain`.
#[derive(clap::Args)]
pub(crate) struct RetainArgs {
    /// Its name, such as bronze.inventory
    table: String,
    /// Keep rows for so many days (default: as the tenant wants of the table's layer)
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..))]
    days: Option<u32>,
    /// Only tell how many files and rows would go
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

fn maintenance() -> Result<TableMaintenance> {
    maintenance_of(MaintenanceConfig::default())
}

fn maintenance_of(maintenance: MaintenanceConfig) -> Result<TableMaintenance> {
    let config = CompactorConfig {
        holder: format!("firn-table-{}", uuid::Uuid::new_v4().simple()),
        maintenance,
        ..CompactorConfig::default()
    };
    Ok(TableMaintenance::new(config, FileIo::new(StorageConfig::default()))?)
}

/// `firn table health`.
pub(super) async fn health(args: &TableArgs) -> Result<()> {
    let table = load(&args.table, &args.reference, &args.connection).await?;
    let health = maintenance()?.health(&table).await?;
    if args.json {
        return output::json(&health);
    }
    let facts = [
        ("score", format!("{} of 100", health.score)),
        ("files", health.files.to_string()),
        ("small files", health.small_files.to_string()),
        ("files with many deletes", health.worn_files.to_string()),
        ("files to rewrite", health.files_to_rewrite.to_string()),
        ("deleted rows kept", health.deleted_rows.to_string()),
        ("snapshots", health.snapshots.to_string()),
        ("snapshots to expire", health.expirable_snapshots.to_string()),
    ];
    let facts = facts.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
    output::rows(&["what", "value"], facts, "")
}

/// `firn table compact`.
pub(super) async fn compact(args: &CompactArgs) -> Result<()> {
    let table = load(&args.table, "main", &args.connection).await?;
    let config =
        MaintenanceConfig { parallel_rewrites: args.parallel.into(), ..MaintenanceConfig::default() };
    let maintenance = maintenance_of(config)?;
    let maintenance = match args.order.clone() {
        None => maintenance,
        Some(order) => maintenance.in_order(order),
    };
    let groups = maintenance.plan(&table, args.all).await?;
    if args.dry_run {
        return print_plan(&groups, args.json, "nothing is worth a rewrite; --all takes every file");
    }
    let files: usize = groups.iter().map(|group| group.files.len()).sum();
    // Drawn on standard error, and only if that is a terminal.
    let bar = ProgressBar::new(files as u64)
        .with_style(ProgressStyle::with_template("{bar:30} {pos}/{len} files {eta}")?);
    let compacted = maintenance.compact(&table, &groups, |files| bar.inc(files as u64)).await;
    bar.finish_and_clear();
    let compacted = compacted?;
    if args.json {
        output::json(&compacted)?;
    } else {
        print_compacted(&compacted)?;
    }
    let Compacted { failures, untried_groups, .. } = compacted;
    let Some(first) = failures.first() else { return Ok(()) };
    bail!(
        "{} group(s) of files could not be rewritten and {untried_groups} were not tried; they stay as they are: {first}",
        failures.len()
    )
}

fn print_compacted(compacted: &Compacted) -> Result<()> {
    let Compacted { rewritten_files, copied_files, written_files, conflicting_groups, .. } = compacted;
    if *conflicting_groups > 0 {
        output::complain(&format!(
            "{conflicting_groups} group(s) of files were changed by other writers meanwhile and stay as they are: run it again"
        ));
    }
    let copied = match copied_files {
        0 => String::new(),
        copied => format!(" (row groups of {copied} copied as they were)"),
    };
    output::line(&format!("{rewritten_files} files became {written_files}{copied}"))
}

fn print_plan(groups: &[FileGroup], as_json: bool, nothing: &str) -> Result<()> {
    let sizes = groups.iter().map(|group| {
        let rows: u64 = group.files.iter().map(|file| file.record_count).sum();
        let bytes: u64 = group.files.iter().map(|file| file.size_bytes).sum();
        let partition = group.files.first().map(|file| file.partition.clone()).unwrap_or_default();
        (partition, group.files.len(), rows, bytes)
    });
    if as_json {
        let json = |(partition, files, rows, bytes)| json!({"partition": partition, "files": files, "rows": rows, "bytes": bytes});
        return output::json(&sizes.map(json).collect::<Vec<_>>());
    }
    let rows = sizes.map(|(partition, files, rows, bytes)| {
        let partition =
            partition.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ");
        vec![partition, files.to_string(), rows.to_string(), bytes.to_string()]
    });
    output::rows(&["partition", "files", "rows", "bytes"], rows.collect(), nothing)
}

/// `firn table expire`.
pub(super) async fn expire(args: &ExpireArgs) -> Result<()> {
    if args.keep == Some(0) {
        return Err(usage("--keep 0: a table keeps its current snapshot at least"));
    }
    let table = load(&args.table, "main", &args.connection).await?;
    let maintenance = maintenance()?;
    if args.dry_run {
        let snapshots = maintenance.expirable(&table, args.older_than, args.keep).await?;
        return print_snapshots(&snapshots, args.json, "no snapshot is due");
    }
    let expired = maintenance.expire(&table, args.older_than, args.keep).await?;
    if args.json {
        return output::json(&json!({"expired_snapshots": expired}));
    }
    output::line(&format!("{expired} snapshots expired"))
}

/// `firn table retain`.
pub(super) async fn retain(args: &RetainArgs) -> Result<()> {
    let table = load(&args.table, "main", &args.connection).await?;
    let maintenance = maintenance()?;
    if args.dry_run {
        let outdated = maintenance.outdated(&table, args.days).await?;
        if args.json {
            return output::json(&outdated);
        }
        let Retained { removed_files, deleted_rows, .. } = outdated;
        return output::line(&format!("{removed_files} files and {deleted_rows} single rows would go"));
    }
    let retained = maintenance.retain(&table, args.days).await?;
    if args.json {
        return output::json(&retained);
    }
    let Retained { removed_files, deleted_rows, emptied_rows } = retained;
    output::line(&format!(
        "{removed_files} files and {deleted_rows} single rows taken out, values of a class in {emptied_rows} rows"
    ))
}
