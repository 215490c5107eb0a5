//! `firn policy`.

mod backtest;
mod change;
mod explain;
mod report;
mod source;
mod test;

use std::path::PathBuf;

use anyhow::{Result, bail};
use firn_policy::Policy;

use crate::{connection::ConnectionArgs, output};

/// Subcommands of `firn policy`.
#[derive(clap::Subcommand)]
pub(crate) enum PolicyCommand {
    /// List the tenant's policies
    Ls(ListArgs),
    /// Check policy files: syntax, columns and types
    Check(CheckArgs),
    /// Run the cases of NAME.test.toml (or .yaml) beside each policy file
    Test(test::TestArgs),
    /// Show what files would change of the tenant's policies
    Diff(change::DiffArgs),
    /// Put files into the tenant's policies, on main or a branch
    Apply(change::ApplyArgs),
    /// Show how a policy is read, and what it says of a computer and why
    Explain(explain::ExplainArgs),
    /// Replay history: what would have been found, and how that differs from the present policies
    Backtest(backtest::BacktestArgs),
}

/// Arguments of `firn policy ls`.
#[derive(clap::Args)]
pub(crate) struct ListArgs {
    /// List the policies that come with firn; needs no server
    #[arg(long)]
    shipped: bool,
    /// Branch, tag or hash to read them from
    #[arg(long = "ref", default_value = "main")]
    reference: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Arguments of `firn policy check`.
#[derive(clap::Args)]
pub(crate) struct CheckArgs {
    /// Policy files (TOML), or folders of them
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

/// Runs the client subcommands of `firn policy`.
pub(crate) async fn run(command: &PolicyCommand) -> Result<()> {
    match command {
        PolicyCommand::Ls(args) => list(args).await,
        PolicyCommand::Check(args) => check(args),
        PolicyCommand::Test(args) => test::run(args),
        PolicyCommand::Diff(args) => change::diff(args).await,
        PolicyCommand::Apply(args) => change::apply(args).await,
        PolicyCommand::Explain(args) => explain::run(args).await,
        PolicyCommand::Backtest(args) => backtest::run(args).await,
    }
}

/// Runs those that need no server; `None` for the others.
pub(crate) fn run_offline(command: &PolicyCommand) -> Option<Result<()>> {
    match command {
        PolicyCommand::Check(args) => Some(check(args)),
        PolicyCommand::Test(args) => Some(test::run(args)),
        _ => None,
    }
}

/// Checks files against the inventory's columns; all are read before the first error ends it.
fn check(args: &CheckArgs) -> Result<()> {
    let (mut broken, files) = (0, source::files(&args.files)?);
    for file in &files {
        let shown = file.display().to_string();
        match source::compiled(file)? {
            Ok(rule) => {
                let columns =
                    if rule.columns.is_empty() { "no column".to_owned() } else { rule.columns.join(", ") };
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
        bail!("{broken} of {} policies can't be used", files.len());
    }
    Ok(())
}

async fn list(args: &ListArgs) -> Result<()> {
    let policies = if args.shipped {
        firn_policy::shipped()
    } else {
        let client = args.connection.connect().await?.lake_client()?;
        let present = source::of_tenant(&client, &args.reference).await?;
        present.problems.iter().for_each(|problem| output::complain(problem));
        present.policies
    };
    if args.json {
        return output::json(&policies);
    }
    let row = |policy: &Policy| {
        let severity = policy.severity.as_str().to_owned();
        vec![policy.id.clone(), severity, policy.title.clone(), source::rule_text(policy)]
    };
    output::rows(&["id", "severity", "title", "rule"], policies.iter().map(row).collect(), "no policies yet")
}
