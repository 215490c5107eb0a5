//! The compactor: promotes bronze to silver and gold by SQL models, and keeps tables in shape.
//!
//! *Promotion* writes on a branch, checks there, and publishes with one atomic merge, so that `main` never shows half a
//! run. *Maintenance* packs small files, drops deleted rows for good, and expires snapshots. *Erasures* take a subject's rows out of
//! everything there is. All hold leases per tenant and learn of the lake only through the catalog's HTTP API.

mod api;
mod compactor;
mod config;
mod engine;
mod erasure;
mod error;
mod history;
mod lease;
mod lineage;
mod maintenance;
mod model;
mod promotion;

pub use api::ENDPOINTS;
pub use compactor::Compactor;
pub use config::{CompactorConfig, ErasureConfig, MaintenanceConfig};
pub use engine::check_models;
pub use error::CompactorError;
pub use history::{FailingCheck, RunRecord, RunState};
pub use lineage::{Ancestry, lineage};
pub use maintenance::{
    Compacted, FileGroup, Retained, Rollback, RollbackTarget, TableHealth, TableMaintenance,
};
pub use model::{
    CaseOutcome, Check, CheckSeverity, Dedup, Model, ModelError, ModelFiles, ModelGraph, ModelKind,
    SourceTables, TEST_SUFFIX, TenantModels, change_own_models, check_own_models, models, shipped_cases,
    test_models,
};
pub use promotion::{CheckResult, Forecast, ModelReceipt, ModelRuns, Receipt, RunRequest, forecast};

#[cfg(test)]
mod testing;
