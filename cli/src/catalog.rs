//! `firn catalog`: upkeep of the catalog.

mod recovery;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Result;
use firn_catalog::Catalog;
use firn_catalog_client::GcReport;

use crate::{
    collection::{self, KeepArgs, size},
    connection::ConnectionArgs,
    duration,
    failure::usage,
    output,
    service::{self, ServeArgs},
};

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
    #[command(flatten)]
    keep: KeepArgs,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
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
    let report = collection::run(&client, &args.keep.request(args.dry_run)).await?;
    if args.json {
        return output::json(&report);
    }
    print(&report)
}

fn print(report: &GcReport) -> Result<()> {
    collection::print_files(report)?;
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
    collection::print_obstacles(report)
}
