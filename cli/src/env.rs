//! `firn env`: what shells and programs need to talk to a running server.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, bail};
use firn_auth::{Claims, Role, TenantName};

use crate::{connection::ConnectionArgs, failure::usage, output};

/// Arguments of `firn env`.
#[derive(clap::Args)]
pub(crate) struct EnvArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// How long the tokens are valid
    #[arg(long, default_value = "24h", value_parser = crate::duration::parse)]
    ttl: Duration,
    /// Print JSON instead of shell commands
    #[arg(long)]
    json: bool,
}

/// Mints fresh tokens with the key of the server's data directory and prints them.
pub(crate) async fn run(args: &EnvArgs) -> Result<()> {
    // Tokens are minted, never passed through: a URL or token of the environment is not meant here.
    let local = ConnectionArgs { url: None, token: None, ..args.connection.clone() };
    let connection = local.connect().await?;
    let Some(key) = &connection.signing_key else {
        bail!("only the machine that runs the server can mint tokens: run 'firn env' there");
    };
    let tenant: TenantName = connection.tenant.parse().map_err(|error| usage(format!("{error}")))?;
    let known = connection.catalog()?.tenants().await.context("asking for the tenants")?;
    if !known.iter().any(|known| known.name == tenant.as_str()) {
        let names: Vec<_> = known.iter().map(|tenant| tenant.name.as_str()).collect();
        bail!(
            "tenant '{tenant}' does not exist (there are {}): 'firn tenant create {tenant}'",
            names.join(", ")
        );
    }
    let admin = Claims {
        tenants: BTreeMap::from([(tenant.clone(), Role::Admin)]),
        ..Claims::new(&format!("admin:{tenant}"), args.ttl)
    };
    let operator = Claims { operator: true, ..Claims::new("operator", args.ttl) };
    let variables = [
        ("FIRN_URL", connection.url.clone()),
        ("FIRN_TENANT", tenant.to_string()),
        ("FIRN_TOKEN", key.sign(&admin)),
        ("FIRN_OPERATOR_TOKEN", key.sign(&operator)),
    ];
    if args.json {
        return output::json(&BTreeMap::from(variables));
    }
    let exports: Vec<_> = variables.iter().map(|(name, value)| format!("export {name}='{value}'")).collect();
    output::line(&exports.join("\n"))
}
