//! Erasures: rows of a subject go from every table, on every branch and tag, in every commit and snapshot, and from files that
//! nothing leads to; everything else stays readable, also in history.
//!
//! Order makes it safe beside writers, and lets it be killed anywhere:
//!
//! 1. The subject is on the erasure list before anything else; ingest passes its records over. Records that were judged by an
//!    older list have been committed once the settling time is over.
//! 2. A pass writes anew what holds the rows ([`Scrub`]). Which tables it is about to change is kept before it does.
//! 3. On each branch, each of these tables gets a snapshot that changes nothing: a writer that began on the replaced files can't
//!    commit on top of it, and begins again on the new ones.
//! 4. Passes repeat until one finds nothing that is reached. Then what was replaced is named in the record, and deleted.
//! 5. After another look at everything the catalog signs the receipt and forgets the subject.
//!
//! An erasure that was done goes on if files that it removed are there again, as after a restore from a backup ([`restored`]).
//!
//! Nothing is remembered but the record in the catalog: a killed erasure begins anew at 2, and finds less to do. The leases of
//! promotion and maintenance are held meanwhile, so that neither brings back what it read before.

mod fence;
mod guarded;
mod restored;
mod rows;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use firn_catalog_client::{ErasureJob, ErasureState, TenantClient};
use firn_runtime::{StageState, StatusBoard, with_causes};
use firn_table::{FileIo, Scrub, Survey};
use tokio_util::sync::CancellationToken;

use crate::{
    CompactorConfig, CompactorError, compactor::now_ms, lease::HeldLease, maintenance::MAINTENANCE,
    promotion::PROMOTION,
};

/// Name of the stage on the status board.
pub(crate) const ERASURE: &str = "erasure";
/// Passes before it is given up until later: somebody writes rows of the subject faster than they go.
const MOST_PASSES: usize = 20;
/// More files than this are counted in the receipt, not named.
const MOST_NAMES: usize = 10_000;

/// Carries erasures out. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Erasures {
    pub(crate) config: Arc<CompactorConfig>,
    pub(crate) file_io: FileIo,
    pub(crate) board: StatusBoard,
}

/// What is remembered of a tenant between two visits; losing it costs a look.
#[derive(Debug, Default)]
pub(crate) struct ErasurePlace {
    not_before: Option<Instant>,
    /// When it was looked whether files that were removed are there again.
    rechecked_at: Option<Instant>,
}

impl Erasures {
    /// Carries out a tenant's open erasures, one after the other. Errors go to the status board and into the erasure's record.
    pub(crate) async fn visit(
        &self,
        client: &TenantClient,
        jobs: Vec<ErasureJob>,
        place: &mut ErasurePlace,
        stop: &CancellationToken,
    ) {
        if jobs.is_empty() || place.not_before.is_some_and(|instant| Instant::now() < instant) {
            return;
        }
        place.not_before = None;
        for job in jobs {
            let id = job.erasure.id.clone();
            match self.run_alone(client, job, stop).await {
                Ok(ErasureState::Done) => {}
                Ok(_) => place.not_before = Some(Instant::now() + self.config.erasure.retry),
                Err(CompactorError::Stopped) => return,
                Err(CompactorError::LeaseHeld(lease)) => {
                    // Whoever has it works on the tenant; the next visit may find it free.
                    self.tell(client, StageState::Running, &format!("waits for the lease '{lease}'"));
                    return;
                }
                Err(error) => {
                    let error = with_causes(&error);
                    tracing::warn!(
                        tenant = client.name(),
                        erasure = id,
                        error,
                        "erasure failed, trying again"
                    );
                    self.tell(client, StageState::Failing, &error);
                    place.not_before = Some(Instant::now() + self.config.erasure.retry);
                }
            }
        }
    }

    /// While promotion and maintenance of the tenant stand still.
    async fn run_alone(
        &self,
        client: &TenantClient,
        mut job: ErasureJob,
        stop: &CancellationToken,
    ) -> Result<ErasureState, CompactorError> {
        let (holder, ttl) = (&self.config.holder, self.config.lease_ttl);
        let promotion = HeldLease::acquire(client, PROMOTION, holder, ttl).await?;
        let maintenance = match HeldLease::acquire(client, MAINTENANCE, holder, ttl).await {
            Ok(lease) => lease,
            Err(error) => {
                promotion.release().await;
                return Err(error);
            }
        };
        let run = promotion.guard(stop, maintenance.guard(stop, self.run(client, &mut job))).await;
        maintenance.release().await;
        promotion.release().await;
        if let Err(error) = &run
            && !matches!(error, CompactorError::Stopped)
        {
            let message = format!("failed, and is tried again: {}", with_causes(error));
            // Told where somebody looks; if even that fails, the log and the status have it.
            if let Err(error) = self.keep(client, &mut job, ErasureState::Running, &message).await {
                tracing::debug!(%error, "the state of an erasure was not kept");
            }
        }
        run.map(|()| job.erasure.state)
    }

    async fn run(&self, client: &TenantClient, job: &mut ErasureJob) -> Result<(), CompactorError> {
        if !job.erasure.dry_run {
            let message = "the subject is listed; waiting until every ingest worker knows";
            self.keep(client, job, ErasureState::Running, message).await?;
            tokio::time::sleep(self.config.erasure.settle).await;
        }
        let mut scrub = Scrub::new(&self.file_io, &job.root, rows::of(job));
        for _ in 0..MOST_PASSES {
            self.fence(client, job).await?;
            let message = format!("pass {}: looking through all files", job.erasure.counts.passes + 1);
            self.keep(client, job, ErasureState::Running, &message).await?;
            let survey = scrub.survey().await?;
            job.erasure.counts.files_listed = survey.files_listed;
            if rows::learn(job, &survey) {
                if job.erasure.with_hosts && !job.erasure.dry_run {
                    // Its computers are listed only now.
                    self.keep(client, job, ErasureState::Running, "the subject's computers are listed")
                        .await?;
                    tokio::time::sleep(self.config.erasure.settle).await;
                }
                scrub.look_for(rows::of(job));
                continue;
            }
            let held = guarded::by_holds(client, &self.file_io, &scrub, &survey).await?;
            if job.erasure.dry_run {
                return self.report(client, job, &survey, held).await;
            }
            if let Some(held) = held {
                return self.keep(client, job, ErasureState::Held, &held).await;
            }
            if !survey.is_clean() {
                self.pass(client, job, &mut scrub, &survey).await?;
            } else if self.sweep(client, job, &mut scrub, &survey).await? {
                return Ok(());
            }
        }
        let passes = job.erasure.counts.passes;
        Err(CompactorError::Restless(passes))
    }

    /// One pass over what a survey found.
    async fn pass(
        &self,
        client: &TenantClient,
        job: &mut ErasureJob,
        scrub: &mut Scrub,
        survey: &Survey,
    ) -> Result<(), CompactorError> {
        job.unfenced.extend(survey.tables.iter().cloned());
        job.erasure.tables.extend(survey.tables.iter().cloned());
        job.erasure.counts.passes += 1;
        let message = format!(
            "pass {}: writing {} data files anew, without {} rows",
            job.erasure.counts.passes,
            survey.files.len(),
            survey.rows()
        );
        self.keep(client, job, ErasureState::Running, &message).await?;
        let applied = scrub.apply(survey).await?;
        let counts = &mut job.erasure.counts;
        counts.rows += applied.rows;
        counts.files_rewritten += applied.files;
        counts.manifests_rewritten += applied.manifests;
        counts.states_changed += applied.metadata.len() as u64;
        Ok(())
    }

    /// Deletes what is reached no more; `true` once a look at everything found nothing left.
    async fn sweep(
        &self,
        client: &TenantClient,
        job: &mut ErasureJob,
        scrub: &mut Scrub,
        survey: &Survey,
    ) -> Result<bool, CompactorError> {
        let older_than_ms = now_ms() - millis(self.config.erasure.orphan_age);
        let doomed = scrub.doomed(survey, older_than_ms).await?;
        if doomed.files.is_empty() && doomed.young.is_empty() {
            self.keep(client, job, ErasureState::Done, "nothing of the subject is left").await?;
            return Ok(true);
        }
        // Named before they go, so that the receipt tells of them whatever happens.
        let value = job.value.clone().unwrap_or_default();
        for file in &doomed.files {
            let erasure = &mut job.erasure;
            if !erasure.removed.contains(file) {
                erasure.counts.files_removed += 1;
                if erasure.removed.len() < MOST_NAMES && !file.contains(&value) {
                    erasure.removed.push(file.clone());
                }
            }
        }
        if !doomed.files.is_empty() {
            let message = format!("deleting {} files that were replaced", doomed.files.len());
            self.keep(client, job, ErasureState::Running, &message).await?;
            scrub.remove(&doomed.files).await?;
        }
        if doomed.young.is_empty() {
            // Another look at everything, with nothing taken as known.
            scrub.look_for(rows::of(job));
            return Ok(false);
        }
        let message = format!(
            "{} files with rows of the subject belong to no table, but may be of a commit under way: they go once they are {} \
             minutes old",
            doomed.young.len(),
            self.config.erasure.orphan_age.as_secs() / 60
        );
        self.keep(client, job, ErasureState::Running, &message).await?;
        Ok(true)
    }

    /// What a dry run found.
    async fn report(
        &self,
        client: &TenantClient,
        job: &mut ErasureJob,
        survey: &Survey,
        held: Option<String>,
    ) -> Result<(), CompactorError> {
        let erasure = &mut job.erasure;
        erasure.tables.clone_from(&survey.tables);
        erasure.counts.rows = survey.rows();
        let value = job.value.as_deref().unwrap_or_default();
        let names = survey.files.iter().map(|file| &file.location).filter(|name| !name.contains(value));
        erasure.removed = names.take(MOST_NAMES).cloned().collect();
        let message = held.map_or_else(
            || "a dry run: nothing was changed".to_owned(),
            |held| format!("a dry run: nothing was changed, and nothing could be: {held}"),
        );
        self.keep(client, job, ErasureState::Done, &message).await
    }

    /// Keeps how the erasure stands, and tells it.
    async fn keep(
        &self,
        client: &TenantClient,
        job: &mut ErasureJob,
        state: ErasureState,
        message: &str,
    ) -> Result<(), CompactorError> {
        job.erasure.state = state;
        message.clone_into(&mut job.erasure.message);
        *job = client.keep_erasure(job).await?;
        let id = &job.erasure.id;
        tracing::info!(tenant = client.name(), erasure = id, ?state, message, "erasure");
        self.tell(client, StageState::Running, message);
        Ok(())
    }

    fn tell(&self, client: &TenantClient, state: StageState, message: &str) {
        self.board.update(ERASURE, client.name(), |status| {
            status.state = state;
            message.clone_into(&mut status.message);
        });
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
