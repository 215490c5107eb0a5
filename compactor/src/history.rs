//! Recent runs, kept in memory for the API. What a run published is in its branch's log for good, and what a failed one left is
//! on the branch that shows its output.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{CheckSeverity, Receipt};

/// Runs kept per tenant.
const KEPT_RUNS: usize = 50;

/// How a run went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// At work on its branch.
    Running,
    /// Merged into the branch that it started from.
    Succeeded,
    /// Nothing of it is on that branch; `error` says why.
    Failed,
    /// That branch moved, or the service stopped: the work is done again by a later run.
    Repeated,
}

/// A broken check, with some of the rows that break it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FailingCheck {
    /// Model.
    pub model: String,
    /// Check.
    pub check: String,
    /// What a breach does.
    pub severity: CheckSeverity,
    /// The SQL that is false.
    pub condition: String,
    /// Rows that break it.
    pub violations: u64,
    /// The first of them.
    pub rows: Vec<Value>,
}

/// One promotion run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RunRecord {
    /// Id.
    pub run: String,
    /// Branch that it started from.
    #[serde(default = "crate::promotion::main_branch")]
    pub reference: String,
    /// State.
    pub state: RunState,
    /// Milliseconds since the epoch.
    pub started_at_ms: i64,
    /// Milliseconds since the epoch, once over.
    pub finished_at_ms: Option<i64>,
    /// Branch that shows the output of a failed run.
    pub branch: Option<String>,
    /// What went wrong, in words.
    pub error: Option<String>,
    /// Broken checks of any severity.
    pub checks: Vec<FailingCheck>,
    /// What was read and written, once it succeeded.
    pub receipt: Option<Receipt>,
}

/// Runs by tenant, newest first. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    runs: Arc<Mutex<BTreeMap<String, VecDeque<RunRecord>>>>,
}

impl History {
    /// Adds a run, or replaces the one with the same id.
    pub(crate) fn record(&self, tenant: &str, record: RunRecord) {
        let mut all = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let runs = all.entry(tenant.to_owned()).or_default();
        match runs.iter_mut().find(|known| known.run == record.run) {
            Some(known) => *known = record,
            None => runs.push_front(record),
        }
        runs.truncate(KEPT_RUNS);
    }

    /// A tenant's runs, newest first.
    pub(crate) fn of(&self, tenant: &str) -> Vec<RunRecord> {
        let all = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(tenant).map(|runs| runs.iter().cloned().collect()).unwrap_or_default()
    }
}
