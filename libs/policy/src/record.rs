//! What is published of a transition: a record of the topic `compliance`, a row of `gold.transitions`, a document in
//! Elasticsearch.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{FindingStatus, Severity};

/// A finding's id: the first 32 hex digits of SHA-256 over tenant, host and rule.
#[must_use]
pub fn finding_id(tenant: &str, host_id: &str, rule_id: &str) -> String {
    let mut digest = Sha256::new();
    for part in [tenant, host_id, rule_id] {
        // A length before each part: no two triples run into the same bytes.
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part.as_bytes());
    }
    digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// What made a transition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// A host's record.
    Record,
    /// A window that was over.
    Window,
    /// Time: the end of a grace or of a snooze, or nothing received for too long.
    Time,
    /// A person.
    Command,
    /// A rule that was withdrawn.
    Rules,
    /// A host that was retired.
    Retirement,
}

impl Cause {
    /// The word in JSON and tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::Window => "window",
            Self::Time => "time",
            Self::Command => "command",
            Self::Rules => "rules",
            Self::Retirement => "retirement",
        }
    }
}

/// One transition with all that tells who, when, why and from what. Instants are microseconds since the epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TransitionRecord {
    /// See [`finding_id`].
    pub finding_id: String,
    /// Tenant.
    pub tenant: String,
    /// Host, unique within the tenant only.
    pub host_id: String,
    /// Its name, as last reported.
    #[serde(default)]
    pub hostname: Option<String>,
    /// Its organisation, as last reported.
    #[serde(default)]
    pub organization_id: Option<String>,
    /// Policy.
    pub rule_id: String,
    /// The policy's title.
    pub title: String,
    /// The policy's severity.
    pub severity: Severity,
    /// From.
    pub from: FindingStatus,
    /// To.
    pub to: FindingStatus,
    /// When.
    pub at_us: i64,
    /// State epoch x 2^40 + the finding's own transition counter: rises with each transition, also over a rebuild.
    pub version: u64,
    /// What made it.
    pub cause: Cause,
    /// Why, in words.
    pub reason: String,
    /// Who, if a person.
    #[serde(default)]
    pub by: Option<String>,
    /// Whose it is from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignee: Option<String>,
    /// Quiet until, if it begins a snooze.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snoozed_until_us: Option<i64>,
    /// The values that decided.
    #[serde(default)]
    pub evidence: Value,
    /// Revision of the rule that judged; empty for a rule that is gone.
    pub revision: String,
    /// Topic of the record that decided last.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Commit of the tenant's `main` that the rules were read from.
    pub catalog_commit: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_wherever_the_parts_do() {
        let id = finding_id("t", "host", "rule");
        assert_eq!(id.len(), 32);
        assert_eq!(id, finding_id("t", "host", "rule"));
        assert_ne!(id, finding_id("th", "ost", "rule"));
        assert_ne!(id, finding_id("t", "hostr", "ule"));
    }
}
