//! What a backtest found: for people, for programs, and as a page with charts.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use firn_policy::{Episode, Findings};
use serde::Serialize;

use super::backtest::{Compared, Span, only, text};
use crate::{console::html::Html, output};

/// Columns of the chart, and its size in pixels.
const STEPS: i64 = 60;
const CHART: (f64, f64) = (640.0, 120.0);
/// New findings listed on the page.
const LISTED: usize = 200;

/// The whole of a backtest, for programs.
#[derive(Debug, Serialize)]
pub(super) struct Summary<'a> {
    from: String,
    to: String,
    records: u64,
    hosts: u64,
    new_findings: u64,
    gone_findings: u64,
    rules: Vec<RuleSummary>,
    organizations: BTreeMap<String, Counts>,
    errors: &'a BTreeMap<String, String>,
    /// All findings under the candidates.
    findings: &'a [Episode],
}

#[derive(Debug, Serialize)]
struct RuleSummary {
    rule: String,
    before: Counts,
    after: Counts,
    new: usize,
    gone: usize,
}

/// Findings of one rule or organisation.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct Counts {
    findings: usize,
    /// Open at the end.
    open: usize,
    /// How long those that ended were open.
    median_s: Option<i64>,
}

impl Counts {
    fn of<'a>(episodes: impl Iterator<Item = &'a Episode>) -> Self {
        let (mut counts, mut lengths) = (Self::default(), Vec::new());
        for episode in episodes {
            counts.findings += 1;
            match episode.resolved_us {
                None => counts.open += 1,
                Some(resolved_us) => lengths.push((resolved_us - episode.opened_us) / 1_000_000),
            }
        }
        lengths.sort_unstable();
        counts.median_s = lengths.get(lengths.len() / 2).copied();
        counts
    }
}

fn rules(compared: &Compared) -> Vec<RuleSummary> {
    let (before, after) = (&compared.before.episodes, &compared.after.episodes);
    let ids: BTreeSet<&String> = before.iter().chain(after).map(|episode| &episode.rule_id).collect();
    let of = |rule: &str, episodes: &[Episode]| {
        Counts::of(episodes.iter().filter(|episode| episode.rule_id == rule))
    };
    let summary = |rule: &String| RuleSummary {
        rule: rule.clone(),
        before: of(rule, before),
        after: of(rule, after),
        new: only(after, before).filter(|episode| episode.rule_id == *rule).count(),
        gone: only(before, after).filter(|episode| episode.rule_id == *rule).count(),
    };
    ids.into_iter().map(summary).collect()
}

fn organizations(found: &Findings) -> BTreeMap<String, Counts> {
    let mut by: BTreeMap<String, Vec<&Episode>> = BTreeMap::new();
    for episode in &found.episodes {
        let organization = episode.organization_id.clone().unwrap_or_else(|| "none".to_owned());
        by.entry(organization).or_default().push(episode);
    }
    by.into_iter().map(|(organization, episodes)| (organization, Counts::of(episodes.into_iter()))).collect()
}

pub(super) fn summary<'a>(compared: &'a Compared, span: &Span) -> Summary<'a> {
    Summary {
        from: text(span.from_us),
        to: text(span.to_us),
        records: compared.after.records,
        hosts: compared.after.hosts,
        new_findings: compared.new_findings(),
        gone_findings: compared.gone_findings(),
        rules: rules(compared),
        organizations: organizations(&compared.after),
        errors: &compared.after.errors,
        findings: &compared.after.episodes,
    }
}

/// Prints it for people.
pub(super) fn print(compared: &Compared) -> Result<()> {
    for (rule, error) in &compared.after.errors {
        output::complain(&format!("{rule} fails on some records, which have no result then: {error}"));
    }
    let headings = ["rule", "findings now", "then", "open then", "median open", "new", "gone"];
    output::rows(
        &headings,
        table(compared),
        "no findings, neither under the present policies nor the candidates",
    )?;
    let (records, hosts) = (compared.after.records, compared.after.hosts);
    let (new, gone) = (compared.new_findings(), compared.gone_findings());
    output::line(&format!("{records} records of {hosts} computers: {new} new findings, {gone} gone"))
}

fn table(compared: &Compared) -> Vec<Vec<String>> {
    let row = |rule: RuleSummary| {
        let length =
            rule.after.median_s.map_or_else(String::new, |s| crate::duration::in_words(s.unsigned_abs()));
        let counts =
            [rule.before.findings, rule.after.findings, rule.after.open].map(|count| count.to_string());
        let [before, after, open] = counts;
        vec![rule.rule, before, after, open, length, rule.new.to_string(), rule.gone.to_string()]
    };
    rules(compared).into_iter().map(row).collect()
}

/// The page.
pub(super) fn html(compared: &Compared, span: &Span, titles: &BTreeMap<String, String>) -> String {
    let mut page = Html::default();
    page.raw(
        "<!doctype html><meta charset=\"utf-8\"><title>Backtest</title><style>body{font:15px/1.5 system-ui;margin:2rem auto;\
         max-width:60rem;padding:0 1rem}table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.2rem .6rem;\
         border-bottom:1px solid #ddd}svg{background:#fafafa;width:100%}.before{fill:none;stroke:#999;stroke-width:1.5}.after{\
         fill:none;stroke:#b3261e;stroke-width:2}small{color:#666}</style><h1>Backtest</h1><p>",
    );
    page.text(&format!(
        "{} to {}: {} records of {} computers, {} new findings, {} gone.",
        text(span.from_us),
        text(span.to_us),
        compared.after.records,
        compared.after.hosts,
        compared.new_findings(),
        compared.gone_findings()
    ));
    page.raw("</p>");
    page.table(
        &["Rule", "Findings now", "Then", "Open then", "Median open", "New", "Gone"],
        &table(compared),
    );
    page.raw("<h2>Open findings over time</h2><p><small>grey: present policies, red: candidates</small></p>");
    for rule in rules(compared) {
        let title = titles.get(&rule.rule).unwrap_or(&rule.rule);
        page.raw("<h3>").text(title).raw("</h3>");
        chart(&mut page, compared, span, &rule.rule);
    }
    page.raw("<h2>By organisation</h2>");
    let row = |(organization, counts): (String, Counts)| {
        vec![organization, counts.findings.to_string(), counts.open.to_string()]
    };
    let rows: Vec<_> = organizations(&compared.after).into_iter().map(row).collect();
    page.table(&["Organisation", "Findings", "Open at the end"], &rows);
    page.raw("<h2>New findings</h2>");
    let row = |episode: &Episode| {
        let host = episode.hostname.clone().unwrap_or_else(|| episode.host_id.clone());
        let ended = episode.resolved_us.map_or_else(|| "open".to_owned(), text);
        vec![episode.rule_id.clone(), host, text(episode.opened_us), ended, episode.evidence.to_string()]
    };
    let rows: Vec<_> =
        only(&compared.after.episodes, &compared.before.episodes).take(LISTED).map(row).collect();
    page.table(&["Rule", "Computer", "Opened", "Resolved", "Evidence"], &rows);
    page.finish()
}

/// Open findings of a rule at each step of the span.
fn open_over_time(episodes: &[Episode], rule: &str, span: &Span) -> Vec<usize> {
    let length = (span.to_us - span.from_us).max(1);
    let at = |step: i64| span.from_us + length / STEPS * step;
    let open = |at_us: i64| {
        let is_open = |e: &&Episode| {
            e.rule_id == rule
                && e.opened_us <= at_us
                && e.resolved_us.is_none_or(|resolved_us| resolved_us > at_us)
        };
        episodes.iter().filter(is_open).count()
    };
    (0..=STEPS).map(|step| open(at(step))).collect()
}

fn chart(page: &mut Html, compared: &Compared, span: &Span, rule: &str) {
    let lines = [("before", &compared.before), ("after", &compared.after)]
        .map(|(class, found)| (class, open_over_time(&found.episodes, rule, span)));
    let most = lines.iter().flat_map(|(_, counts)| counts).max().copied().unwrap_or_default().max(1);
    let (width, height) = CHART;
    page.raw("<svg viewBox=\"0 -6 640 132\" role=\"img\">");
    for (class, counts) in &lines {
        #[allow(clippy::cast_precision_loss, reason = "pixels")]
        let point = |(step, count): (usize, &usize)| {
            let x = width * step as f64 / STEPS as f64;
            let y = height - height * *count as f64 / most as f64;
            format!("{x:.1},{y:.1}")
        };
        let points: Vec<String> = counts.iter().enumerate().map(point).collect();
        page.raw("<polyline class=\"").text(class).raw("\" points=\"").text(&points.join(" ")).raw("\"/>");
    }
    page.raw("<text x=\"2\" y=\"8\" font-size=\"11\">").text(&format!("{most} open")).raw("</text></svg>");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn episode(rule: &str, opened_us: i64, resolved_us: Option<i64>) -> Episode {
        Episode {
            rule_id: rule.to_owned(),
            host_id: "h".to_owned(),
            hostname: Some("<b>".to_owned()),
            organization_id: Some("sales".to_owned()),
            opened_us,
            resolved_us,
            evidence: serde_json::Value::Null,
        }
    }

    fn compared() -> Compared {
        let second = 1_000_000;
        let mut compared = Compared::default();
        compared.before.episodes = vec![episode("a", 0, Some(10 * second))];
        compared.after.episodes = vec![
            episode("a", 5 * second, Some(25 * second)),
            episode("b", 0, Some(4 * second)),
            episode("b", 30 * second, None),
        ];
        compared
    }

    #[test]
    fn rules_and_organisations_are_counted() {
        let all = rules(&compared());
        let shown: Vec<_> = all
            .iter()
            .map(|r| (r.rule.as_str(), r.before.findings, r.after.findings, r.new, r.gone))
            .collect();
        assert_eq!(shown, [("a", 1, 1, 0, 0), ("b", 0, 2, 2, 0)]);
        assert_eq!(all[1].after, Counts { findings: 2, open: 1, median_s: Some(4) });
        assert_eq!(organizations(&compared().after)["sales"].findings, 3);
    }

    #[test]
    fn page_shows_charts_and_escapes_names() {
        let span = Span { from_us: 0, to_us: 60_000_000 };
        assert_eq!(open_over_time(&compared().after.episodes, "b", &span)[..6], [1, 1, 1, 1, 0, 0]);
        let titles = BTreeMap::from([("a".to_owned(), "Rule & A".to_owned())]);
        let page = html(&compared(), &span, &titles);
        assert!(page.contains("Rule &amp; A") && page.contains("&lt;b&gt;") && !page.contains("<b>"));
        assert_eq!(page.matches("<polyline").count(), 4);
    }
}
