//! What is due in a tenant beyond its tables: branches and tags whose time is over, and files that nothing needs.

use std::time::Instant;

use chrono::{DateTime, Utc};
use firn_catalog_client::{ClientErrorKind, GcRequest, GcRun, GcState, Tenant, TenantClient};

use super::{Maintenance, MaintenancePlace};
use crate::CompactorError;

impl Maintenance {
    /// Removes branches and tags whose time is over; answers how many. To be called while nothing is held.
    pub(super) async fn prune_references(&self, client: &TenantClient) -> Result<u64, CompactorError> {
        let pruned = client.prune_references(false).await?;
        for kept in pruned.iter().filter(|pruned| !pruned.removed) {
            tracing::debug!(
                tenant = client.name(),
                reference = kept.reference,
                reason = kept.reason,
                "not pruned"
            );
        }
        Ok(pruned.iter().filter(|pruned| pruned.removed).count() as u64)
    }

    /// Starts a removal of files and objects that no reference needs, if the last one was long enough ago; `true` if it did. The
    /// catalog carries it out. To be called while nothing is held.
    pub(super) async fn remove_orphans(
        &self,
        client: &TenantClient,
        tenant: &Tenant,
        place: &mut MaintenancePlace,
    ) -> Result<bool, CompactorError> {
        let config = &self.config.maintenance;
        let interval = config.orphan_interval;
        if !config.remove_orphans || place.collected_at.is_some_and(|at| at.elapsed() < interval) {
            return Ok(false);
        }
        if place.collected_at.is_none() {
            // Since this process started; the catalog knows of others.
            let newest = match client.last_gc().await {
                Ok(run) => Some(run),
                Err(error) if error.kind == ClientErrorKind::NotFound => None,
                Err(error) => return Err(error.into()),
            };
            let age = last_removal(newest.as_ref(), tenant).map(|at| Utc::now() - at);
            let age = age.and_then(|age| age.to_std().ok()).unwrap_or_default();
            if age < interval {
                place.collected_at = Instant::now().checked_sub(age);
                return Ok(false);
            }
        }
        let request = GcRequest { safety_age_s: Some(config.orphan_age.as_secs()), ..GcRequest::default() };
        match client.start_gc(&request).await {
            Ok(_) => {}
            // One is running that somebody else started.
            Err(error) if error.kind == ClientErrorKind::Conflict => {}
            Err(error) => return Err(error.into()),
        }
        place.collected_at = Some(Instant::now());
        tracing::info!(tenant = client.name(), "removal of what nothing needs started");
        Ok(true)
    }
}

/// When orphans were last removed; of a tenant in which none ever were, when it was made.
fn last_removal(newest: Option<&GcRun>, tenant: &Tenant) -> Option<DateTime<Utc>> {
    let report = newest.filter(|run| run.state == GcState::Done).and_then(|run| run.report.as_ref());
    let finished = report.filter(|report| !report.dry_run).map(|report| report.finished_at.as_str());
    DateTime::parse_from_rfc3339(finished.unwrap_or(&tenant.created_at)).ok().map(|at| at.to_utc())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::{
        fs,
        time::{Duration, SystemTime},
    };

    use firn_catalog_client::HoldRequest;
    use serde_json::json;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{
        Compactor, CompactorConfig,
        testing::{Lake, inventory},
    };

    /// A compactor that looks for orphans at each visit.
    fn compactor(lake: &Lake) -> Compactor {
        let mut config = CompactorConfig::default();
        config.maintenance.interval = Duration::ZERO;
        config.maintenance.orphan_interval = Duration::ZERO;
        let (client, file_io) = (lake.catalog.clone(), lake.file_io.clone());
        Compactor::new(config, client, file_io, lake.board.clone()).unwrap()
    }

    async fn visit(lake: &Lake, compactor: &Compactor) {
        let mut place = MaintenancePlace::default();
        compactor.maintenance.visit(&lake.client, &mut place, &CancellationToken::new()).await;
    }

    #[tokio::test]
    async fn branches_go_once_their_time_is_over_and_nothing_is_held() {
        let lake = Lake::start().await;
        let compactor = lake.compactor("one");
        for name in ["old", "young", "kept"] {
            lake.client.create_branch(name, "main").await.unwrap();
        }
        let at = |seconds: i64| (Utc::now() + chrono::TimeDelta::seconds(seconds)).to_rfc3339();
        lake.client.set_expiry("old", &at(-1)).await.unwrap();
        lake.client.set_expiry("young", &at(3_600)).await.unwrap();
        let everything = HoldRequest { reason: "case 1".to_owned(), ..HoldRequest::default() };
        let hold = lake.client.place_hold(&everything).await.unwrap();
        visit(&lake, &compactor).await;
        let told = lake.client.prune_references(true).await.unwrap();
        assert!(!told[0].removed && told[0].reason.contains("case 1"), "{told:?}");
        assert_eq!(lake.references().await, ["kept", "main", "old", "young"]);
        lake.client.release_hold(&hold.id).await.unwrap();
        visit(&lake, &compactor).await;
        assert_eq!(lake.references().await, ["kept", "main", "young"]);
        // Another one of the name has nothing to do with the first.
        lake.client.create_branch("old", "main").await.unwrap();
        visit(&lake, &compactor).await;
        assert_eq!(lake.references().await, ["kept", "main", "old", "young"]);
    }

    #[tokio::test]
    async fn orphans_go_by_schedule_once_they_are_old_enough() {
        let lake = Lake::start().await;
        lake.report(&[inventory(0, "h1", "e1", json!({}))]).await;
        let table = lake.table("main", "bronze.inventory").await.unwrap();
        let location = table.metadata()["location"].as_str().unwrap().to_owned();
        let folder = std::path::PathBuf::from(location.strip_prefix("file://").unwrap()).join("data");
        let (old, young) = (folder.join("old.parquet"), folder.join("young.parquet"));
        for file in [&old, &young] {
            fs::write(file, "rows").unwrap();
        }
        let days = SystemTime::now() - Duration::from_secs(8 * 86_400);
        fs::File::options().write(true).open(&old).unwrap().set_modified(days).unwrap();
        // The tenant was made a moment ago: by default nothing is due for a day.
        visit(&lake, &lake.compactor("one")).await;
        assert_eq!(lake.client.last_gc().await.unwrap_err().kind, ClientErrorKind::NotFound);
        visit(&lake, &compactor(&lake)).await;
        let run = loop {
            let run = lake.client.last_gc().await.unwrap();
            if run.state != GcState::Running {
                break run;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert_eq!(run.report.unwrap().files_removed, 1);
        assert!(!old.exists() && young.exists());
    }

    #[test]
    fn only_what_removed_counts_as_a_removal() {
        let tenant = Tenant { created_at: "2026-11-01T00:00:00Z".to_owned(), ..Tenant::default() };
        let run = |state, dry_run| GcRun {
            id: "1".to_owned(),
            state,
            error: None,
            report: Some(firn_catalog_client::GcReport {
                dry_run,
                finished_at: "2026-11-22T00:00:00Z".to_owned(),
                ..Default::default()
            }),
        };
        let day = |run: Option<&GcRun>| last_removal(run, &tenant).unwrap().format("%d").to_string();
        assert_eq!(day(Some(&run(GcState::Done, false))), "22");
        assert_eq!(day(Some(&run(GcState::Done, true))), "01");
        assert_eq!(day(Some(&run(GcState::Failed, false))), "01");
        assert_eq!(day(None), "01");
    }
}
