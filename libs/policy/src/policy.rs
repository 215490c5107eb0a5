//! A policy: one rule with what a person needs to know about it.

use std::collections::BTreeMap;

use datafusion::sql::parser::DFParser;
use serde::{Deserialize, Serialize};

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

/// A policy file (TOML).
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
    /// SQL boolean over the columns of the inventory: true is compliant, false a breach, null "no result".
    pub rule: String,
    /// Seconds a breach must last before a finding opens.
    #[serde(default)]
    pub grace_s: u64,
    /// Free labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
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
/// The longest rule, in bytes: parsing is recursive and rules come from tenants.
const MAX_RULE_BYTES: usize = 16 << 10;

/// Parses a policy file and checks everything but the rule's columns (see [`crate::compile`]).
pub fn parse(toml: &str, file: &str) -> Result<Policy, PolicyError> {
    let policy: Policy =
        toml::from_str(toml).map_err(|error| PolicyError::new(file, error.to_string().trim_end()))?;
    policy.check()?;
    Ok(policy)
}

impl Policy {
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
        if self.rule.trim().is_empty() {
            return fail("rule is empty: write a SQL boolean such as `disk_encrypted`".to_owned());
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
        if let Some(platform) = self.platforms.iter().find(|platform| platform.trim().is_empty()) {
            return fail(format!("platform '{platform}' is empty: name os_type values such as 'linux'"));
        }
        match DFParser::parse_sql_into_expr(&self.rule) {
            Ok(_) => Ok(()),
            Err(error) => fail(format!("rule does not parse: {}", error.strip_backtrace())),
        }
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
}
