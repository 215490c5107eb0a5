//! `firn policy backtest`: history replayed with the candidates and with the present policies.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use anyhow::{Context, Result, bail};
use arrow::array::RecordBatch;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use datafusion::{
    logical_expr::Expr,
    prelude::{col, lit},
};
use firn_alerts::History;
use firn_catalog_client::TenantClient;
use firn_inventory::bronze_schema;
use firn_policy::{Backtest, CompiledRule, Episode, Findings, Policy, Verdict, compile};
use firn_table::{FileIo, StorageConfig};

use super::{change, report, source};
use crate::{connection::ConnectionArgs, failure::usage, output};

/// Arguments of `firn policy backtest`.
#[derive(clap::Args)]
pub(crate) struct BacktestArgs {
    /// Candidates: policy files (TOML), or folders of them
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// First instant of receipt, such as 2026-11-01T00:00:00Z; 30 days before --to if absent
    #[arg(long, value_name = "INSTANT")]
    from: Option<DateTime<Utc>>,
    /// End of time; now if absent
    #[arg(long, value_name = "INSTANT")]
    to: Option<DateTime<Utc>>,
    /// Take the candidates for all policies there are to be
    #[arg(long)]
    prune: bool,
    /// Write a report with charts
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Fail if more findings would have opened than did
    #[arg(long, value_name = "COUNT")]
    max_new_findings: Option<u64>,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// A stretch of receipt time, microseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from_us: i64,
    pub(super) to_us: i64,
}

impl Span {
    /// Up to now.
    pub(super) fn last(length: TimeDelta) -> Self {
        let now = Utc::now();
        Self { from_us: (now - length).timestamp_micros(), to_us: now.timestamp_micros() }
    }
}

/// The same history under both sets of rules; rules that both have are not in it.
#[derive(Debug, Default)]
pub(super) struct Compared {
    pub(super) before: Findings,
    pub(super) after: Findings,
}

impl Compared {
    /// Findings that would have opened and did not.
    pub(super) fn new_findings(&self) -> u64 {
        only(&self.after.episodes, &self.before.episodes).count() as u64
    }

    /// Findings that did open and would not have.
    pub(super) fn gone_findings(&self) -> u64 {
        only(&self.before.episodes, &self.after.episodes).count() as u64
    }
}

/// Episodes that overlap none of the others of the same host and rule.
pub(super) fn only<'a>(of: &'a [Episode], others: &'a [Episode]) -> impl Iterator<Item = &'a Episode> {
    let mut known: BTreeMap<(&str, &str), Vec<&Episode>> = BTreeMap::new();
    for other in others {
        known.entry((&other.host_id, &other.rule_id)).or_default().push(other);
    }
    let end = |episode: &Episode| episode.resolved_us.unwrap_or(i64::MAX);
    of.iter().filter(move |episode| {
        let same = known.get(&(episode.host_id.as_str(), episode.rule_id.as_str()));
        !same
            .into_iter()
            .flatten()
            .any(|other| other.opened_us < end(episode) && episode.opened_us < end(other))
    })
}

/// Runs `firn policy backtest`.
pub(super) async fn run(args: &BacktestArgs) -> Result<()> {
    let files = source::policies(&args.files)?;
    let to = args.to.unwrap_or_else(Utc::now);
    let from = args.from.unwrap_or(to - TimeDelta::days(30));
    if from >= to {
        return Err(usage(format!("--from {from} is not before --to {to}")));
    }
    let span = Span { from_us: from.timestamp_micros(), to_us: to.timestamp_micros() };
    let client = args.connection.connect().await?.lake_client()?;
    let present = source::of_tenant(&client, "main").await?;
    let (_, after) = change::plan(&present.policies, files, args.prune)?;
    let Some(compared) = compare(&client, &present.policies, &after, &span).await? else {
        bail!("silver.inventory isn't there yet: nothing was received, or it was not promoted");
    };
    let summary = report::summary(&compared, &span);
    if let Some(file) = &args.html {
        let titles = after.iter().map(|policy| (policy.id.clone(), policy.title.clone())).collect();
        std::fs::write(file, report::html(&compared, &span, &titles))
            .with_context(|| format!("can't write {}", file.display()))?;
    }
    if args.json {
        output::json(&summary)?;
    } else {
        report::print(&compared)?;
    }
    let count = compared.new_findings();
    match args.max_new_findings {
        Some(most) if count > most => bail!("{count} new findings, more than the {most} allowed"),
        _ => Ok(()),
    }
}

/// Replays history with the rules that differ. `None` if there is no history.
pub(super) async fn compare(
    client: &TenantClient,
    before: &[Policy],
    after: &[Policy],
    span: &Span,
) -> Result<Option<Compared>> {
    // One that can't be compiled judges nothing today; `diff` and `apply` say so.
    let compiled = |policies: &[Policy]| -> BTreeMap<String, CompiledRule> {
        let rules = policies.iter().filter_map(|policy| compile(policy, &bronze_schema()).ok());
        rules.map(|rule| (rule.revision.clone(), rule)).collect()
    };
    let (mut before, mut after) = (compiled(before), compiled(after));
    let same: BTreeSet<String> =
        before.keys().filter(|revision| after.contains_key(*revision)).cloned().collect();
    before.retain(|revision, _| !same.contains(revision));
    after.retain(|revision, _| !same.contains(revision));
    let Some(history) = history(client, None, span).await? else { return Ok(None) };
    let sets: [Vec<CompiledRule>; 2] = [before, after].map(|rules| rules.into_values().collect());
    let mut found = history.replay(&sets, span.to_us).await?.into_iter();
    let (before, after) = (found.next().unwrap_or_default(), found.next().unwrap_or_default());
    Ok(Some(Compared { before, after }))
}

/// What a rule says of one computer over its history.
pub(super) struct HostHistory {
    pub(super) newest: Option<Newest>,
    pub(super) found: Findings,
}

/// A computer's newest record.
pub(super) struct Newest {
    pub(super) received_us: i64,
    pub(super) verdict: Verdict,
    pub(super) evidence: serde_json::Value,
}

/// Replays one computer, by id or name.
pub(super) async fn history_of(
    client: &TenantClient,
    rule: &CompiledRule,
    host: &str,
    span: &Span,
) -> Result<Option<HostHistory>> {
    let mut backtest = Backtest::new(vec![rule.clone()], span.to_us);
    let wanted = col("host_id").eq(lit(host)).or(col("hostname").eq(lit(host)));
    let Some(history) = history(client, Some(wanted), span).await? else { return Ok(None) };
    let mut newest = None;
    for batch in history.records(&backtest.columns()).await? {
        backtest.add(&batch)?;
        newest = newest_of(rule, &batch).or(newest);
    }
    Ok(Some(HostHistory { newest, found: backtest.finish() }))
}

fn newest_of(rule: &CompiledRule, batch: &RecordBatch) -> Option<Newest> {
    let row = batch.num_rows().checked_sub(1)?;
    let received =
        arrow::compute::cast(batch.column_by_name("received_at")?, &arrow::datatypes::DataType::Int64)
            .ok()?;
    let received =
        arrow::array::AsArray::as_primitive_opt::<arrow::datatypes::Int64Type>(&received)?.value(row);
    let verdict = *rule.evaluate(batch).0.verdicts.get(row)?;
    Some(Newest { received_us: received, verdict, evidence: rule.evidence(batch, row) })
}

/// Records received within the span.
async fn history(client: &TenantClient, wanted: Option<Expr>, span: &Span) -> Result<Option<History>> {
    let file_io = FileIo::new(StorageConfig::default());
    Ok(History::of(client, &file_io, (span.from_us, span.to_us), wanted).await?)
}

/// An instant for people.
pub(super) fn text(instant_us: i64) -> String {
    let instant = DateTime::from_timestamp_micros(instant_us).unwrap_or_default();
    instant.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn episode(host: &str, opened_us: i64, resolved_us: Option<i64>) -> Episode {
        Episode {
            rule_id: "r".to_owned(),
            host_id: host.to_owned(),
            hostname: None,
            organization_id: None,
            opened_us,
            resolved_us,
            evidence: serde_json::Value::Null,
        }
    }

    #[test]
    fn finding_is_new_if_none_of_its_host_and_rule_overlaps() {
        let before = [episode("a", 10, Some(20)), episode("b", 10, None)];
        let after = [
            episode("a", 15, Some(40)),
            episode("a", 50, None),
            episode("b", 30, Some(31)),
            episode("c", 1, None),
        ];
        let new: Vec<_> =
            only(&after, &before).map(|episode| (episode.host_id.as_str(), episode.opened_us)).collect();
        assert_eq!(new, [("a", 50), ("c", 1)]);
        assert_eq!(only(&before, &after).count(), 0);
    }
}
