//! `firn access`: grants beside the roles, and protected branches.

use anyhow::{Result, bail};
use firn_auth::{Action, Grant, Protection};
use firn_catalog_client::{AccessRules, TenantClient};

use crate::{connection::ConnectionArgs, failure::usage, output};

/// Subcommands of `firn access`.
#[derive(clap::Subcommand)]
pub(crate) enum AccessCommand {
    /// Show grants, protected branches and revocations
    Show(ConnectionArgs),
    /// Let a principal do something beside what its role includes
    Grant(GrantArgs),
    /// Take grants of a principal back: all, or those that are as narrow as given
    Ungrant(GrantArgs),
    /// Let a branch take merges of maintainers only
    Protect(ProtectArgs),
    /// End a protection
    Unprotect(ProtectArgs),
}

/// Arguments of `firn access grant` and `ungrant`.
#[derive(clap::Args)]
pub(crate) struct GrantArgs {
    /// Its full name, such as default/etl or corp:ann
    principal: String,
    /// read, write, merge, create-reference, delete-reference or assign-reference; may be given several times
    #[arg(long = "action", value_name = "ACTION")]
    actions: Vec<String>,
    /// On which branches and tags: `*` is any text
    #[arg(long = "on", value_name = "PATTERN")]
    reference: Option<String>,
    /// On which tables, views and namespaces: elements joined by dots, `*` is any one, `**` any number
    #[arg(long, value_name = "PATTERN")]
    key: Option<String>,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Arguments of `firn access protect` and `unprotect`.
#[derive(clap::Args)]
pub(crate) struct ProtectArgs {
    /// Which branches: `*` is any text
    reference: String,
    /// A principal that may commit nevertheless; may be given several times
    #[arg(long = "exempt", value_name = "PRINCIPAL")]
    exempt: Vec<String>,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Runs `firn access`.
pub(crate) async fn run(command: &AccessCommand) -> Result<()> {
    match command {
        AccessCommand::Show(connection) => output::json(&client(connection).await?.access_rules().await?),
        AccessCommand::Grant(args) => grant(args).await,
        AccessCommand::Ungrant(args) => ungrant(args).await,
        AccessCommand::Protect(args) => {
            let protection = Protection { reference: args.reference.clone(), exempt: args.exempt.clone() };
            change(&args.connection, |rules| {
                rules.protections.retain(|old| old.reference != protection.reference);
                rules.protections.push(protection);
                Ok(())
            })
            .await
        }
        AccessCommand::Unprotect(args) => {
            change(&args.connection, |rules| {
                let before = rules.protections.len();
                rules.protections.retain(|old| old.reference != args.reference);
                if rules.protections.len() == before {
                    bail!("there is no protection of '{}': 'firn access show' lists them", args.reference);
                }
                Ok(())
            })
            .await
        }
    }
}

async fn grant(args: &GrantArgs) -> Result<()> {
    let grant = Grant {
        principal: args.principal.clone(),
        actions: actions(&args.actions)?,
        reference: args.reference.clone().unwrap_or_else(|| "*".to_owned()),
        key: args.key.clone().unwrap_or_else(|| "**".to_owned()),
    };
    if grant.actions.is_empty() {
        return Err(usage("say what: --action read, write, merge …"));
    }
    change(&args.connection, |rules| {
        if !rules.grants.contains(&grant) {
            rules.grants.push(grant);
        }
        Ok(())
    })
    .await
}

async fn ungrant(args: &GrantArgs) -> Result<()> {
    let taken = actions(&args.actions)?;
    change(&args.connection, |rules| {
        let before = rules.grants.clone();
        for grant in &mut rules.grants {
            let meant = grant.principal == args.principal
                && args.reference.as_ref().is_none_or(|reference| *reference == grant.reference)
                && args.key.as_ref().is_none_or(|key| *key == grant.key);
            if meant {
                grant.actions.retain(|action| !taken.is_empty() && !taken.contains(action));
            }
        }
        rules.grants.retain(|grant| !grant.actions.is_empty());
        if rules.grants == before {
            bail!("'{}' has no such grant: 'firn access show' lists them", args.principal);
        }
        Ok(())
    })
    .await
}

fn actions(words: &[String]) -> Result<Vec<Action>> {
    let action = |word: &String| {
        let parsed = serde_json::from_value::<Action>(word.as_str().into()).ok();
        parsed.filter(|action| action.is_grantable()).ok_or_else(|| {
            usage(format!(
                "'{word}' can't be granted: read, write, merge, create-reference, delete-reference or \
                 assign-reference"
            ))
        })
    };
    words.iter().map(action).collect()
}

/// Reads the rules, changes them, and puts them back if nobody else did meanwhile.
async fn change(
    connection: &ConnectionArgs,
    edit: impl FnOnce(&mut AccessRules) -> Result<()>,
) -> Result<()> {
    let client = client(connection).await?;
    let mut rules = client.access_rules().await?;
    edit(&mut rules)?;
    output::json(&client.set_access_rules(&rules).await?)
}

async fn client(connection: &ConnectionArgs) -> Result<TenantClient> {
    connection.connect().await?.tenant_client()
}
