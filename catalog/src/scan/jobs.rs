//! Scans that take long are read in the background, a few at a time; what came of them is kept for a while.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::AbortHandle,
};

use super::{Part, Planned};
use crate::CatalogError;

/// Scans that are read at once in the background.
const RUNNING: usize = 2;
/// Scans that are read or wait for it.
const WAITING: usize = 64;
/// Requests that read manifests at once.
const REQUESTS: usize = 8;
/// Longest wait of a request for its turn.
const MAX_WAIT: Duration = Duration::from_secs(10);
/// How long results are kept for who asked, and how much memory they may take.
const KEPT: Duration = Duration::from_secs(600);
const KEPT_BYTES: u64 = 16 << 20;

/// How a scan ended.
pub(crate) type Outcome = Result<Arc<Planned>, CatalogError>;

/// The scans that this process reads, by the ids of their plans.
pub(crate) struct Jobs {
    running: Arc<Mutex<HashMap<String, Running>>>,
    ended: moka::sync::Cache<String, Outcome>,
    permits: Arc<Semaphore>,
    requests: Arc<Semaphore>,
}

struct Running {
    task: AbortHandle,
    /// Closed once the task is over.
    over: watch::Receiver<()>,
}

/// Takes a scan off the list when its task ends, however it does.
struct Listed {
    running: Arc<Mutex<HashMap<String, Running>>>,
    id: String,
    _over: watch::Sender<()>,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

impl Default for Jobs {
    fn default() -> Self {
        let ended = moka::sync::Cache::builder()
            .weigher(|_: &String, outcome: &Outcome| {
                outcome.as_ref().map_or(1024, |planned| size(&planned.part))
            })
            .max_capacity(KEPT_BYTES)
            .time_to_live(KEPT)
            .build();
        let permits = |count| Arc::new(Semaphore::new(count));
        Self { running: Arc::default(), ended, permits: permits(RUNNING), requests: permits(REQUESTS) }
    }
}

impl Jobs {
    /// A place among the requests that read manifests, until dropped.
    pub(crate) async fn turn(&self) -> Result<OwnedSemaphorePermit, CatalogError> {
        match tokio::time::timeout(MAX_WAIT, Arc::clone(&self.requests).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(crowded()),
        }
    }

    /// Starts reading a scan, unless it is being read already.
    pub(crate) fn start(
        &self,
        id: &str,
        work: impl Future<Output = Result<Planned, CatalogError>> + Send + 'static,
    ) -> Result<(), CatalogError> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.contains_key(id) {
            return Ok(());
        }
        if running.len() >= WAITING {
            return Err(crowded());
        }
        let (sender, over) = watch::channel(());
        let listed = Listed { running: Arc::clone(&self.running), id: id.to_owned(), _over: sender };
        let (ended, permits) = (self.ended.clone(), Arc::clone(&self.permits));
        let task = tokio::spawn(async move {
            let _permit = permits.acquire_owned().await;
            let outcome = work.await.map(Arc::new);
            ended.insert(listed.id.clone(), outcome);
            drop(listed);
        });
        running.insert(id.to_owned(), Running { task: task.abort_handle(), over });
        Ok(())
    }

    /// How a scan ended, waiting for it as long as `wait`; `None` if it is still being read or isn't known here.
    pub(crate) async fn outcome(&self, id: &str, wait: Duration) -> Option<Outcome> {
        if let Some(outcome) = self.ended.get(id) {
            return Some(outcome);
        }
        let over = {
            let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            running.get(id).map(|running| running.over.clone())
        };
        if let Some(mut over) = over {
            // An error says that the sender is gone, and so the task over.
            let _ended_or_not = tokio::time::timeout(wait, over.changed()).await;
        }
        self.ended.get(id)
    }

    /// Stops reading a scan and forgets it.
    pub(crate) fn cancel(&self, id: &str) {
        let task = {
            let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            running.get(id).map(|running| running.task.clone())
        };
        if let Some(task) = task {
            task.abort();
        }
        self.ended.invalidate(id);
    }
}

fn crowded() -> CatalogError {
    CatalogError::Unavailable("too many scans are being planned: try again".to_owned())
}

fn size(part: &Part) -> u32 {
    let bytes = match part {
        Part::Files { tasks, deletes } => {
            tasks.iter().chain(deletes).map(|file| file.to_string().len()).sum::<usize>()
        }
        Part::Portions(portions) => portions.len() * size_of::<super::Span>(),
    };
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn planned() -> Planned {
        Planned { print: String::new(), part: Part::Portions(Vec::new()) }
    }

    #[tokio::test]
    async fn a_scan_is_read_once_and_its_end_waited_for() {
        let jobs = Jobs::default();
        let (go, wait) = tokio::sync::oneshot::channel::<()>();
        let work = async move {
            wait.await.unwrap();
            Ok(planned())
        };
        jobs.start("a", work).unwrap();
        let again = async { Err(CatalogError::Internal("it was read twice".to_owned())) };
        jobs.start("a", again).unwrap();
        assert!(jobs.outcome("a", Duration::ZERO).await.is_none());
        go.send(()).unwrap();
        assert!(jobs.outcome("a", LONG).await.unwrap().is_ok());
        assert!(jobs.running.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_cancelled_scan_ends_and_is_forgotten() {
        let jobs = Jobs::default();
        jobs.start("a", std::future::pending()).unwrap();
        jobs.cancel("a");
        assert!(jobs.outcome("a", LONG).await.is_none());
        assert!(jobs.running.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn there_is_an_end_to_those_who_wait() {
        let jobs = Jobs::default();
        for id in 0..WAITING {
            jobs.start(&id.to_string(), std::future::pending()).unwrap();
        }
        let refused = jobs.start("one more", std::future::pending());
        assert!(matches!(refused, Err(CatalogError::Unavailable(_))));
    }
}
