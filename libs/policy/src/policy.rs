//! A policy: one rule with what a person needs to know about it.

use std::collections::BTreeMap;

use arrow::{array::RecordBatch, datatypes::SchemaRef};
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

/// Parses a policy file and checks everything but the rule's columns (see [`crate::compile`]).
pub fn parse(_toml: &str, _file: &str) -> Result<Policy, PolicyError> {
    todo!()
}

/// Schema of `policies.rules`.
#[must_use]
pub fn rules_schema() -> SchemaRef {
    todo!()
}

/// Policies as rows of `policies.rules`.
#[must_use]
pub fn rules_to_batch(_policies: &[Policy]) -> RecordBatch {
    todo!()
}

/// Rows of `policies.rules` as policies; a broken row is an error of its own beside the others.
#[must_use]
pub fn rules_from_batches(_batches: &[RecordBatch]) -> Vec<Result<Policy, PolicyError>> {
    todo!()
}
