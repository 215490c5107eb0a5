//! `firn policy test`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use arrow::array::RecordBatch;
use firn_inventory::{BronzeBuilder, LogPosition, decode};
use firn_policy::{
    Backtest, Case, CaseFinding, CaseVerdict, CompiledRule, Findings, Verdict, cases_beside, parse_cases,
};

use super::source;
use crate::output;

/// 2026-01-01T00:00:00Z, microseconds since the epoch: second 0 of every case.
const START_US: i64 = 1_767_225_600_000_000;

/// Arguments of `firn policy test`.
#[derive(clap::Args)]
pub(crate) struct TestArgs {
    /// Policy files (TOML), or folders of them
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

/// Runs all cases of all files before the first failure ends it.
pub(super) fn run(args: &TestArgs) -> Result<()> {
    let (mut failed, mut count) = (0, 0);
    for file in source::files(&args.files)? {
        let shown = file.display().to_string();
        let rule = source::compiled(&file)?.with_context(|| shown.clone())?;
        let beside = cases_beside(&file).display().to_string();
        if !Path::new(&beside).exists() {
            output::complain(&format!("{shown}: no cases; they would stand in {beside}"));
            continue;
        }
        let text = std::fs::read_to_string(&beside).with_context(|| format!("can't read {beside}"))?;
        for case in parse_cases(&text, &beside)? {
            count += 1;
            let wrong = check(&rule, &case).with_context(|| format!("{beside}: case '{}'", case.name))?;
            if let Some(wrong) = wrong {
                failed += 1;
                output::complain(&format!("{beside}: case '{}': {wrong}", case.name));
            }
        }
    }
    if failed > 0 {
        bail!("{failed} of {count} cases fail");
    }
    output::line(&format!("{count} cases hold"))
}

/// What differs from what the case expects.
fn check(rule: &CompiledRule, case: &Case) -> Result<Option<String>> {
    let (batch, last_us) = records(case)?;
    let verdict = rule.evaluate(&batch).0.verdicts.last().copied().map(|verdict| match verdict {
        Verdict::Pass => CaseVerdict::Pass,
        Verdict::Fail => CaseVerdict::Fail,
        Verdict::NoResult => CaseVerdict::NoResult,
    });
    if case.verdict.is_some() && case.verdict != verdict {
        return Ok(Some(format!("expects the verdict {:?}, and it is {verdict:?}", case.verdict)));
    }
    let end_us = case.until_s.map_or(last_us, |until_s| START_US + until_s * 1_000_000);
    let mut backtest = Backtest::new(vec![rule.clone()], end_us);
    backtest.add(&batch)?;
    let finding = standing(&backtest.finish());
    if case.finding.is_some_and(|expected| expected != finding) {
        return Ok(Some(format!("expects the finding {:?}, and it is {finding:?}", case.finding)));
    }
    Ok(None)
}

fn standing(found: &Findings) -> CaseFinding {
    match found.episodes.last() {
        Some(episode) if episode.resolved_us.is_none() => CaseFinding::Open,
        _ if !found.pending.is_empty() => CaseFinding::Pending,
        Some(_) => CaseFinding::Resolved,
        None => CaseFinding::None,
    }
}

/// The case's records as the lake would hold them, and when the last was received.
fn records(case: &Case) -> Result<(RecordBatch, i64)> {
    let mut builder = BronzeBuilder::default();
    let mut last_us = START_US;
    for (record, offset) in case.records.iter().zip(0..) {
        let mut record = record.clone();
        let at_s = record.remove("at_s").unwrap_or_default();
        let at_s = if at_s.is_null() { Some(0) } else { at_s.as_i64() };
        let received_at_us = START_US + at_s.context("at_s is not a whole number of seconds")? * 1_000_000;
        if received_at_us < last_us {
            bail!(
                "record {} comes before the one before it: records stand in the order they are received",
                offset + 1
            );
        }
        last_us = received_at_us;
        record.entry("host_id").or_insert_with(|| "host".into());
        let decoded =
            decode(&serde_json::to_vec(&record)?).with_context(|| format!("record {}", offset + 1))?;
        if let Some(extra) = &decoded.extra {
            bail!("record {} has fields that no inventory has: {extra}", offset + 1);
        }
        let (topic_id, source) = ("cases".to_owned(), "native".to_owned());
        builder.push(&decoded, &LogPosition { topic_id, partition: 0, offset, received_at_us, source });
    }
    Ok((builder.finish(), last_us))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn run_cases(policy: &str, cases: &str) -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.toml");
        std::fs::write(&file, format!("id = 'p'\ntitle = 'P'\nseverity = 'low'\n{policy}")).unwrap();
        std::fs::write(folder.path().join("p.test.toml"), cases).unwrap();
        run(&TestArgs { files: vec![file] })
    }

    #[test]
    fn cases_hold_or_fail_with_graces_and_silence() {
        let encrypted = "rule = 'disk_encrypted'\ngrace_s = 60\n";
        let case =
            |rest: &str| format!("[[case]]\nname = 'c'\nrecords = [{{ disk_encrypted = false }}]\n{rest}\n");
        run_cases(encrypted, &case("verdict = 'fail'\nfinding = 'pending'")).unwrap();
        run_cases(encrypted, &case("until_s = 60\nfinding = 'open'")).unwrap();
        let failed = run_cases(encrypted, &case("verdict = 'pass'")).unwrap_err().to_string();
        assert_eq!(failed, "1 of 1 cases fail");
        run_cases("absence_s = 60\n", &case("until_s = 60\nfinding = 'open'")).unwrap();
        run_cases("absence_s = 60\n", &case("until_s = 59\nfinding = 'none'")).unwrap();
    }

    #[test]
    fn field_that_no_inventory_has_is_named() {
        let cases = "[[case]]\nname = 'c'\nrecords = [{ disk_encripted = true }]\nverdict = 'pass'\n";
        let error = format!("{:#}", run_cases("rule = 'disk_encrypted'\n", cases).unwrap_err());
        assert!(error.contains("case 'c'") && error.contains("disk_encripted"), "{error}");
    }
}
