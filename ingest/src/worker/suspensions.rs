//! Which tenants a person wants to stand still.

use std::{collections::BTreeMap, time::Instant};

use firn_catalog_client::{ClientError, Suspension};

use super::{book::Book, lake::Lake};

/// The suspensions as they were last asked for.
pub(super) struct Suspensions {
    /// The stage's name in the catalog.
    stage: &'static str,
    wanted: Option<BTreeMap<String, Suspension>>,
    applied: BTreeMap<String, Suspension>,
}

impl Suspensions {
    /// None known yet.
    pub(super) fn of(stage: &'static str) -> Self {
        Self { stage, wanted: None, applied: BTreeMap::new() }
    }

    /// Whether the catalog has ever answered.
    pub(super) fn are_known(&self) -> bool {
        self.wanted.is_some()
    }

    /// Asks the catalog.
    pub(super) async fn refresh(&mut self, lake: &dyn Lake) -> Result<(), ClientError> {
        let all = lake.suspensions().await?;
        let ours = all.into_iter().filter(|suspension| suspension.stage == self.stage);
        self.wanted = Some(ours.map(|suspension| (suspension.tenant.clone(), suspension)).collect());
        Ok(())
    }

    /// Makes the book as it should be; answers the tenants that are resumed by it.
    pub(super) fn apply(&mut self, book: &mut Book, now: Instant) -> Vec<String> {
        let Some(wanted) = &self.wanted else { return Vec::new() };
        for (tenant, suspension) in wanted {
            if book.suspend(tenant) {
                tracing::info!(tenant, by = %suspension.by, reason = %suspension.reason, "suspended");
            }
        }
        let resumed: Vec<String> =
            self.applied.keys().filter(|tenant| !wanted.contains_key(*tenant)).cloned().collect();
        for tenant in &resumed {
            book.resume(tenant, now);
            tracing::info!(tenant, "resumed");
        }
        self.applied.clone_from(wanted);
        resumed
    }

    /// Those that are in force.
    pub(super) fn all(&self) -> impl Iterator<Item = &Suspension> {
        self.applied.values()
    }
}
