//! `firn tenant`.

mod provision;

use anyhow::{Result, bail};
use firn_catalog_client::{Tenant, TenantCreate};

use crate::{connection::ConnectionArgs, output};

/// Subcommands of `firn tenant`.
#[derive(clap::Subcommand)]
pub(crate) enum TenantCommand {
    /// Create a tenant; one that exists is left as it is
    Create(CreateArgs),
    /// List the tenants
    Ls(ConnectionArgs),
    /// Show one tenant
    Show(ShowArgs),
    /// Make a tenant's bucket on S3 what it should be, or say what it lacks
    Provision(provision::ProvisionArgs),
}

/// Arguments of `firn tenant create`.
#[derive(clap::Args)]
pub(crate) struct CreateArgs {
    /// 1 to 63 of a-z, 0-9 and '-'
    name: String,
    /// Region of its data (default: the server's)
    #[arg(long)]
    region: Option<String>,
    /// A data classification, such as GDPR; may be given several times
    #[arg(long = "classification", value_name = "WORD")]
    classifications: Vec<String>,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Arguments of `firn tenant show`.
#[derive(clap::Args)]
pub(crate) struct ShowArgs {
    /// Its name
    name: String,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Runs `firn tenant`.
pub(crate) async fn run(command: &TenantCommand) -> Result<()> {
    match command {
        TenantCommand::Create(args) => create(args).await,
        TenantCommand::Ls(connection) => list(connection).await,
        TenantCommand::Show(args) => show(args).await,
        TenantCommand::Provision(args) => provision::run(args).await,
    }
}

async fn create(args: &CreateArgs) -> Result<()> {
    let request = TenantCreate {
        name: args.name.clone(),
        region: args.region.clone(),
        classifications: args.classifications.clone(),
    };
    let tenant = args.connection.connect().await?.catalog()?.create_tenant(&request).await?;
    print(&[tenant])
}

async fn list(connection: &ConnectionArgs) -> Result<()> {
    print(&connection.connect().await?.catalog()?.tenants().await?)
}

async fn show(args: &ShowArgs) -> Result<()> {
    let tenants = args.connection.connect().await?.catalog()?.tenants().await?;
    match tenants.iter().find(|tenant| tenant.name == args.name) {
        Some(tenant) => output::json(tenant),
        None => bail!("tenant '{}' does not exist, or your token doesn't reach it", args.name),
    }
}

fn print(tenants: &[Tenant]) -> Result<()> {
    let row = |tenant: &Tenant| {
        let classes = tenant.classifications.join(",");
        let fields = [&tenant.name, &tenant.state, &tenant.region, &classes, &tenant.location];
        fields.into_iter().cloned().collect()
    };
    let headings = ["name", "state", "region", "classifications", "location"];
    output::rows(&headings, tenants.iter().map(row).collect(), "no tenants")
}
