//! Group commit. Per branch one leader takes all queued commits and merges, applies them in memory one after another, and writes
//! them as one database transaction: many commits, one move of the reference, no artificial delay.
//!
//! A lost swap (another replica won) reloads the head and replays. If the answer to the transaction is lost, the leader waits for
//! whoever holds the branch, then looks for its newest commit: commits hold a random id, so that one is there only if the
//! transaction landed. One that isn't there may have been sent and not begun, so it is looked for again when the branch has moved.

mod batch;
mod lost;
mod settle;

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::oneshot;

use super::{Actor, CommitRequest, Committed, IdempotencyRecord, MergeRequest, Merged, repository::Shared};
use crate::{CatalogError, store::Hash};

/// More than this many waiting for one branch are turned away.
const MAX_QUEUED: usize = 8192;
/// At most this many in one transaction: it bounds the replay of states that aren't stored, too.
const MAX_BATCH: usize = 256;

/// What a branch's leader works on.
#[derive(Clone, Debug)]
pub(super) enum Work {
    Commit(CommitRequest),
    Merge(MergeRequest),
}

/// How it ended.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    Committed(Committed),
    Merged(Merged),
}

impl Outcome {
    /// Where the branch is afterwards.
    fn hash(&self) -> Hash {
        match self {
            Self::Committed(Committed { hash, .. }) | Self::Merged(Merged { hash, .. }) => *hash,
        }
    }

    fn set_hash(&mut self, new: Hash) {
        match self {
            Self::Committed(Committed { hash, .. }) | Self::Merged(Merged { hash, .. }) => *hash = new,
        }
    }
}

type Answer = Result<Outcome, CatalogError>;

/// Work that waits for its answer.
struct Queued {
    work: Work,
    actor: Arc<Actor>,
    answer: oneshot::Sender<Answer>,
}

impl Queued {
    fn has_key(&self, key: &str) -> bool {
        self.work.idempotency().is_some_and(|record| record.key == key)
    }
}

impl Work {
    fn branch(&self) -> &str {
        match self {
            Self::Commit(request) => &request.branch,
            Self::Merge(request) => &request.branch,
        }
    }

    fn idempotency(&self) -> Option<&IdempotencyRecord> {
        match self {
            Self::Commit(request) => request.idempotency.as_ref(),
            Self::Merge(request) => request.idempotency.as_ref(),
        }
    }
}

type BranchName = (Arc<str>, String);

/// The queues of all branches of a process. A branch has an entry while a leader works on it.
#[derive(Default)]
pub(super) struct Queues(Mutex<HashMap<BranchName, VecDeque<Queued>>>);

/// Queues work and waits for its answer. The work goes on if the caller stops waiting.
pub(super) async fn submit(
    shared: &Arc<Shared>,
    repository: &Arc<str>,
    actor: &Arc<Actor>,
    work: Work,
) -> Answer {
    let answered = enqueue(shared, repository, actor, work)?;
    answered.await.unwrap_or_else(|_| {
        Err(CatalogError::Unknown(
            "the commit was abandoned half-way; look whether it is in the log".to_owned(),
        ))
    })
}

fn enqueue(
    shared: &Arc<Shared>,
    repository: &Arc<str>,
    actor: &Arc<Actor>,
    work: Work,
) -> Result<oneshot::Receiver<Answer>, CatalogError> {
    let branch = (Arc::clone(repository), work.branch().to_owned());
    let (answer, answered) = oneshot::channel();
    let queued = Queued { work, actor: Arc::clone(actor), answer };
    let mut queues = shared.queues.0.lock().unwrap_or_else(PoisonError::into_inner);
    match queues.get_mut(&branch) {
        Some(queue) if queue.len() >= MAX_QUEUED => {
            return Err(CatalogError::Unavailable(format!(
                "too many commits wait for branch '{}'",
                branch.1
            )));
        }
        Some(queue) => queue.push_back(queued),
        None => {
            queues.insert(branch.clone(), VecDeque::from([queued]));
            tokio::spawn(Leader { shared: Arc::clone(shared), branch, finished: false }.run());
        }
    }
    Ok(answered)
}

/// The task that works on a branch until its queue is empty.
struct Leader {
    shared: Arc<Shared>,
    branch: BranchName,
    finished: bool,
}

impl Leader {
    async fn run(mut self) {
        loop {
            // Work that is ready to be queued comes first: the busier the machine, the larger the batches.
            tokio::task::yield_now().await;
            let Some(batch) = self.take() else { return };
            batch::run(&self.shared, &self.branch, batch).await;
        }
    }

    /// The next batch; removes the queue if it is empty.
    fn take(&mut self) -> Option<Vec<Queued>> {
        let mut queues = self.shared.queues.0.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = queues.get_mut(&self.branch)?;
        if queue.is_empty() {
            queues.remove(&self.branch);
            self.finished = true;
            return None;
        }
        Some(queue.drain(..queue.len().min(MAX_BATCH)).collect())
    }
}

impl Drop for Leader {
    /// If the task ends early (a panic, a runtime shutting down), nobody is left waiting for it.
    fn drop(&mut self) {
        if !self.finished {
            self.shared.queues.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.branch);
        }
    }
}
