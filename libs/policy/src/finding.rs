//! The life of a finding, as a pure function of what is known and what is seen.

use serde::{Deserialize, Serialize};

use crate::{Policy, Verdict};

/// Where a finding stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FindingStatus {
    /// No breach.
    Compliant,
    /// A breach within its grace.
    Pending,
    /// A breach that people should know of.
    Open,
    /// Someone has taken it on.
    Acknowledged,
    /// Quiet until a time.
    Snoozed,
    /// Over.
    Resolved,
}

/// What is kept per host and rule. Instants are microseconds since the epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingState {
    /// Status.
    pub status: FindingStatus,
    /// Since when.
    pub since_us: i64,
    /// First breach of the present run of breaches, if in breach.
    pub breach_since_us: Option<i64>,
    /// Last record judged: event time, received_at, partition, offset; older ones are dropped.
    pub last_order: (i64, i64, i32, i64),
    /// Number of transitions so far.
    pub version: u64,
    /// Quiet until, if snoozed.
    pub snoozed_until_us: Option<i64>,
}

/// One record's verdict for one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Verdict.
    pub verdict: Verdict,
    /// Event time, received_at, partition, offset.
    pub order: (i64, i64, i32, i64),
}

/// A change of status, to be published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    /// From.
    pub from: FindingStatus,
    /// To.
    pub to: FindingStatus,
    /// When, microseconds since the epoch.
    pub at_us: i64,
    /// The finding's version after it.
    pub version: u64,
    /// Why, in words.
    pub reason: String,
}

/// Applies one observation. Returns the state afterwards and the transition, if the status changed in a way worth telling.
#[must_use]
pub fn observe(_policy: &Policy, _state: Option<&FindingState>, _seen: &Observation) -> (FindingState, Option<Transition>) {
    todo!()
}
