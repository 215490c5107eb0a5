//! Head reads that coalesce: a request waits for the first SELECT that starts after it arrived, and one SELECT answers all who wait
//! for it. So reads are linearizable over any number of replicas, and the database sees one head SELECT at a time per
//! repository and replica however many clients there are.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use firn_auth::Policy;
use firn_runtime::clock::Clock;
use tokio::sync::oneshot;

use super::NamedRef;
use crate::{
    CatalogError,
    error::Missing,
    store::{Heads, ReferenceRow, Store, StoreError},
};

/// Branches whose last known head is kept.
const RECENT_HEADS: u64 = 10_000;
/// Repositories whose access epoch is kept.
const RECENT_EPOCHS: u64 = 50_000;
/// More than this many waiting for one repository's next SELECT are turned away.
const MAX_WAITING: usize = 16_384;

type Answer = Result<Option<Arc<Heads>>, Arc<StoreError>>;

/// All head reads of a process.
pub(super) struct HeadReads {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    /// Who waits for the next SELECT. A repository has an entry while a task is reading its heads.
    waiting: Mutex<HashMap<Arc<str>, Vec<Waiting>>>,
    /// Where references were when this process last read or moved them. Only for those who find out if that is no longer so.
    recent: moka::sync::Cache<(Arc<str>, String), NamedRef>,
    /// The newest access epochs, and when the SELECTs that told them began. What doesn't exist has one, too: tokens are checked
    /// against the system's revocations, and there may be none.
    epochs: moka::sync::Cache<Arc<str>, (i64, Instant)>,
}

struct Waiting {
    name: String,
    answer: oneshot::Sender<Answer>,
}

impl HeadReads {
    pub(super) fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Arc<Self> {
        let recent = moka::sync::Cache::new(RECENT_HEADS);
        let epochs = moka::sync::Cache::new(RECENT_EPOCHS);
        Arc::new(Self { store, clock, waiting: Mutex::default(), recent, epochs })
    }

    /// A reference as it is now.
    pub(super) async fn read(
        self: &Arc<Self>,
        repository: &Arc<str>,
        name: &str,
    ) -> Result<NamedRef, CatalogError> {
        let answered = self.ask(repository, name)?.await;
        let heads = answered.map_err(|_| CatalogError::Internal("a head read was abandoned".to_owned()))?;
        let heads =
            heads.map_err(|error| CatalogError::from(&*error))?.ok_or_else(|| no_tenant(repository))?;
        let found = heads.references.iter().find(|row| row.name == name);
        found.cloned().map(NamedRef::from).ok_or_else(|| no_reference(name))
    }

    /// The access epoch as it is now; `None` if there is no such repository.
    pub(super) async fn epoch(self: &Arc<Self>, repository: &Arc<str>) -> Result<Option<i64>, CatalogError> {
        // No reference has an empty name: this asks for nothing but the epoch.
        let answered = self.ask(repository, "")?.await;
        let heads = answered.map_err(|_| CatalogError::Internal("a head read was abandoned".to_owned()))?;
        Ok(heads.map_err(|error| CatalogError::from(&*error))?.map(|heads| heads.access_epoch))
    }

    /// The newest access epoch that any head read told, and when that read began.
    pub(super) fn seen_epoch(&self, repository: &str) -> Option<(i64, Instant)> {
        self.epochs.get(repository)
    }

    /// Forgets the epoch after this process raised it.
    pub(super) fn forget_epoch(&self, repository: &str) {
        self.epochs.invalidate(repository);
    }

    fn note_epoch(&self, repository: &Arc<str>, epoch: i64, began: Instant) {
        self.epochs.insert(Arc::clone(repository), (epoch, began));
    }

    /// Where a reference was a moment ago: good enough for a commit, which compares and swaps.
    pub(super) fn recent(&self, repository: &Arc<str>, name: &str) -> Option<NamedRef> {
        self.recent.get(&(Arc::clone(repository), name.to_owned()))
    }

    /// Remembers where a reference is.
    pub(super) fn note(&self, repository: &Arc<str>, reference: NamedRef) {
        self.recent.insert((Arc::clone(repository), reference.name.clone()), reference);
    }

    fn ask(
        self: &Arc<Self>,
        repository: &Arc<str>,
        name: &str,
    ) -> Result<oneshot::Receiver<Answer>, CatalogError> {
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { name: name.to_owned(), answer };
        let mut all = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get_mut(repository) {
            Some(others) if others.len() >= MAX_WAITING => {
                return Err(CatalogError::Unavailable(format!(
                    "too many requests wait for the heads of '{repository}'"
                )));
            }
            Some(others) => others.push(waiting),
            None => {
                all.insert(Arc::clone(repository), vec![waiting]);
                let reading =
                    Reading { reads: Arc::clone(self), repository: Arc::clone(repository), finished: false };
                tokio::spawn(reading.run());
            }
        }
        Ok(answered)
    }
}

/// The task that reads the heads of one repository until nobody waits.
struct Reading {
    reads: Arc<HeadReads>,
    repository: Arc<str>,
    finished: bool,
}

impl Reading {
    async fn run(mut self) {
        loop {
            // Requests that are ready to ask do so first. Where the machine is busy, one SELECT then answers more of them; where
            // it isn't, this takes no time.
            tokio::task::yield_now().await;
            let Some(waiting) = self.take() else { return };
            let names: BTreeSet<&str> = waiting.iter().map(|waiting| waiting.name.as_str()).collect();
            let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
            let began = self.reads.clock.instant();
            let answer = self.reads.store.heads(&self.repository, &names).await;
            let answer: Answer = answer.map(|heads| heads.map(Arc::new)).map_err(Arc::new);
            if let Ok(None) = &answer {
                self.reads.note_epoch(&self.repository, Policy::NO_EPOCH, began);
            }
            if let Ok(Some(heads)) = &answer {
                self.reads.note_epoch(&self.repository, heads.access_epoch, began);
                for row in &heads.references {
                    self.reads.note(&self.repository, NamedRef::from(row.clone()));
                }
            }
            for waiting in waiting {
                // Who no longer waits needs no answer.
                drop(waiting.answer.send(answer.clone()));
            }
        }
    }

    /// Those who wait now; removes the entry if nobody does.
    fn take(&mut self) -> Option<Vec<Waiting>> {
        let mut all = self.reads.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get_mut(&self.repository) {
            Some(waiting) if !waiting.is_empty() => Some(std::mem::take(waiting)),
            _ => {
                all.remove(&self.repository);
                self.finished = true;
                None
            }
        }
    }
}

impl Drop for Reading {
    /// If the task ends early (a panic, a runtime shutting down), nobody is left waiting for it.
    fn drop(&mut self) {
        if !self.finished {
            self.reads.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.repository);
        }
    }
}

pub(super) fn no_tenant(repository: &str) -> CatalogError {
    CatalogError::NotFound { what: Missing::Tenant, name: repository.to_owned(), hint: String::new() }
}

pub(super) fn no_reference(name: &str) -> CatalogError {
    CatalogError::NotFound { what: Missing::Reference, name: name.to_owned(), hint: String::new() }
}

impl From<ReferenceRow> for NamedRef {
    fn from(row: ReferenceRow) -> Self {
        Self { name: row.name, tag: row.tag, hash: row.hash }
    }
}
