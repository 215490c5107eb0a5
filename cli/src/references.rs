//! `firn branch`, `tag`, `log`, `diff`, `show`, `entries` and `merge`: versions of the lake.

mod expiry;

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result};
use firn_catalog_client::{
    TenantClient,
    nessie::{ContentKey, DiffEntry, Entry, LogEntry, MergeRequest, Reference, TableMerge},
};

use crate::{connection::ConnectionArgs, duration, failure::usage, graph, output, revision};

/// Subcommands of `firn branch` and `firn tag`.
#[derive(clap::Subcommand)]
pub(crate) enum ReferenceCommand {
    /// List them
    Ls(ConnectionArgs),
    /// Create one
    Create(CreateArgs),
    /// Delete one
    Rm(RemoveArgs),
    /// Say when one goes by itself, or that it stays; the protected and main never go
    Expire(expiry::ExpireArgs),
    /// Delete the branches and tags whose time is over now, or tell which; the compactor does it by itself
    Prune(expiry::PruneArgs),
}

/// Arguments of `create`.
#[derive(clap::Args)]
pub(crate) struct CreateArgs {
    /// Its name
    name: String,
    /// Where it starts: a branch, tag, commit, or a revision such as main~2 or 'main@{yesterday}'
    #[arg(long, default_value = "main")]
    from: String,
    /// It goes by itself so long from now, such as 30d (default: never)
    #[arg(long, value_name = "AGE", value_parser = duration::parse)]
    expires: Option<Duration>,
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
    /// Branch, tag, commit or revision such as dev~2 or 'dev@{2 hours ago}'; main..dev for what dev has and main has not
    #[arg(default_value = "main")]
    reference: String,
    /// At most this many commits
    #[arg(short = 'n', long, default_value_t = 20)]
    limit: usize,
    /// Draw what was merged, too
    #[arg(long, conflicts_with = "json")]
    graph: bool,
    /// Print JSON, operations included
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Arguments of `firn diff`.
#[derive(clap::Args)]
pub(crate) struct DiffArgs {
    /// Two revisions, as in main..dev or dev~2..dev; an empty one is main
    range: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Arguments of `firn show`.
#[derive(clap::Args)]
pub(crate) struct ShowArgs {
    /// Commit: a branch, tag, hash or revision such as dev~2 or 'dev@{yesterday}'
    #[arg(default_value = "main")]
    revision: String,
    /// Print JSON, contents included
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Arguments of `firn entries`.
#[derive(clap::Args)]
pub(crate) struct EntriesArgs {
    /// Branch, tag, commit or revision such as dev~2 or 'dev@{yesterday}'
    #[arg(default_value = "main")]
    revision: String,
    /// Only what lies in this namespace
    #[arg(long, value_name = "NAMESPACE")]
    prefix: Option<String>,
    /// Print JSON, contents included
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
    references(command, false).await
}

/// Runs `firn tag`.
pub(crate) async fn tag(command: &ReferenceCommand) -> Result<()> {
    references(command, true).await
}

async fn references(command: &ReferenceCommand, tags: bool) -> Result<()> {
    match command {
        ReferenceCommand::Ls(connection) => list(connection, tags).await,
        ReferenceCommand::Create(args) => create(args, tags).await,
        ReferenceCommand::Rm(args) => remove(args).await,
        ReferenceCommand::Expire(args) => expiry::expire(args).await,
        ReferenceCommand::Prune(args) => expiry::prune(args).await,
    }
}

/// Runs `firn log`.
pub(crate) async fn log(args: &LogArgs) -> Result<()> {
    let client = args.connection.connect().await?.tenant_client()?;
    if args.graph {
        if revision::range(&args.reference).is_some() {
            return Err(usage("--graph draws all that one revision reaches, not a range"));
        }
        let revision = revision::resolve(&client, &args.reference).await?;
        return graph::print(&client, &revision, args.limit).await;
    }
    let entries = match revision::range(&args.reference) {
        Some((from, to)) => {
            let (from, to) = (revision::resolve(&client, from).await?, revision::resolve(&client, to).await?);
            revision::log_between(&client, &from, &to, args.limit, args.json).await?
        }
        None => {
            client.log(&revision::resolve(&client, &args.reference).await?, args.limit, args.json).await?
        }
    };
    if args.json {
        return output::json(&entries);
    }
    let headings = ["commit", "time", "author", "message"];
    output::rows(&headings, entries.iter().map(log_row).collect(), "no commits")
}

/// Runs `firn diff`.
pub(crate) async fn diff(args: &DiffArgs) -> Result<()> {
    let (from, to) = revision::range(&args.range).ok_or_else(|| {
        usage(format!("'{}' is no range: write two revisions, as in main..dev", args.range))
    })?;
    let client = args.connection.connect().await?.tenant_client()?;
    let (from, to) = (revision::resolve(&client, from).await?, revision::resolve(&client, to).await?);
    let entries = client.diff(&from, &to).await?;
    if args.json {
        return output::json(&entries);
    }
    output::rows(&["change", "key"], entries.iter().map(diff_row).collect(), "no difference")
}

/// Runs `firn show`.
pub(crate) async fn show(args: &ShowArgs) -> Result<()> {
    let client = args.connection.connect().await?.tenant_client()?;
    let revision = revision::resolve(&client, &args.revision).await?;
    let commit = client.log(&revision, 1, true).await?.into_iter().next();
    let commit = commit.with_context(|| format!("'{}' is before the first commit", args.revision))?;
    if args.json {
        return output::json(&commit);
    }
    let meta = &commit.commit_meta;
    output::line(&format!("commit {}", meta.hash.as_deref().unwrap_or_default()))?;
    if let [_, merged, ..] = meta.parent_commit_hashes.as_slice() {
        output::line(&format!("merges {merged}"))?;
    }
    let author = meta.authors.first().or(meta.committer.as_ref());
    output::line(&format!("author {}", output::plain(author.map_or("", String::as_str))))?;
    output::line(&format!("time   {}", meta.commit_time.as_deref().map(to_seconds).unwrap_or_default()))?;
    output::line("")?;
    for line in meta.message.lines() {
        output::line(&format!("    {}", output::plain(line)))?;
    }
    output::line("")?;
    let operations = commit.operations.unwrap_or_default();
    output::rows(&["change", "type", "key"], operations.iter().map(operation_row).collect(), "no changes")
}

/// Runs `firn entries`.
pub(crate) async fn entries(args: &EntriesArgs) -> Result<()> {
    let client = args.connection.connect().await?.tenant_client()?;
    let revision = revision::resolve(&client, &args.revision).await?;
    let key = |text: &String| ContentKey { elements: text.split('.').map(str::to_owned).collect() };
    let prefix = args.prefix.as_ref().map(key);
    let entries = client.entries(&revision, prefix.as_ref(), args.json).await?;
    if args.json {
        return output::json(&entries);
    }
    let row = |entry: &Entry| vec![kind(&entry.content_type), dotted(&entry.name)];
    output::rows(&["type", "key"], entries.iter().map(row).collect(), "nothing there")
}

/// Runs `firn merge`.
pub(crate) async fn merge(args: &MergeArgs) -> Result<()> {
    let client = args.connection.connect().await?.tenant_client()?;
    let from = client.reference(&revision::resolve(&client, &args.from).await?).await?;
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

async fn create(args: &CreateArgs, tag: bool) -> Result<()> {
    let client = args.connection.connect().await?.tenant_client()?;
    let from = revision::resolve(&client, &args.from).await?;
    let (what, created) = match tag {
        true => ("tag", client.create_tag(&args.name, &from).await?),
        false => ("branch", client.create_branch(&args.name, &from).await?),
    };
    output::line(&format!("created {what} {} at {}", created.name(), short(created.hash())))?;
    match args.expires {
        Some(after) => {
            let at = expiry::set(&client, &args.name, after).await?;
            output::line(&format!("it expires at {at}"))
        }
        None => Ok(()),
    }
}

async fn list(connection: &ConnectionArgs, tags: bool) -> Result<()> {
    let client = connection.connect().await?.tenant_client()?;
    let (references, expiries) = (client.references().await?, expiries(&client).await);
    let wanted = references.iter().filter(|reference| matches!(reference, Reference::Tag { .. }) == tags);
    let row = |reference: &Reference| {
        let expires = expiries.get(reference.name()).cloned().unwrap_or_default();
        vec![reference.name().to_owned(), short(reference.hash()).to_owned(), expires]
    };
    let nothing = if tags { "no tags" } else { "no branches" };
    output::rows(&["name", "commit", "expires"], wanted.map(row).collect(), nothing)
}

/// When references go; nothing is said to who may not read all of the tenant.
async fn expiries(client: &TenantClient) -> BTreeMap<String, String> {
    let expiries = client.expiries().await.unwrap_or_default();
    expiries.into_iter().map(|expiry| (expiry.reference, expiry.expires_at)).collect()
}

async fn remove(args: &RemoveArgs) -> Result<()> {
    let client = args.connection.connect().await?.tenant_client()?;
    client.delete_reference(&args.name).await.with_context(|| format!("deleting '{}'", args.name))?;
    output::line(&format!("deleted {}", args.name))
}

fn log_row(entry: &LogEntry) -> Vec<String> {
    let meta = &entry.commit_meta;
    let author = meta.authors.first().or(meta.committer.as_ref()).cloned().unwrap_or_default();
    let hash = meta.hash.as_deref().unwrap_or_default();
    let time = meta.commit_time.as_deref().unwrap_or_default();
    let message = meta.message.lines().next().unwrap_or_default();
    vec![short(hash).to_owned(), to_seconds(time), author, message.to_owned()]
}

fn operation_row(operation: &serde_json::Value) -> Vec<String> {
    let change = if operation["type"] == "PUT" { "put" } else { "removed" };
    let elements = operation["key"]["elements"].as_array().into_iter().flatten();
    let key: Vec<&str> = elements.filter_map(serde_json::Value::as_str).collect();
    let content_type = operation["content"]["type"].as_str().map(kind).unwrap_or_default();
    vec![change.to_owned(), content_type, key.join(".")]
}

/// Nessie's content type in plain words.
fn kind(content_type: &str) -> String {
    content_type.strip_prefix("ICEBERG_").unwrap_or(content_type).to_lowercase()
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
        let put = serde_json::json!({"type": "PUT", "key": {"elements": ["gold", "t"]}, "content": {"type": "ICEBERG_TABLE"}});
        assert_eq!(operation_row(&put), ["put", "table", "gold.t"]);
        let row = |from, to| diff_row(&DiffEntry { key: key.clone(), from, to });
        assert_eq!(row(None, some.clone()), ["added", "gold.t"]);
        assert_eq!(row(some.clone(), None), ["removed", "gold.t"]);
        assert_eq!(row(some.clone(), some), ["changed", "gold.t"]);
    }
}
