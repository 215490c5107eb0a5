//! `firn client`: those who prove themselves by an id and a secret.

use std::time::Duration;

use anyhow::Result;
use firn_auth::{Role, Scope};
use firn_catalog_client::{ClientCreate, ClientRotate, ClientSecret};

use crate::{connection::ConnectionArgs, output};

/// Subcommands of `firn client`.
#[derive(clap::Subcommand)]
pub(crate) enum ClientCommand {
    /// Create a client; its secret is shown this once
    Create(CreateArgs),
    /// List the clients
    Ls(ConnectionArgs),
    /// Give a client another secret; the former stays good for a while
    Rotate(RotateArgs),
    /// Remove a client; its tokens end, too
    Rm(RemoveArgs),
}

/// Arguments of `firn client create`.
#[derive(clap::Args)]
pub(crate) struct CreateArgs {
    /// 1 to 63 of a-z, 0-9 and '-'
    name: String,
    /// agent, reader, writer, maintainer or admin
    #[arg(long)]
    role: Role,
    /// Let it upload inventories whatever its role
    #[arg(long)]
    uploads: bool,
    /// The only computer it may upload for
    #[arg(long, value_name = "ID")]
    host: Option<String>,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Arguments of `firn client rotate`.
#[derive(clap::Args)]
pub(crate) struct RotateArgs {
    /// Its name
    name: String,
    /// How long the former secret stays good
    #[arg(long, default_value = "24h", value_parser = crate::duration::parse)]
    overlap: Duration,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Arguments of `firn client rm`.
#[derive(clap::Args)]
pub(crate) struct RemoveArgs {
    /// Its name
    name: String,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Runs `firn client`.
pub(crate) async fn run(command: &ClientCommand) -> Result<()> {
    match command {
        ClientCommand::Create(args) => create(args).await,
        ClientCommand::Ls(connection) => list(connection).await,
        ClientCommand::Rotate(args) => {
            let client = args.connection.connect().await?.tenant_client()?;
            let request = ClientRotate { overlap_s: Some(args.overlap.as_secs()) };
            print(&client.rotate_client(&args.name, &request).await?)
        }
        ClientCommand::Rm(args) => {
            args.connection.connect().await?.tenant_client()?.remove_client(&args.name).await?;
            output::line(&format!("removed {}", args.name))
        }
    }
}

async fn create(args: &CreateArgs) -> Result<()> {
    let request = ClientCreate {
        name: args.name.clone(),
        role: args.role,
        scopes: args.uploads.then_some(Scope::InventoryWrite).into_iter().collect(),
        host: args.host.clone(),
    };
    print(&args.connection.connect().await?.tenant_client()?.create_client(&request).await?)
}

async fn list(connection: &ConnectionArgs) -> Result<()> {
    let clients = connection.connect().await?.tenant_client()?.clients().await?;
    let rows = clients.into_iter().map(|client| {
        let scopes: Vec<String> = client.scopes.iter().map(crate::token::scope_name).collect();
        let (role, host) = (client.role.to_string(), client.host.unwrap_or_default());
        vec![client.client_id, role, scopes.join(" "), host, client.secrets.join(", ")]
    });
    output::rows(&["id", "role", "scopes", "host", "secrets made"], rows.collect(), "no clients")
}

fn print(secret: &ClientSecret) -> Result<()> {
    output::json(secret)
}
