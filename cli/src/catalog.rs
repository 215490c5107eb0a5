//! `firn catalog`: upkeep of the catalog.

mod recovery;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use firn_catalog::Catalog;
use firn_catalog_client::{GcReport, GcRequest, GcState};

use crate::{
    connection::ConnectionArgs,
    duration,
    failure::usage,
    output,
    service::{self, ServeArgs},
};

/// Pause between two looks at a running collection.
const POLL: Duration = Duration::from_millis(300);
/// Pause between two tries to migrate.
const MIGRATE_AGAIN: Duration = Duration::from_secs(2);

/// Subcommands of `firn catalog`.
#[derive(clap::Subcommand)]
pub(crate) enum CatalogCommand {
    /// Serve Iceberg REST, Nessie REST and tenants, in a process of its own
    Serve(ServeArgs),
    /// Bring the database's schema up to date, and end
    Migrate(MigrateArgs),
    /// Copy references and commits of tenants into the object store, for a rebuild
    Export(recovery::ExportArgs),
    /// Put tenants back from the object store into an empty database
    Rebuild(recovery::RebuildArgs),
    /// Remove what no branch or tag reaches: commits, metadata, and files of tables
    Gc(GcArgs),
}

/// Arguments of `firn catalog migrate`.
#[derive(clap::Args)]
pub(crate) struct MigrateArgs {
    /// Configuration file
    #[arg(long, value_name = "FILE", env = "FIRN_CONFIG")]
    config: Option<PathBuf>,
    /// How long to wait for a database that is away
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration::parse)]
    wait: Duration,
}

/// Arguments of `firn catalog gc`.
#[derive(clap::Args)]
pub(crate) struct GcArgs {
    /// Only say what would go, and why
    #[arg(long)]
    dry_run: bool,
    /// Keep whatever is younger; at least an hour
    #[arg(long, value_name = "AGE", default_value = "7d", value_parser = duration::parse)]
    safety_age: Duration,
    /// Keep older states of branches and tags only this long (default: for ever)
    #[arg(long, value_name = "AGE", value_parser = duration::parse)]
    keep_history: Option<Duration>,
    /// The same for one branch or tag; may be repeated
    #[arg(long, value_name = "REF=AGE", value_parser = reference_age)]
    keep: Vec<(String, Duration)>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

fn reference_age(text: &str) -> Result<(String, Duration), String> {
    match text.split_once('=') {
        Some((reference, age)) if !reference.is_empty() => Ok((reference.to_owned(), duration::parse(age)?)),
        _ => Err(format!("'{text}' is not of the form REF=AGE, such as dev=30d")),
    }
}

/// Runs `firn catalog`.
pub(crate) async fn run(command: &CatalogCommand) -> Result<()> {
    match command {
        CatalogCommand::Gc(args) => gc(args).await,
        CatalogCommand::Migrate(args) => migrate(args).await,
        CatalogCommand::Export(args) => recovery::export(args).await,
        CatalogCommand::Rebuild(args) => recovery::rebuild(args).await,
        // No client: it runs on threads of its own.
        CatalogCommand::Serve(_) => Ok(()),
    }
}

/// Before a new version is rolled out; the versions before it go on with the new schema meanwhile.
async fn migrate(args: &MigrateArgs) -> Result<()> {
    let settings = service::settings(args.config.as_deref())?;
    if settings.catalog.database_url.is_none() {
        return Err(usage("catalog.database_url: needed to know which database to migrate"));
    }
    let url = settings.database_url(&service::nowhere())?;
    let place = settings.database_place(&service::nowhere());
    let deadline = Instant::now() + args.wait;
    loop {
        match Catalog::migrate(&url).await {
            Ok(schema) => {
                return output::line(&format!("the catalog's database at {place} has schema {schema}"));
            }
            Err(error) if Instant::now() < deadline => {
                output::complain(&format!("not migrated yet, trying again: {error}"));
                tokio::time::sleep(MIGRATE_AGAIN).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

async fn gc(args: &GcArgs) -> Result<()> {
    let client = args.connection.connect().await?.tenant_client()?;
    let history_of = args.keep.iter().map(|(reference, age)| (reference.clone(), age.as_secs()));
    let request = GcRequest {
        dry_run: args.dry_run,
        safety_age_s: Some(args.safety_age.as_secs()),
        history_s: args.keep_history.map(|age| age.as_secs()),
        history_of: history_of.collect::<BTreeMap<_, _>>(),
    };
    let started = client.start_gc(&request).await?;
    let report = loop {
        let run = client.last_gc().await?;
        match (run.state, run.report) {
            _ if run.id != started.id => bail!("another garbage collection was started meanwhile"),
            (GcState::Running, _) => tokio::time::sleep(POLL).await,
            (GcState::Done, Some(report)) => break report,
            _ => bail!("garbage collection failed: {}", run.error.unwrap_or_default()),
        }
    };
    if args.json {
        return output::json(&report);
    }
    print(&report)
}

fn print(report: &GcReport) -> Result<()> {
    let rows =
        report.removed.iter().map(|file| vec![size(file.bytes), file.reason.clone(), file.location.clone()]);
    output::rows(&["size", "why", "file"], rows.collect(), "no file to remove")?;
    let listed = report.removed.len() as u64;
    if report.files_removed > listed {
        output::line(&format!("… and {} more", report.files_removed - listed))?;
    }
    let verb = if report.dry_run { "would remove" } else { "removed" };
    output::line(&format!(
        "{verb} {} files ({}) and {} objects of the database ({})",
        report.files_removed,
        size(report.bytes_removed),
        report.objects_removed,
        size(report.object_bytes_removed)
    ))?;
    output::line(&format!(
        "kept {} files and {} objects for {} states of {} branches and tags; {} files are too young to judge, {} are no table's",
        report.files_kept,
        report.objects_kept,
        report.states_kept,
        report.references,
        report.files_young,
        report.files_foreign
    ))?;
    for file in &report.unreadable {
        output::complain(&format!(
            "can't be read, so no file was removed: {}: {}",
            file.location, file.reason
        ));
    }
    Ok(())
}

/// Bytes in words.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_ages_are_as_people_write_them() {
        assert_eq!(
            [size(0), size(999), size(1_500), size(2_000_000_000)],
            ["0 B", "999 B", "1.5 KB", "2.0 GB"]
        );
        assert_eq!(reference_age("a/b=30d"), Ok(("a/b".to_owned(), Duration::from_secs(30 * 86_400))));
        assert!(reference_age("dev").is_err() && reference_age("=1d").is_err());
    }
}
