//! Files that erasures removed, and that a backup brought back.
//!
//! The record of an erasure that is done names the files that it removed, and holds the keyed hash of its subject. Where such files
//! are there again, so are the subject's rows: one of the files holds the value that has the hash, and with it the erasure goes on
//! as it did the first time.

use std::time::Instant;

use firn_catalog_client::{ErasureJob, ErasureState, TenantClient, subject_hash};
use firn_runtime::{StageState, with_causes};
use firn_table::{TableErrorKind, column_values};

use super::{ErasurePlace, Erasures};
use crate::CompactorError;

/// Files of one erasure that are asked for, spread over all that it removed: a restore brings back many.
const ASKED_FOR: usize = 100;

impl Erasures {
    /// Looks, if it is time, whether files that a tenant's finished erasures removed are there again; these erasures are open
    /// then. Errors go to the status board.
    pub(crate) async fn recheck(&self, client: &TenantClient, done: &[ErasureJob], place: &mut ErasurePlace) {
        let interval = self.config.erasure.recheck;
        if place.rechecked_at.is_some_and(|at| at.elapsed() < interval) {
            return;
        }
        place.rechecked_at = Some(Instant::now());
        for job in done.iter().filter(|job| !job.erasure.dry_run) {
            let id = &job.erasure.id;
            match self.reopen(client, job).await {
                Ok(false) => {}
                Ok(true) => {
                    tracing::warn!(
                        tenant = client.name(),
                        erasure = id,
                        "erased rows are there again, and go again"
                    );
                }
                Err(error) => {
                    let error = with_causes(&error);
                    tracing::warn!(
                        tenant = client.name(),
                        erasure = id,
                        error,
                        "it can't be told whether erased rows are there again"
                    );
                    self.tell(client, StageState::Failing, &error);
                    // Not only a day later.
                    place.rechecked_at = None;
                }
            }
        }
    }

    /// Opens an erasure again if files that it removed are there; `true` if they are.
    async fn reopen(&self, client: &TenantClient, job: &ErasureJob) -> Result<bool, CompactorError> {
        // The list leaves out which files went.
        let erasure = client.erasure(&job.erasure.id).await?;
        let step = erasure.removed.len().div_ceil(ASKED_FOR).max(1);
        let mut is_back = false;
        for file in erasure.removed.iter().step_by(step) {
            is_back |= self.file_io.exists(file).await?;
            if is_back {
                break;
            }
        }
        if !is_back {
            return Ok(false);
        }
        for file in erasure.removed.iter().filter(|file| file.ends_with(".parquet")) {
            let values = match column_values(&self.file_io, file, &erasure.column).await {
                Err(error) if error.kind == TableErrorKind::NotFound => continue,
                values => values?,
            };
            let is_meant =
                |value: &String| subject_hash(&job.key, &erasure.column, value) == erasure.subject_hash;
            if let Some(value) = values.into_iter().find(is_meant) {
                let mut again = ErasureJob { value: Some(value), erasure: erasure.clone(), ..job.clone() };
                again.erasure.state = ErasureState::Running;
                "files that it removed are there again, as after a restore: they go again"
                    .clone_into(&mut again.erasure.message);
                client.keep_erasure(&again).await?;
                return Ok(true);
            }
        }
        Err(CompactorError::Refused(format!(
            "files that the erasure {} removed are there again, and none of them tells its subject by {}: ask for the erasure again",
            erasure.id, erasure.column
        )))
    }
}
