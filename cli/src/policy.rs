//! `firn policy`.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use firn_policy::Policy;
use firn_table::{FileIo, ReferenceSpec, StorageConfig, lake_session};

use crate::{connection::ConnectionArgs, findings, output};

/// A tenant's rules are few.
const MEMORY_BYTES: usize = 64 << 20;

/// Subcommands of `firn policy`.
#[derive(clap::Subcommand)]
pub(crate) enum PolicyCommand {
    /// List the tenant's policies
    Ls(ListArgs),
    /// Check a policy file: syntax, columns and types
    Check(CheckArgs),
}

/// Arguments of `firn policy ls`.
#[derive(clap::Args)]
pub(crate) struct ListArgs {
    /// List the policies that come with firn; needs no server
    #[arg(long)]
    shipped: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Arguments of `firn policy check`.
#[derive(clap::Args)]
pub(crate) struct CheckArgs {
    /// Policy files (TOML)
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

/// Runs the client subcommands of `firn policy`.
pub(crate) async fn run(command: &PolicyCommand) -> Result<()> {
    match command {
        PolicyCommand::Ls(args) => list(args).await,
        PolicyCommand::Check(args) => check(args),
    }
}

/// Checks files against the inventory's columns; all are read before the first error ends it.
pub(crate) fn check(args: &CheckArgs) -> Result<()> {
    let schema = firn_inventory::bronze_schema();
    let mut broken = 0;
    for file in &args.files {
        let shown = file.display().to_string();
        let text = std::fs::read_to_string(file).with_context(|| format!("can't read {shown}"))?;
        let compiled =
            firn_policy::parse(&text, &shown).and_then(|policy| firn_policy::compile(&policy, &schema));
        match compiled {
            Ok(rule) => {
                let columns = rule.columns.join(", ");
                output::line(&format!(
                    "{shown}: {} is fine, revision {}, reads {columns}",
                    rule.policy.id, rule.revision
                ))?;
            }
            Err(error) => {
                broken += 1;
                output::complain(&format!("{shown}: {error}"));
            }
        }
    }
    if broken > 0 {
        bail!("{broken} of {} policies can't be used", args.files.len());
    }
    Ok(())
}

async fn list(args: &ListArgs) -> Result<()> {
    let policies = if args.shipped { firn_policy::shipped() } else { of_tenant(&args.connection).await? };
    if args.json {
        return output::json(&policies);
    }
    let row = |policy: &Policy| {
        let severity = findings::severity(policy.severity).to_owned();
        vec![policy.id.clone(), severity, policy.title.clone(), policy.rule.clone()]
    };
    output::rows(&["id", "severity", "title", "rule"], policies.iter().map(row).collect(), "no policies yet")
}

async fn of_tenant(connection: &ConnectionArgs) -> Result<Vec<Policy>> {
    let client = connection.connect().await?.tenant_client()?;
    let main = ReferenceSpec { reference: "main".to_owned() };
    let session = lake_session(&client, &FileIo::new(StorageConfig::default()), &main, MEMORY_BYTES).await?;
    let (namespace, name) = firn_inventory::tables::POLICY_RULES;
    let frame = session.sql(&format!("SELECT * FROM {namespace}.{name} ORDER BY id")).await;
    let batches = frame.context("reading the tenant's policies")?.collect().await?;
    let mut policies = Vec::new();
    for rule in firn_policy::rules_from_batches(&batches) {
        match rule {
            Ok(policy) => policies.push(policy),
            Err(error) => output::complain(&format!("{error}")),
        }
    }
    Ok(policies)
}
