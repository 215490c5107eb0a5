//! What a run read and wrote: kept in the properties of its merge commit.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::CheckSeverity;

/// Property of the merge commit that names the run.
pub(crate) const RUN_PROPERTY: &str = "firn.run";
/// Property of the merge commit that holds the receipt as JSON.
pub(crate) const RECEIPT_PROPERTY: &str = "firn.receipt";

/// A run's receipt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Receipt {
    /// The run.
    pub run: String,
    /// Branch that it started from and published to.
    #[serde(default = "crate::promotion::main_branch")]
    pub reference: String,
    /// Commit of that branch that it started from.
    pub base: String,
    /// Milliseconds since the epoch.
    pub started_at_ms: i64,
    /// Milliseconds since the epoch, before the merge.
    pub finished_at_ms: i64,
    /// Models in the order they ran.
    pub models: Vec<ModelReceipt>,
}

/// One model's part of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ModelReceipt {
    /// Output table.
    pub model: String,
    /// Hash of the model.
    pub hash: String,
    /// `increment`, `full`, `skip`, or `rebuild` where it waits for somebody to ask for that.
    pub action: String,
    /// Why in full, why skipped, or what to do; empty for an increment.
    pub reason: String,
    /// By input: the snapshot that the output held before (absent: none), and the one it holds now.
    pub inputs: BTreeMap<String, (Option<String>, String)>,
    /// New rows: all of them if `action` is `full`.
    pub rows: u64,
    /// Rows that were taken out, because newer ones took their place or what they follow from is gone.
    #[serde(default)]
    pub removed: u64,
    /// Rows left out as repeats of earlier ones or by checks of severity `drop`.
    pub dropped: u64,
    /// The output's snapshot, if one was made.
    pub snapshot: Option<i64>,
    /// What each check found.
    pub checks: Vec<CheckResult>,
    /// What was worth a note, such as a rule that can't be used.
    pub notes: Vec<String>,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CheckResult {
    /// Name.
    pub name: String,
    /// Severity.
    pub severity: CheckSeverity,
    /// Rows that break it.
    pub violations: u64,
}
