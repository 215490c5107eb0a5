//! `firn policy diff` and `firn policy apply`.

use std::{
    collections::BTreeMap,
    io::{BufRead, IsTerminal},
    path::PathBuf,
};

use anyhow::{Context, Result, bail};
use firn_catalog_client::{ClientErrorKind, TenantClient, iceberg::TableIdent};
use firn_inventory::tables::POLICY_RULES;
use firn_policy::{Policy, RULES_SEEDED_PROPERTY, rules_schema, rules_to_batch};
use firn_table::{
    DataFileWriter, FileIo, NewTable, Operation, StorageConfig, TableOperation, Transaction, WriteOptions,
    ensure_table,
};

use super::{backtest, source};
use crate::{connection::ConnectionArgs, failure::usage, output};

/// More new findings than this are not opened without a yes.
const MANY_FINDINGS: u64 = 1_000;

/// Arguments of `firn policy diff`.
#[derive(clap::Args)]
pub(crate) struct DiffArgs {
    /// Policy files (TOML), or folders of them
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Branch, tag or hash to compare with
    #[arg(long = "ref", default_value = "main")]
    reference: String,
    /// Take the files for all there is to be: others of the tenant are removed
    #[arg(long)]
    prune: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Arguments of `firn policy apply`.
#[derive(clap::Args)]
pub(crate) struct ApplyArgs {
    /// Policy files (TOML), or folders of them
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Branch to put them on; made from main if it is not there. Findings follow main alone: merge it to have them judge
    #[arg(long, default_value = "main")]
    branch: String,
    /// Take the files for all there is to be: others of the tenant are removed, and their findings end
    #[arg(long)]
    prune: bool,
    /// Don't ask, however many findings would open
    #[arg(long)]
    yes: bool,
    /// Days of history that tell how many findings would open; 0 asks nothing
    #[arg(long, value_name = "DAYS", default_value_t = 7)]
    backtest_days: u32,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// One policy's change.
#[derive(Debug, PartialEq, serde::Serialize)]
#[serde(tag = "change", rename_all = "lowercase")]
pub(super) enum Change {
    Added { id: String },
    Changed { id: String, fields: Vec<Field> },
    Removed { id: String },
}

/// A field before and after.
#[derive(Debug, PartialEq, serde::Serialize)]
pub(super) struct Field {
    name: String,
    before: serde_json::Value,
    after: serde_json::Value,
}

/// What `files` make of `present`: the changes, and all policies afterwards.
pub(super) fn plan(
    present: &[Policy],
    files: Vec<Policy>,
    prune: bool,
) -> Result<(Vec<Change>, Vec<Policy>)> {
    let before: BTreeMap<&str, &Policy> = present.iter().map(|policy| (policy.id.as_str(), policy)).collect();
    let mut after: BTreeMap<String, Policy> = BTreeMap::new();
    if !prune {
        after.extend(present.iter().map(|policy| (policy.id.clone(), policy.clone())));
    }
    after.extend(files.into_iter().map(|policy| (policy.id.clone(), policy)));
    let mut changes = Vec::new();
    for (id, policy) in &after {
        match before.get(id.as_str()) {
            None => changes.push(Change::Added { id: id.clone() }),
            Some(known) if *known == policy => {}
            Some(known) => changes.push(Change::Changed { id: id.clone(), fields: fields(known, policy)? }),
        }
    }
    let gone = before.keys().filter(|id| !after.contains_key(**id));
    changes.extend(gone.map(|id| Change::Removed { id: (*id).to_owned() }));
    Ok((changes, after.into_values().collect()))
}

fn fields(before: &Policy, after: &Policy) -> Result<Vec<Field>> {
    let (before, after) = (serde_json::to_value(before)?, serde_json::to_value(after)?);
    let names = before.as_object().into_iter().chain(after.as_object()).flat_map(serde_json::Map::keys);
    let names: std::collections::BTreeSet<&String> = names.collect();
    let differs = names.into_iter().filter(|name| before.get(*name) != after.get(*name));
    let field = |name: &String| Field {
        name: name.clone(),
        before: before.get(name).cloned().unwrap_or_default(),
        after: after.get(name).cloned().unwrap_or_default(),
    };
    Ok(differs.map(field).collect())
}

fn show(changes: &[Change]) -> Result<()> {
    if changes.is_empty() {
        return output::line("nothing differs");
    }
    for change in changes {
        match change {
            Change::Added { id } => output::line(&format!("+ {id}"))?,
            Change::Removed { id } => output::line(&format!("- {id}: its findings end"))?,
            Change::Changed { id, fields } => {
                output::line(&format!("~ {id}"))?;
                for Field { name, before, after } in fields {
                    output::line(&format!("    {name}: {before} -> {after}"))?;
                }
            }
        }
    }
    Ok(())
}

/// Runs `firn policy diff`.
pub(super) async fn diff(args: &DiffArgs) -> Result<()> {
    let files = source::policies(&args.files)?;
    let client = args.connection.connect().await?.lake_client()?;
    let present = source::of_tenant(&client, &args.reference).await?;
    present.problems.iter().for_each(|problem| output::complain(problem));
    let (changes, _) = plan(&present.policies, files, args.prune)?;
    if args.json { output::json(&changes) } else { show(&changes) }
}

/// Runs `firn policy apply`.
pub(super) async fn apply(args: &ApplyArgs) -> Result<()> {
    let files = source::policies(&args.files)?;
    let client = args.connection.connect().await?.lake_client()?;
    ensure_branch(&client, &args.branch).await?;
    let file_io = FileIo::new(StorageConfig::default());
    let (namespace, name) = POLICY_RULES;
    let new = NewTable {
        ident: TableIdent::new(namespace, name),
        schema: rules_schema(),
        partitioning: Vec::new(),
        properties: BTreeMap::new(),
    };
    let table = ensure_table(&client, &file_io, &args.branch, &new).await?;
    let present = source::read(&table).await?;
    if !present.problems.is_empty() && !args.prune {
        bail!(
            "rows of the tenant's policies can't be read, and would be lost: {}; mend them, or --prune",
            present.problems.join("; ")
        );
    }
    let (changes, after) = plan(&present.policies, files, args.prune)?;
    show(&changes)?;
    let seeded = table.properties().contains_key(RULES_SEEDED_PROPERTY);
    if changes.is_empty() && seeded {
        return Ok(());
    }
    if args.backtest_days > 0 {
        confirm(args, &client, &present.policies, &after).await?;
    }
    let mut writer = DataFileWriter::new(&table, WriteOptions::default())?;
    writer.write(&rules_to_batch(&after)).await?;
    let add = writer.close().await?;
    let operation = TableOperation {
        table: table.ident().clone(),
        operation: Operation::Overwrite { remove: None, add, base_snapshot_id: Some(present.snapshot_id) },
        summary: BTreeMap::new(),
        assert_properties: BTreeMap::new(),
        set_properties: BTreeMap::from([(RULES_SEEDED_PROPERTY.to_owned(), "true".to_owned())]),
    };
    let transaction =
        Transaction { reference: args.branch.clone(), operations: vec![operation], max_attempts: 3 };
    transaction
        .commit(&client, &file_io)
        .await
        .context("somebody changed the policies meanwhile: try again")?;
    let next = if args.branch == "main" {
        String::new()
    } else {
        format!("; 'firn merge {}' puts them in force", args.branch)
    };
    output::line(&format!("{} policies on {}, {} changed{next}", after.len(), args.branch, changes.len()))
}

async fn ensure_branch(client: &TenantClient, branch: &str) -> Result<()> {
    match client.reference(branch).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind == ClientErrorKind::NotFound => {
            client.create_branch(branch, "main").await?;
            output::line(&format!("created branch {branch} from main"))
        }
        Err(error) => Err(error.into()),
    }
}

/// Says how many findings would have opened, and asks if they are many.
async fn confirm(args: &ApplyArgs, client: &TenantClient, before: &[Policy], after: &[Policy]) -> Result<()> {
    let days = i64::from(args.backtest_days);
    let span = backtest::Span::last(chrono::TimeDelta::days(days));
    let Some(compared) = backtest::compare(client, before, after, &span).await? else { return Ok(()) };
    let count = compared.new_findings();
    output::line(&format!("over the last {days} days {count} findings would have opened that did not"))?;
    if count <= MANY_FINDINGS || args.yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(usage(format!(
            "{count} new findings are more than {MANY_FINDINGS}: --yes if that is meant"
        )));
    }
    output::complain("Put them in force? [y/N]");
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if !matches!(answer.trim(), "y" | "yes") {
        bail!("nothing was changed");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn policy(id: &str, rule: &str) -> Policy {
        let toml = format!("id='{id}'\ntitle='T'\nseverity='low'\nrule='{rule}'");
        firn_policy::parse(&toml, "t.toml").unwrap()
    }

    #[test]
    fn plan_adds_changes_and_removes_only_when_pruning() {
        let present = [policy("a", "disk_encrypted"), policy("b", "tpm_present")];
        let files = || vec![policy("a", "NOT disk_encrypted"), policy("c", "secure_boot")];
        let (changes, after) = plan(&present, files(), false).unwrap();
        let changed = Field {
            name: "rule".into(),
            before: "disk_encrypted".into(),
            after: "NOT disk_encrypted".into(),
        };
        let changed = Change::Changed { id: "a".into(), fields: vec![changed] };
        assert_eq!(changes, [changed, Change::Added { id: "c".into() }]);
        let ids: Vec<_> = after.iter().map(|policy| policy.id.as_str()).collect();
        assert_eq!(ids, ["a", "b", "c"]);
        let (changes, after) = plan(&present, files(), true).unwrap();
        assert_eq!((changes.last(), after.len()), (Some(&Change::Removed { id: "b".into() }), 2));
        assert!(plan(&present, present.to_vec(), true).unwrap().0.is_empty());
    }
}
