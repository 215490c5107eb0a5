//! Attempts whose answers were lost and that were not there when somebody looked.
//!
//! A statement that a database was sent before its connection broke may begin after everything that was asked of it since. It
//! still insists on the head that it was planned on, so it can land as long as the branch stays there, and no longer. Until
//! then nothing is certain: what is answered meanwhile must not say that nothing was done, and when the branch has moved it may
//! have been by that statement.

use std::sync::Arc;

use super::{super::repository::Shared, Answer, Queued};
use crate::{CatalogError, store::Hash};

/// See the module.
#[derive(Default)]
pub(super) struct Lost(Vec<Attempt>);

struct Attempt {
    from: Hash,
    to: Hash,
    /// One per queued work, in order.
    outcomes: Vec<Answer>,
}

impl Lost {
    /// One more, from one head to another.
    pub(super) fn add(&mut self, from: Hash, to: Hash, outcomes: Vec<Answer>) {
        self.0.push(Attempt { from, to, outcomes });
    }

    /// The outcomes of the attempt that landed after all, now that the branch is at `head`. Those that can't any more are forgotten.
    pub(super) async fn landed(
        &mut self,
        shared: &Arc<Shared>,
        repository: &str,
        head: Hash,
    ) -> Result<Option<Vec<Answer>>, CatalogError> {
        let ended: Vec<Hash> =
            self.0.iter().filter(|attempt| attempt.from != head).map(|attempt| attempt.to).collect();
        if ended.is_empty() {
            return Ok(None);
        }
        let there = shared.store.objects(repository, &ended).await?;
        let landed = self.0.iter().position(|attempt| there.iter().any(|(hash, _)| *hash == attempt.to));
        if let Some(landed) = landed {
            return Ok(Some(self.0.swap_remove(landed).outcomes));
        }
        self.0.retain(|attempt| attempt.from == head);
        Ok(None)
    }

    /// The works with this idempotency key leave the batch.
    pub(super) fn forget(&mut self, batch: &[Queued], key: &str) {
        for attempt in &mut self.0 {
            let mut works = batch.iter();
            attempt.outcomes.retain(|_| works.next().is_some_and(|queued| !queued.has_key(key)));
        }
    }

    /// An error, which can't say that nothing was done as long as that isn't certain.
    pub(super) fn doubt(&self, error: CatalogError) -> CatalogError {
        if self.0.is_empty() {
            return error;
        }
        CatalogError::Unknown(format!(
            "{error}; an earlier try may still land: look for the commit in the log"
        ))
    }
}
