//! `firn token`.

use std::time::Duration;

use anyhow::{Context, Result};
use firn_auth::{Role, Scope};
use firn_catalog_client::{RevocationRequest, TokenRequest};

use crate::{connection::ConnectionArgs, output};

/// Subcommands of `firn token`.
#[derive(clap::Subcommand)]
pub(crate) enum TokenCommand {
    /// Issue a token of the tenant; prints it alone on standard output, and its id on standard error
    Issue(IssueArgs),
    /// Refuse a token, or all tokens of a principal that were issued until now
    Revoke(RevokeArgs),
}

/// Arguments of `firn token issue`.
#[derive(clap::Args)]
pub(crate) struct IssueArgs {
    /// Whom it is for: 1 to 63 of a-z, 0-9 and '-'
    subject: String,
    /// agent, reader, writer, maintainer or admin
    #[arg(long)]
    role: Role,
    /// Let its holder upload inventories whatever the role
    #[arg(long)]
    uploads: bool,
    /// The only computer its holder may upload for
    #[arg(long, value_name = "ID")]
    host: Option<String>,
    /// How long it is valid, a day at most
    #[arg(long, default_value = "1h", value_parser = crate::duration::parse)]
    ttl: Duration,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Arguments of `firn token revoke`.
#[derive(clap::Args)]
#[group(id = "what", required = true, multiple = false, args = ["id", "principal", "token_file"])]
pub(crate) struct RevokeArgs {
    /// A token's id
    #[arg(long)]
    id: Option<String>,
    /// A principal, such as default/berlin or corp:ann
    #[arg(long, value_name = "NAME")]
    principal: Option<String>,
    /// A file that holds the token
    #[arg(long, value_name = "FILE")]
    token_file: Option<std::path::PathBuf>,
    /// In all tenants, as an operator
    #[arg(long)]
    everywhere: bool,
    /// Why
    #[arg(long, default_value = "")]
    reason: String,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Runs `firn token`.
pub(crate) async fn run(command: &TokenCommand) -> Result<()> {
    match command {
        TokenCommand::Issue(args) => issue(args).await,
        TokenCommand::Revoke(args) => revoke(args).await,
    }
}

async fn issue(args: &IssueArgs) -> Result<()> {
    let request = TokenRequest {
        subject: args.subject.clone(),
        role: args.role,
        scopes: args.uploads.then_some(Scope::InventoryWrite).into_iter().collect(),
        host: args.host.clone(),
        ttl_s: Some(args.ttl.as_secs()),
    };
    let issued = args.connection.connect().await?.tenant_client()?.issue_token(&request).await?;
    output::complain(&format!("id {}, valid until {}", issued.id, issued.expires_at));
    output::line(&issued.token)
}

async fn revoke(args: &RevokeArgs) -> Result<()> {
    let token = match &args.token_file {
        Some(path) => {
            let text =
                std::fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))?;
            Some(text.trim().to_owned())
        }
        None => None,
    };
    let request = RevocationRequest {
        token,
        id: args.id.clone(),
        principal: args.principal.clone(),
        reason: args.reason.clone(),
    };
    let connection = args.connection.connect().await?;
    let revocation = match args.everywhere {
        true => connection.catalog()?.revoke(&request).await?,
        false => connection.tenant_client()?.revoke(&request).await?,
    };
    output::json(&revocation)
}

/// A scope as tokens write it.
pub(crate) fn scope_name(scope: &Scope) -> String {
    serde_json::to_value(scope).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
}
