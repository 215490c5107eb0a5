//! Cases that show what a policy says: a file `NAME.test.toml` beside `NAME.toml`.
//!
//! ```toml
//! [[case]]
//! name = "an hour of shortage is tolerated"
//! records = [{ disk_free_bytes = 5, disk_total_bytes = 100 }, { at_s = 3600, disk_free_bytes = 5, disk_total_bytes = 100 }]
//! verdict = "fail"
//! finding = "open"
//! ```
//!
//! A record is received `at_s` seconds after 2026-01-01T00:00:00Z, 0 if absent; time ends at `until_s`, or with the last
//! record.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{PolicyError, format};

/// One case.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// Records of one computer, in order; fields of the inventory, and `at_s`.
    pub records: Vec<Map<String, Value>>,
    /// When time ends, seconds.
    #[serde(default)]
    pub until_s: Option<i64>,
    /// What the rule says of the last record.
    #[serde(default)]
    pub verdict: Option<CaseVerdict>,
    /// How the finding stands at the end.
    #[serde(default)]
    pub finding: Option<CaseFinding>,
}

/// What a rule may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaseVerdict {
    /// Compliant.
    Pass,
    /// In breach.
    Fail,
    /// Can't tell.
    NoResult,
}

/// How a finding may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaseFinding {
    /// There never was one.
    None,
    /// In breach within the grace.
    Pending,
    /// Told.
    Open,
    /// Told and over.
    Resolved,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseFile {
    case: Vec<Case>,
}

/// Parses a file of cases.
pub fn parse_cases(text: &str, file: &str) -> Result<Vec<Case>, PolicyError> {
    let fail = |message: String| Err(PolicyError::new(file, message));
    let cases = format::read::<CaseFile>(text, file)?.case;
    for case in &cases {
        if case.verdict.is_none() && case.finding.is_none() {
            return fail(format!("case '{}' expects nothing: give it a verdict or a finding", case.name));
        }
        if case.verdict.is_some() && case.records.is_empty() {
            return fail(format!("case '{}' has no record to give a verdict on", case.name));
        }
    }
    Ok(cases)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn case_must_expect_something_that_can_be() {
        let refusal = |toml: &str| parse_cases(toml, "x.test.toml").unwrap_err().to_string();
        assert!(refusal("[[case]]\nname='n'\nrecords=[{}]").contains("'n' expects nothing"));
        assert!(refusal("[[case]]\nname='n'\nrecords=[]\nverdict='pass'").contains("no record"));
        assert!(refusal("[[case]]\nname='n'\nrecords=[{}]\nverdict='passes'").contains("passes"));
        let good = "[[case]]\nname='n'\nrecords=[{at_s=3, disk_encrypted=true}]\nverdict='no_result'\nfinding='none'";
        let cases = parse_cases(good, "x.test.toml").unwrap();
        assert_eq!(
            (cases[0].verdict, cases[0].finding),
            (Some(CaseVerdict::NoResult), Some(CaseFinding::None))
        );
        assert_eq!(cases[0].records[0]["at_s"], 3);
    }
}
