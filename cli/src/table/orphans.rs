//! `firn table orphans`: files in a table's folder that no kept state of any branch or tag needs.

use anyhow::Result;
use firn_catalog_client::GcTable;

use super::ident;
use crate::{
    collection::{self, KeepArgs, size},
    connection::ConnectionArgs,
    output,
};

/// Arguments of `firn table orphans`.
#[derive(clap::Args)]
pub(crate) struct OrphansArgs {
    /// Its name, such as bronze.inventory
    table: String,
    /// Branch, tag or hash where the table has that name; what other references need stays in any case
    #[arg(long = "ref", default_value = "main")]
    reference: String,
    /// Remove the files; without it they are only listed
    #[arg(long)]
    remove: bool,
    /// Another folder of which all files are this table's, such as that of write.data.path; may be repeated
    #[arg(long = "folder", value_name = "LOCATION")]
    folders: Vec<String>,
    #[command(flatten)]
    keep: KeepArgs,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Runs `firn table orphans`.
pub(super) async fn orphans(args: &OrphansArgs) -> Result<()> {
    let ident = ident(&args.table)?;
    let client = args.connection.connect().await?.tenant_client()?;
    let table = GcTable { ident, reference: args.reference.clone(), folders: args.folders.clone() };
    let mut request = args.keep.request(!args.remove);
    request.table = Some(table);
    let report = collection::run(&client, &request).await?;
    if args.json {
        return output::json(&report);
    }
    collection::print_files(&report)?;
    let (verb, hint) = if report.dry_run { ("found", "; --remove removes them") } else { ("removed", "") };
    let hint = if report.files_removed > 0 { hint } else { "" };
    output::line(&format!(
        "{verb} {} files ({}){hint}; {} are needed, {} too young to judge",
        report.files_removed,
        size(report.bytes_removed),
        report.files_kept,
        report.files_young
    ))?;
    collection::print_obstacles(&report)
}
