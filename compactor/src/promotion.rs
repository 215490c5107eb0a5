//! Promotion: bronze to silver and gold, published at once or not at all.
//!
//! A run branches off `main`, brings every model's output up to date there, checks it, and merges the branch into `main`
//! in one commit. Models that don't read each other run at the same time. A run that somebody asks for may start from another
//! branch and publish there ([`ModelRuns`]): the same run on a clone of production that copied nothing. Where a model's output stands is said by properties that are set in the same commit as the output: the
//! snapshot of each input that it holds, and the model's hash. So a run needs no other memory:
//!
//! - killed at any moment before the merge, nothing of it is on `main`; the next run starts from what `main` says, and
//!   first deletes the branch that was left behind (the lease says that nobody works on it any more);
//! - killed after the merge, or with the merge's answer lost, `main` says that the inputs are read, and nothing is done
//!   twice;
//! - if `main` changed an output meanwhile, the merge conflicts and the run is repeated from the new `main`.

mod branches;
mod commit;
mod execute;
mod failure;
mod fit;
mod forecast;
mod freshness;
mod on_demand;
mod plan;
mod receipt;
mod request;
mod run;
mod schedule;
mod state;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use firn_catalog_client::TenantClient;
use firn_runtime::{StageState, StatusBoard, with_causes};
use firn_table::FileIo;
use tokio_util::sync::CancellationToken;

use crate::{
    CompactorConfig, CompactorError, ModelGraph, TenantModels, engine::Engine, history::History,
    lease::HeldLease,
};

pub(crate) use execute::{PARTIALS_SUFFIX, in_log_order};
pub(crate) use failure::failed_runs;
pub use forecast::{Forecast, forecast};
use freshness::Freshness;
pub use on_demand::ModelRuns;
pub(crate) use plan::ROLLED_BACK;
pub use receipt::{CheckResult, ModelReceipt, Receipt};
pub(crate) use receipt::{RECEIPT_PROPERTY, RUN_PROPERTY};
pub use request::RunRequest;
pub(crate) use state::{HASH_PROPERTY, PARTIALS_PROPERTY, load_optional, model_state};

/// The reference that the service's runs start from and publish to.
pub(crate) const MAIN: &str = "main";
/// Name of the lease, and of the stage on the status board.
pub(crate) const PROMOTION: &str = "promotion";
/// Times that a run is repeated at once after `main` moved.
const REPEATS: usize = 3;

/// What a run started from that does not say it.
pub(crate) fn main_branch() -> String {
    MAIN.to_owned()
}

/// Promotes tenants. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Promotion {
    pub(crate) config: Arc<CompactorConfig>,
    /// The shipped models.
    pub(crate) graph: Arc<ModelGraph>,
    pub(crate) engine: Engine,
    pub(crate) file_io: FileIo,
    pub(crate) board: StatusBoard,
    pub(crate) history: History,
}

/// What is remembered of a tenant between two looks; losing it costs a look.
#[derive(Debug, Default)]
pub(crate) struct TenantPlace {
    /// Head of `main` at which nothing was left to do.
    done_at: Option<String>,
    /// When a model that waits for its interval is due although `main` did not move.
    due: Option<Instant>,
    /// Failures in a row, and when to try again.
    failures: u32,
    not_before: Option<Instant>,
    /// How far tables were behind at the last look.
    freshness: Freshness,
}

impl Promotion {
    /// Looks at a tenant and promotes it if there is something to promote. Errors go to the status board.
    pub(crate) async fn visit(
        &self,
        client: &TenantClient,
        place: &mut TenantPlace,
        stop: &CancellationToken,
    ) {
        if place.not_before.is_some_and(|instant| Instant::now() < instant) {
            // Nothing is tried, and time passes.
            self.report_freshness(client, &place.freshness);
            return;
        }
        match self.promote(client, place, stop).await {
            Ok(()) => {
                place.failures = 0;
                place.not_before = None;
            }
            Err(CompactorError::Stopped) => {}
            Err(error @ CompactorError::LeaseHeld(_)) => {
                self.tell(client, StageState::Running, &error.to_string());
            }
            Err(error) => {
                let error = with_causes(&error);
                tracing::warn!(tenant = client.name(), error, "promotion failed");
                place.failures = place.failures.saturating_add(1);
                place.not_before = Some(Instant::now() + self.pause(place.failures));
                self.tell(client, StageState::Failing, &error);
            }
        }
        self.report_freshness(client, &place.freshness);
    }

    /// The interval after the first failure, doubled with each further one.
    fn pause(&self, failures: u32) -> Duration {
        let doubled = self.config.interval.saturating_mul(1 << failures.saturating_sub(1).min(16));
        doubled.min(self.config.max_backoff)
    }

    async fn promote(
        &self,
        client: &TenantClient,
        place: &mut TenantPlace,
        stop: &CancellationToken,
    ) -> Result<(), CompactorError> {
        let head = client.reference(MAIN).await?.hash().to_owned();
        let due = place.due.is_some_and(|due| Instant::now() >= due);
        if place.done_at.as_ref() == Some(&head) && !due {
            return Ok(());
        }
        let pending = self.look(client, &mut place.freshness).await?;
        if pending.work {
            let lease =
                HeldLease::acquire(client, PROMOTION, &self.config.holder, self.config.lease_ttl).await?;
            let done = lease.guard(stop, self.run_repeatedly(client, &RunRequest::default())).await;
            lease.release().await;
            done?;
        }
        place.due = pending.due_in.map(|wait| Instant::now() + wait);
        // After a run main is elsewhere: the next visit sees whether anything came in meanwhile.
        place.done_at = (!pending.work).then_some(head);
        Ok(())
    }

    /// The tenant's models at a reference.
    async fn models(&self, client: &TenantClient, reference: &str) -> Result<TenantModels, CompactorError> {
        TenantModels::read(client, &self.file_io, reference, &self.graph).await
    }

    async fn run_repeatedly(
        &self,
        client: &TenantClient,
        request: &RunRequest,
    ) -> Result<(), CompactorError> {
        for _ in 1..REPEATS {
            match self.run(client, request).await {
                Err(error) if error.is_conflict() => {
                    tracing::info!(tenant = client.name(), %error, "promotion is repeated");
                }
                done => return done,
            }
        }
        self.run(client, request).await
    }

    fn tell(&self, client: &TenantClient, state: StageState, message: &str) {
        self.board.update(PROMOTION, client.name(), |status| {
            status.state = state;
            message.clone_into(&mut status.message);
        });
    }
}

#[cfg(test)]
mod tests;
