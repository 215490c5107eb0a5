//! `firn env`: what shells and programs need to talk to a running server.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use firn_auth::{Claims, Role, TenantName};

use crate::{
    connection::{Connection, ConnectionArgs, FIRST_TENANT},
    failure::usage,
    output, service, tls,
};

/// Arguments of `firn env`.
#[derive(clap::Args)]
pub(crate) struct EnvArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Configuration of a server whose services run by themselves: its signing key mints, `server.public_url` or --url is
    /// where it is
    #[arg(long, value_name = "FILE", conflicts_with = "data_dir")]
    config: Option<PathBuf>,
    /// How long the tokens are valid
    #[arg(long, default_value = "24h", value_parser = crate::duration::parse)]
    ttl: Duration,
    /// Print JSON instead of shell commands
    #[arg(long)]
    json: bool,
}

/// Mints fresh tokens with the key of the server's data directory and prints them.
pub(crate) async fn run(args: &EnvArgs) -> Result<()> {
    let connection = match &args.config {
        Some(file) => of_services(file, &args.connection)?,
        None => {
            // Tokens are minted, never passed through: a URL or token of the environment is not meant here.
            let local = ConnectionArgs { url: None, token: None, ..args.connection.clone() };
            local.connect().await?
        }
    };
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
    let mut variables = vec![
        ("FIRN_URL", connection.url.clone()),
        ("FIRN_TENANT", tenant.to_string()),
        ("FIRN_TOKEN", key.sign(&admin)),
        ("FIRN_OPERATOR_TOKEN", key.sign(&operator)),
    ];
    variables.extend(tls::variables(&connection.tls));
    if args.json {
        return output::json(&BTreeMap::from_iter(variables));
    }
    let exports: Vec<_> = variables.iter().map(|(name, value)| format!("export {name}='{value}'")).collect();
    output::line(&exports.join("\n"))
}

/// The services that this configuration is of.
fn of_services(file: &Path, args: &ConnectionArgs) -> Result<Connection> {
    let settings = service::settings(Some(file))?;
    let url = args.url.as_ref().or(settings.server.public_url.as_ref());
    let url = url.ok_or_else(|| usage("--url: needed, since server.public_url isn't set"))?;
    let tenant = args.tenant.clone().unwrap_or_else(|| FIRST_TENANT.to_owned());
    let tls = args.tls.install(&settings.tls)?;
    Connection::with_key(url, tenant, service::signing_key(&settings)?, tls)
}
