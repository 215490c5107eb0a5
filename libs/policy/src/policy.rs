//! A policy: one rule with what a person needs to know about it.

use std::collections::BTreeMap;

use datafusion::sql::parser::DFParser;
use serde::{Deserialize, Serialize};

use crate::format;

/// How bad a breach is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    Low,
    /// To be mended in time.
    Medium,
    /// To be mended soon.
    High,
    /// To be mended now.
    Critical,
}

impl Severity {
    /// The word in policy files and tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    /// The severity of a word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Low, Self::Medium, Self::High, Self::Critical]
            .into_iter()
            .find(|severity| severity.as_str() == word)
    }
}

/// A policy file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// `[a-z0-9-]+`, unique within the tenant.
    pub id: String,
    /// One line.
    pub title: String,
    /// Severity.
    pub severity: Severity,
    /// What is checked.
    #[serde(default)]
    pub description: String,
    /// Why it matters.
    #[serde(default)]
    pub rationale: String,
    /// What to do about a breach.
    #[serde(default)]
    pub remediation: String,
    /// Where it is written down, such as `CIS 1.1.1`.
    #[serde(default)]
    pub references: Vec<String>,
    /// `os_type` values it applies to; all if empty. Elsewhere the verdict is "no result".
    #[serde(default)]
    pub platforms: Vec<String>,
    /// SQL boolean over the columns of the inventory: true is compliant, false a breach, null "no result". With `window`
    /// over aggregates of them (`avg(cpu_usage) <= 9000`); absent with `absence_s`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rule: String,
    /// Seconds a breach must last before a finding opens.
    #[serde(default)]
    pub grace_s: u64,
    /// A breach is that nothing was received from the computer for so many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absence_s: Option<u64>,
    /// Windows that the rule aggregates over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<WindowSpec>,
    /// How a finding is kept from opening and closing again and again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flapping: Option<FlappingLimit>,
    /// Free labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// Windows of event time, aligned to the epoch: tumbling, or sliding where `slide_s` is shorter than `size_s`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowSpec {
    /// Length, seconds.
    pub size_s: u64,
    /// From one window's start to the next one's, seconds; the size if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slide_s: Option<u64>,
    /// So many windows in a row must be in breach. A window without a sample breaks the row.
    #[serde(default = "one")]
    pub in_a_row: u32,
    /// How long after the end of its window a sample may still be received, seconds.
    #[serde(default = "minute")]
    pub lateness_s: u64,
}

/// A finding that opened so many times within a time flaps: it stays open until the computer has complied for as long as that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlappingLimit {
    /// So many times.
    pub openings: u32,
    /// Within so many seconds.
    pub within_s: u64,
}

fn one() -> u32 {
    1
}

fn minute() -> u64 {
    60
}

/// What is wrong with a policy, where, and a suggestion.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("policy '{policy}': {message}")]
pub struct PolicyError {
    /// Id, or the file's name.
    pub policy: String,
    /// What is wrong, where (line and column if known), and what may have been meant.
    pub message: String,
}

impl PolicyError {
    pub(crate) fn new(policy: &str, message: impl Into<String>) -> Self {
        Self { policy: policy.to_owned(), message: message.into() }
    }
}

/// The longest grace: a year. A longer one is a slip of the keyboard (milliseconds instead of seconds).
const MAX_GRACE_S: u64 = 366 * 24 * 3600;
/// The longest window, a week, and the largest allowed lateness, a day: longer ones are for models over the lake.
const MAX_WINDOW_S: u64 = 7 * 24 * 3600;
const MAX_LATENESS_S: u64 = 24 * 3600;
/// Windows of one computer that may be open at once: they are kept in its state.
const MAX_OPEN_WINDOWS: u64 = 100;
/// Instants of openings are kept in a computer's state.
const MAX_OPENINGS: u32 = 20;
/// The longest row of windows.
const MAX_IN_A_ROW: u32 = 1_000;
/// The longest rule, in bytes: parsing is recursive and rules come from tenants.
const MAX_RULE_BYTES: usize = 16 << 10;

/// Parses a policy file, of YAML if its name ends so and else of TOML, and checks everything but the rule's columns (see [`crate::compile`]).
pub fn parse(text: &str, file: &str) -> Result<Policy, PolicyError> {
    let policy: Policy = format::read(text, file)?;
    policy.check()?;
    Ok(policy)
}

impl Policy {
    /// Whether each record has a verdict of its own, which follows from the record alone.
    #[must_use]
    pub fn is_per_record(&self) -> bool {
        self.window.is_none() && self.absence_s.is_none()
    }

    /// Checks everything but the rule's columns.
    pub(crate) fn check(&self) -> Result<(), PolicyError> {
        let fail = |message: String| Err(PolicyError::new(&self.id, message));
        let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        if !(1..=100).contains(&self.id.len()) || !self.id.bytes().all(allowed) {
            return fail(format!("id '{}' must be 1 to 100 of a-z, 0-9 and '-'", self.id));
        }
        if self.title.trim().is_empty() || self.title.contains('\n') {
            return fail("title must be one line that is not empty".to_owned());
        }
        match (self.rule.trim().is_empty(), self.absence_s) {
            (true, None) => {
                return fail("rule is empty: write a SQL boolean such as `disk_encrypted`".to_owned());
            }
            (false, Some(_)) => {
                return fail("rule and absence_s exclude each other: make two policies".to_owned());
            }
            _ => {}
        }
        if let Some(absence_s) = self.absence_s {
            if self.window.is_some() {
                return fail("window and absence_s exclude each other: make two policies".to_owned());
            }
            if !self.platforms.is_empty() {
                return fail(
                    "platforms and absence_s exclude each other: the platform stands in a record".to_owned(),
                );
            }
            if !(60..=MAX_GRACE_S).contains(&absence_s) {
                return fail(format!("absence_s is {absence_s}: it is in seconds, from 60 to {MAX_GRACE_S}"));
            }
        }
        if let Some(window) = &self.window {
            window.check().map_err(|message| PolicyError::new(&self.id, message))?;
        }
        if self.rule.len() > MAX_RULE_BYTES {
            return fail(format!(
                "rule has {} bytes, more than the {MAX_RULE_BYTES} allowed",
                self.rule.len()
            ));
        }
        if self.grace_s > MAX_GRACE_S {
            return fail(format!(
                "grace_s is {}, more than a year ({MAX_GRACE_S}): it is in seconds",
                self.grace_s
            ));
        }
        if let Some(limit) = &self.flapping {
            limit.check().map_err(|message| PolicyError::new(&self.id, message))?;
        }
        if let Some(platform) = self.platforms.iter().find(|platform| platform.trim().is_empty()) {
            return fail(format!("platform '{platform}' is empty: name os_type values such as 'linux'"));
        }
        if self.absence_s.is_some() {
            return Ok(());
        }
        match DFParser::parse_sql_into_expr(&self.rule) {
            Ok(_) => Ok(()),
            Err(error) => fail(format!("rule does not parse: {}", error.strip_backtrace())),
        }
    }
}

impl WindowSpec {
    fn check(&self) -> Result<(), String> {
        let slide_s = self.slide_s.unwrap_or(self.size_s);
        if !(1..=MAX_WINDOW_S).contains(&self.size_s) {
            return Err(format!(
                "window.size_s is {}: it is in seconds, from 1 to {MAX_WINDOW_S}",
                self.size_s
            ));
        }
        if slide_s == 0 || !self.size_s.is_multiple_of(slide_s) {
            return Err(format!(
                "window.slide_s is {slide_s}: it must divide size_s, which is {}",
                self.size_s
            ));
        }
        if self.lateness_s > MAX_LATENESS_S {
            return Err(format!("window.lateness_s is {}, more than {MAX_LATENESS_S}", self.lateness_s));
        }
        let open = (self.size_s + self.lateness_s) / slide_s + 1;
        if open > MAX_OPEN_WINDOWS {
            return Err(format!(
                "window keeps {open} windows open at once, more than {MAX_OPEN_WINDOWS}: make slide_s longer, or size_s or \
                 lateness_s shorter"
            ));
        }
        if !(1..=MAX_IN_A_ROW).contains(&self.in_a_row) {
            return Err(format!("window.in_a_row is {}: from 1 to {MAX_IN_A_ROW}", self.in_a_row));
        }
        Ok(())
    }
}

impl FlappingLimit {
    fn check(self) -> Result<(), String> {
        let Self { openings, within_s } = self;
        if !(2..=MAX_OPENINGS).contains(&openings) {
            return Err(format!("flapping.openings is {openings}: from 2 to {MAX_OPENINGS}"));
        }
        if !(1..=MAX_GRACE_S).contains(&within_s) {
            return Err(format!(
                "flapping.within_s is {within_s}: it is in seconds, from 1 to {MAX_GRACE_S}"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const GOOD: &str = "id = 'x-1'\ntitle = 'X'\nseverity = 'high'\nrule = 'disk_encrypted'\n";

    #[test]
    fn minimal_policy_parses_with_defaults() {
        let policy = parse(GOOD, "x.toml").unwrap();
        assert_eq!((policy.id.as_str(), policy.severity, policy.grace_s), ("x-1", Severity::High, 0));
        assert!(policy.platforms.is_empty());
    }

    fn refusal(toml: &str) -> String {
        parse(toml, "x.toml").unwrap_err().to_string()
    }

    #[test]
    fn unknown_key_is_refused_with_its_line() {
        let message = refusal(&format!("{GOOD}grase_s = 3\n"));
        assert!(
            message.contains("x.toml") && message.contains("line 5") && message.contains("grase_s"),
            "{message}"
        );
    }

    #[test]
    fn bad_id_severity_and_grace_are_refused() {
        assert!(refusal(&GOOD.replace("x-1", "X 1")).contains("a-z, 0-9"));
        assert!(refusal(&GOOD.replace("high", "huge")).contains("huge"));
        assert!(refusal(&format!("{GOOD}grace_s = 86400000000\n")).contains("in seconds"));
    }

    #[test]
    fn rule_that_does_not_parse_says_where() {
        let message = refusal(&GOOD.replace("disk_encrypted", "disk_encrypted AND )"));
        assert!(message.contains("Line: 1, Column: 20"), "{message}");
        assert!(refusal(&GOOD.replace("disk_encrypted", "true; DROP TABLE x")).contains("does not parse"));
    }

    #[test]
    fn windows_flapping_and_absence_are_checked_with_the_way_out() {
        let window = |text: &str| refusal(&format!("{GOOD}[window]\n{text}"));
        assert!(window("size_s = 0").contains("window.size_s is 0"));
        assert!(window("size_s = 300\nslide_s = 7").contains("must divide"));
        assert!(window("size_s = 3600\nslide_s = 10").contains("make slide_s longer"));
        assert!(window("size_s = 300\nin_a_row = 0").contains("in_a_row"));
        assert!(window("size = 300").contains("size_s"));
        let flapping = |text: &str| refusal(&format!("{GOOD}[flapping]\n{text}"));
        assert!(flapping("openings = 1\nwithin_s = 60").contains("flapping.openings is 1: from 2"));
        assert!(flapping("openings = 3\nwithin_s = 0").contains("in seconds"));
        assert!(flapping("openings = 3").contains("within_s"));
        let absent = GOOD.replace("rule = 'disk_encrypted'", "absence_s = 604800");
        assert_eq!(parse(&absent, "x.toml").unwrap().absence_s, Some(604_800));
        assert!(refusal(&format!("{GOOD}absence_s = 604800\n")).contains("exclude each other"));
        assert!(refusal(&absent.replace("604800", "7")).contains("in seconds"));
    }
}
