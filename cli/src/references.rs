//! `firn branch`, `tag`, `log`, `diff` and `merge`: versions of the lake.

use anyhow::{Context, Result};
use firn_catalog_client::nessie::{ContentKey, DiffEntry, LogEntry, MergeRequest, Reference, TableMerge};

use crate::{connection::ConnectionArgs, failure::usage, output};

/// Subcommands of `firn branch` and `firn tag`.
#[derive(clap::Subcommand)]
pub(crate) enum ReferenceCommand {
    /// List them
    Ls(ConnectionArgs),
    /// Create one
    Create(CreateArgs),
    /// Delete one
    Rm(RemoveArgs),
}

/// Arguments of `create`.
#[derive(clap::Args)]
pub(crate) struct CreateArgs {
    /// Its name
    name: String,
    /// Where it starts: a branch, tag, hash, or Nessie's syntax such as main*2026-11-22T10:00:00Z
    #[arg(long, default_value = "main")]
    from: String,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Arguments of `rm`.
#[derive(clap::Args)]
pub(crate) struct RemoveArgs {
    /// Its name
    name: String,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Arguments of `firn log`.
#[derive(clap::Args)]
pub(crate) struct LogArgs {
    /// Branch, tag or hash
    #[arg(default_value = "main")]
    reference: String,
    /// At most this many commits
    #[arg(short = 'n', long, default_value_t = 20)]
    limit: usize,
    /// Print JSON, operations included
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Arguments of `firn diff`.
#[derive(clap::Args)]
pub(crate) struct DiffArgs {
    /// Two references, as in main..dev
    range: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Arguments of `firn merge`.
#[derive(clap::Args)]
pub(crate) struct MergeArgs {
    /// Branch to merge from
    from: String,
    /// Branch to merge into
    #[arg(long, default_value = "main")]
    into: String,
    /// Message of the merge commit
    #[arg(short, long)]
    message: Option<String>,
    /// Only say what would happen
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Runs `firn branch`.
pub(crate) async fn branch(command: &ReferenceCommand) -> Result<()> {
    match command {
        ReferenceCommand::Ls(connection) => list(connection, false).await,
        ReferenceCommand::Create(args) => {
            let client = args.connection.connect().await?.tenant_client()?;
            print_created("branch", &client.create_branch(&args.name, &args.from).await?)
        }
        ReferenceCommand::Rm(args) => remove(args).await,
    }
}

/// Runs `firn tag`.
pub(crate) async fn tag(command: &ReferenceCommand) -> Result<()> {
    match command {
        ReferenceCommand::Ls(connection) => list(connection, true).await,
        ReferenceCommand::Create(args) => {
            let client = args.connection.connect().await?.tenant_client()?;
            print_created("tag", &client.create_tag(&args.name, &args.from).await?)
        }
        ReferenceCommand::Rm(args) => remove(args).await,
    }
}

/// Runs `firn log`.
pub(crate) async fn log(args: &LogArgs) -> Result<()> {
    let client = args.connection.connect().await?.tenant_client()?;
    let entries = client.log(&args.reference, args.limit, args.json).await?;
    if args.json {
        return output::json(&entries);
    }
    let headings = ["commit", "time", "author", "message"];
    output::rows(&headings, entries.iter().map(log_row).collect(), "no commits")
}

/// Runs `firn diff`.
pub(crate) async fn diff(args: &DiffArgs) -> Result<()> {
    let (from, to) =
        args.range.split_once("..").filter(|(from, to)| !from.is_empty() && !to.is_empty()).ok_or_else(
            || usage(format!("'{}' is no range: write two references, as in main..dev", args.range)),
        )?;
    let client = args.connection.connect().await?.tenant_client()?;
    let entries = client.diff(from, to).await?;
    if args.json {
        return output::json(&entries);
    }
    output::rows(&["change", "key"], entries.iter().map(diff_row).collect(), "no difference")
}

/// Runs `firn merge`.
pub(crate) async fn merge(args: &MergeArgs) -> Result<()> {
    let client = args.connection.connect().await?.tenant_client()?;
    let from = client.reference(&args.from).await?;
    let request = MergeRequest {
        from_ref_name: from.name().to_owned(),
        from_hash: from.hash().to_owned(),
        message: args.message.clone(),
        commit_meta: None,
        dry_run: args.dry_run,
        table_merge: TableMerge::All,
    };
    let merged = client.merge(&args.into, &request).await?;
    let (from, into) = (&args.from, &args.into);
    if args.dry_run {
        let verdict = if merged.was_successful { "would merge" } else { "would conflict" };
        return output::line(&format!("{from} {verdict} into {into}"));
    }
    match merged.resultant_target_hash {
        Some(hash) if merged.was_applied => {
            output::line(&format!("merged {from} into {into}: {into} is at {}", short(&hash)))
        }
        _ => output::line(&format!("nothing to merge: {into} has all of {from}")),
    }
}

async fn list(connection: &ConnectionArgs, tags: bool) -> Result<()> {
    let references = connection.connect().await?.tenant_client()?.references().await?;
    let wanted = references.iter().filter(|reference| matches!(reference, Reference::Tag { .. }) == tags);
    let row = |reference: &Reference| vec![reference.name().to_owned(), short(reference.hash()).to_owned()];
    let nothing = if tags { "no tags" } else { "no branches" };
    output::rows(&["name", "commit"], wanted.map(row).collect(), nothing)
}

async fn remove(args: &RemoveArgs) -> Result<()> {
    let client = args.connection.connect().await?.tenant_client()?;
    client.delete_reference(&args.name).await.with_context(|| format!("deleting '{}'", args.name))?;
    output::line(&format!("deleted {}", args.name))
}

fn print_created(what: &str, reference: &Reference) -> Result<()> {
    output::line(&format!("created {what} {} at {}", reference.name(), short(reference.hash())))
}

fn log_row(entry: &LogEntry) -> Vec<String> {
    let meta = &entry.commit_meta;
    let author = meta.authors.first().or(meta.committer.as_ref()).cloned().unwrap_or_default();
    let hash = meta.hash.as_deref().unwrap_or_default();
    let time = meta.commit_time.as_deref().unwrap_or_default();
    let message = meta.message.lines().next().unwrap_or_default();
    vec![short(hash).to_owned(), to_seconds(time), author, message.to_owned()]
}

fn diff_row(entry: &DiffEntry) -> Vec<String> {
    let change = match (&entry.from, &entry.to) {
        (None, _) => "added",
        (_, None) => "removed",
        _ => "changed",
    };
    vec![change.to_owned(), dotted(&entry.key)]
}

/// A key as people write table names.
pub(crate) fn dotted(key: &ContentKey) -> String {
    key.elements.join(".")
}

/// Enough of a hash to tell it from others.
pub(crate) fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

/// An RFC 3339 instant without its fraction.
pub(crate) fn to_seconds(instant: &str) -> String {
    match (instant.split_once('.'), instant.ends_with('Z')) {
        (Some((whole, _)), true) => format!("{whole}Z"),
        _ => instant.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_forms_keep_odd_input() {
        assert_eq!(short("abc"), "abc");
        assert_eq!(to_seconds("2026-11-22T10:00:00.123456Z"), "2026-11-22T10:00:00Z");
        assert_eq!(to_seconds("not an instant"), "not an instant");
    }

    #[test]
    fn diff_names_the_change() {
        let key = ContentKey { elements: vec!["gold".into(), "t".into()] };
        let some = Some(serde_json::json!({}));
        let row = |from, to| diff_row(&DiffEntry { key: key.clone(), from, to });
        assert_eq!(row(None, some.clone()), ["added", "gold.t"]);
        assert_eq!(row(some.clone(), None), ["removed", "gold.t"]);
        assert_eq!(row(some.clone(), some), ["changed", "gold.t"]);
    }
}
