//! What each stage says of itself, for `firn status`, the console and `/health/ready`.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

/// How a stage is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum StageState {
    /// Not ready yet.
    #[default]
    Starting,
    /// Working.
    Running,
    /// Stopped on request, keeping its place.
    Suspended,
    /// Not working; `message` says why. It goes on trying.
    Failing,
}

/// One stage of one tenant (or of all, under the tenant `*`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct StageStatus {
    /// State.
    pub state: StageState,
    /// In words: what it does now, or what is wrong and what to do.
    pub message: String,
    /// Input not yet taken, in records.
    pub lag_records: Option<u64>,
    /// Age of the newest output, in milliseconds since the epoch of its input's receipt.
    pub fresh_until_ms: Option<i64>,
    /// Named totals, such as `records`, `commits`, `quarantined`, `findings_open`.
    pub totals: BTreeMap<String, u64>,
}

/// Shared by all stages of a process. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct StatusBoard {
    stages: Arc<Mutex<BTreeMap<(String, String), StageStatus>>>,
}

impl StatusBoard {
    /// Changes the status of `stage` (`catalog`, `gateway`, `ingest`, `reference`, `promotion`, `maintenance`, `alerts`, `elasticsearch`) for a tenant.
    pub fn update(&self, stage: &str, tenant: &str, change: impl FnOnce(&mut StageStatus)) {
        let mut stages = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        change(stages.entry((stage.to_owned(), tenant.to_owned())).or_default());
    }

    /// One status, if there is any.
    #[must_use]
    pub fn get(&self, stage: &str, tenant: &str) -> Option<StageStatus> {
        let stages = self.stages.lock().unwrap_or_else(PoisonError::into_inner);
        stages.get(&(stage.to_owned(), tenant.to_owned())).cloned()
    }

    /// All statuses, by stage and tenant.
    #[must_use]
    pub fn all(&self) -> BTreeMap<(String, String), StageStatus> {
        self.stages.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
