//! Repositories: reading states and committing to branches.

use std::{sync::Arc, time::Instant};

use firn_runtime::clock::{Clock, SystemClock};

use super::{
    Actor, Commit, CommitRequest, Committed, Content, EntryRange, Event, IdempotencyRecord, Key,
    MergeRequest, Merged, Resolved,
    apply::{self, Head},
    archive::Archive,
    count::Counts,
    group::{self, Outcome, Queues, Work},
    heads::HeadReads,
    history, merge,
    stored::NO_ANCESTOR,
    syntax::{self, MAIN, Step},
    tree,
    workspace::Workspace,
};
use crate::{
    CatalogError,
    error::Missing,
    store::{Hash, ReferenceMove, Refusal, Store, Write, Written},
};

/// What all repositories of a process share.
pub(super) struct Shared {
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) archive: Archive,
    pub(super) heads: Arc<HeadReads>,
    pub(super) queues: Queues,
    pub(super) counts: Counts,
}

/// Opens repositories; owns store and caches. Cheap to clone.
#[derive(Clone)]
pub struct VersionStore {
    shared: Arc<Shared>,
}

impl VersionStore {
    /// Over an open store, with `cache_bytes` for immutable objects.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, cache_bytes: u64) -> Self {
        Self::timed(store, cache_bytes, Arc::new(SystemClock))
    }

    /// The same by another clock than the machine's.
    pub(crate) fn timed(store: Arc<dyn Store>, cache_bytes: u64, clock: Arc<dyn Clock>) -> Self {
        let archive = Archive::new(Arc::clone(&store), cache_bytes);
        let heads = HeadReads::new(Arc::clone(&store), Arc::clone(&clock));
        Self {
            shared: Arc::new(Shared {
                store,
                clock,
                archive,
                heads,
                queues: Queues::default(),
                counts: Counts::default(),
            }),
        }
    }

    /// What its times are taken from.
    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.shared.clock
    }

    /// Creates the repository of a tenant with an empty `main`; one that exists is left alone.
    pub async fn create(&self, tenant: &str) -> Result<(), CatalogError> {
        let main = ReferenceMove { name: MAIN.to_owned(), tag: false, from: None, to: Some(*NO_ANCESTOR) };
        let write = Write {
            repository: tenant.to_owned(),
            create_repository: true,
            references: vec![main],
            ..Write::default()
        };
        match self.shared.store.write(&write).await? {
            Written::Done | Written::Refused(Refusal::Reference { .. }) => Ok(()),
            Written::Refused(refusal) => {
                Err(CatalogError::Internal(format!("repository '{tenant}' can't be created: {refusal:?}")))
            }
        }
    }

    /// The repository of a tenant; asks the database nothing.
    #[must_use]
    pub fn repository(&self, tenant: &str) -> Repository {
        Repository { shared: Arc::clone(&self.shared), name: Arc::from(tenant), actor: Arc::default() }
    }

    /// The newest access epoch of a tenant that any read told, and when that read began.
    #[must_use]
    pub fn seen_epoch(&self, tenant: &str) -> Option<(i64, Instant)> {
        self.shared.heads.seen_epoch(tenant)
    }

    /// A tenant's access epoch as it is now; `None` if it has no repository.
    pub async fn epoch(&self, tenant: &str) -> Result<Option<i64>, CatalogError> {
        self.shared.heads.epoch(&Arc::from(tenant)).await
    }

    /// To be called after a write that raised a tenant's access epoch.
    pub fn forget_epoch(&self, tenant: &str) {
        self.shared.heads.forget_epoch(tenant);
    }
}

/// One tenant's references, commits and content. Cheap to clone; all clones share the branch queues of group commit.
#[derive(Clone)]
pub struct Repository {
    pub(super) shared: Arc<Shared>,
    pub(super) name: Arc<str>,
    /// For whom changes are made.
    pub(super) actor: Arc<Actor>,
}

impl Repository {
    /// The same repository, whose changes are made for somebody.
    #[must_use]
    pub fn by(mut self, actor: Actor) -> Self {
        self.actor = Arc::new(actor);
        self
    }

    /// Looks a reference expression up, linearizably: `name`, `name@hash`, `name~2`, `name^2`, `name*instant`, a bare hash, `@hash`, or empty for `main`.
    pub async fn resolve(&self, expression: &str) -> Result<Resolved, CatalogError> {
        let parsed = syntax::parse(expression)?;
        let workspace = self.workspace();
        let reference = match &parsed.name {
            Some(name) => Some(self.shared.heads.read(&self.name, name).await?),
            None => None,
        };
        let mut hash =
            parsed.hash.or_else(|| reference.as_ref().map(|found| found.hash)).unwrap_or(*NO_ANCESTOR);
        if parsed.hash.is_some() {
            let head = reference.as_ref().map_or(hash, |found| found.hash);
            if !history::is_ancestor(&workspace, hash, head).await? {
                return Err(no_commit(expression, "the commit is not in the reference's history"));
            }
        }
        for step in &parsed.steps {
            hash = step_back(&workspace, hash, step, expression).await?;
        }
        let writable =
            parsed.hash.is_none() && parsed.steps.is_empty() && reference.as_ref().is_some_and(|r| !r.tag);
        Ok(Resolved { reference, hash, writable })
    }

    /// Where a branch was a moment ago, if this process knows: for changes, which find out if that is no longer so.
    #[must_use]
    pub fn recent(&self, branch: &str) -> Option<Resolved> {
        let reference = self.shared.heads.recent(&self.name, branch).filter(|found| !found.tag)?;
        Some(Resolved { hash: reference.hash, reference: Some(reference), writable: true })
    }

    /// Contents of keys at a commit, in the keys' order.
    pub async fn get(&self, at: Hash, keys: &[Key]) -> Result<Vec<Option<Content>>, CatalogError> {
        let workspace = self.workspace();
        let state = workspace.state(at).await?;
        let mut contents = Vec::with_capacity(keys.len());
        for key in keys {
            contents.push(state.get(&workspace, key).await?);
        }
        Ok(contents)
    }

    /// Keys and contents of a state in key order, within bounds; `true` if there are more.
    pub async fn entries(
        &self,
        at: Hash,
        range: &EntryRange,
    ) -> Result<(Vec<(Key, Content)>, bool), CatalogError> {
        let mut workspace = self.workspace();
        let root = workspace.root(at).await?;
        tree::entries(&workspace, root, range).await
    }

    /// Commits to a branch (group commit). Fails with `Conflict`, or `Unknown` if nobody can tell whether it landed. A request whose
    /// idempotency record is there already is answered with the earlier commit, or with `KeyReused` if it was another request.
    pub async fn commit(&self, request: CommitRequest) -> Result<Committed, CatalogError> {
        match group::submit(&self.shared, &self.name, &self.actor, Work::Commit(request)).await? {
            Outcome::Committed(committed) => Ok(committed),
            Outcome::Merged(merged) => Ok(Committed { hash: merged.hash, contents: Vec::new() }),
        }
    }

    /// Merges or transplants into a branch, in the same queue as commits. Conflicts are in the answer.
    pub async fn merge(&self, request: MergeRequest) -> Result<Merged, CatalogError> {
        if request.dry_run {
            let target = self.shared.heads.read(&self.name, &request.branch).await?;
            let mut workspace = self.workspace();
            let head = Head { hash: target.hash, root: workspace.root(target.hash).await? };
            return Ok(merge::merge(&mut workspace, head, &request).await?.1);
        }
        match group::submit(&self.shared, &self.name, &self.actor, Work::Merge(request)).await? {
            Outcome::Merged(merged) => Ok(merged),
            Outcome::Committed(committed) => {
                Ok(Merged { hash: committed.hash, base: None, applied: true, details: Vec::new() })
            }
        }
    }

    /// The answer to an earlier request with the same key, if there was one; `KeyReused` if that was another request.
    pub async fn replayed(&self, record: &IdempotencyRecord) -> Result<Option<Committed>, CatalogError> {
        replayed(&self.shared, &self.name, record).await
    }

    /// One commit.
    pub async fn commit_at(&self, hash: Hash) -> Result<Commit, CatalogError> {
        Ok(self.workspace().commit(hash).await?.commit.clone())
    }

    /// Commits from `from` along first parents, newest first, at most `limit`; `true` if there are more.
    pub async fn log(&self, from: Hash, limit: usize) -> Result<(Vec<Commit>, bool), CatalogError> {
        history::log(&self.workspace(), from, limit).await
    }

    /// Keys that differ between two states, in key order: content on either side.
    pub async fn diff(
        &self,
        from: Hash,
        to: Hash,
    ) -> Result<Vec<(Key, Option<Content>, Option<Content>)>, CatalogError> {
        let mut workspace = self.workspace();
        let (from, to) = (workspace.root(from).await?, workspace.root(to).await?);
        tree::diff(&workspace, from, to).await
    }

    /// One page of the keys that differ between two states; `true` if there are more. It costs what is on the page, however much
    /// differs elsewhere.
    pub async fn diff_page(
        &self,
        from: Hash,
        to: Hash,
        range: &EntryRange,
    ) -> Result<(Vec<(Key, Option<Content>, Option<Content>)>, bool), CatalogError> {
        let mut workspace = self.workspace();
        let (from, to) = (workspace.root(from).await?, workspace.root(to).await?);
        tree::diff_page(&workspace, from, to, range).await
    }

    /// The newest commit that both reach; Nessie's no-ancestor hash if there is none.
    pub async fn merge_base(&self, left: Hash, right: Hash) -> Result<Hash, CatalogError> {
        history::merge_base(&self.workspace(), left, right).await
    }

    /// Events after a number, in order.
    pub async fn events(&self, after: i64, limit: u32) -> Result<Vec<Event>, CatalogError> {
        let rows = self.shared.store.events(&self.name, after, limit).await?;
        rows.into_iter().map(Event::try_from).collect()
    }

    pub(super) fn workspace(&self) -> Workspace {
        Workspace::new(self.shared.archive.clone(), Arc::clone(&self.shared.clock), Arc::clone(&self.name))
    }
}

async fn step_back(
    workspace: &Workspace,
    from: Hash,
    step: &Step,
    expression: &str,
) -> Result<Hash, CatalogError> {
    let found = match step {
        Step::Back(count) => history::ancestor(workspace, from, *count).await?,
        Step::At(instant) => history::at_instant(workspace, from, *instant).await?,
        Step::Parent(0) => Some(from),
        Step::Parent(_) if from == *NO_ANCESTOR => None,
        Step::Parent(number) => workspace.commit(from).await?.commit.parents.get(number - 1).copied(),
    };
    found.ok_or_else(|| no_commit(expression, "the history doesn't go back that far"))
}

fn no_commit(expression: &str, why: &str) -> CatalogError {
    CatalogError::NotFound { what: Missing::Commit, name: expression.to_owned(), hint: format!(": {why}") }
}

/// See [`Repository::replayed`].
pub(super) async fn replayed(
    shared: &Shared,
    repository: &Arc<str>,
    record: &IdempotencyRecord,
) -> Result<Option<Committed>, CatalogError> {
    let Some(row) = shared.store.idempotency(repository, &record.key).await? else { return Ok(None) };
    let same = row.principal == record.principal
        && row.operation == record.operation
        && row.request_hash == record.request_hash;
    if !same {
        return Err(CatalogError::KeyReused(format!(
            "idempotency key '{}' was used for another request: use a fresh key for each request",
            record.key
        )));
    }
    match row.commit_hash {
        Some(hash) if hash == *NO_ANCESTOR => Ok(Some(Committed { hash, contents: Vec::new() })),
        Some(hash) => {
            let (archive, clock) = (shared.archive.clone(), Arc::clone(&shared.clock));
            let workspace = Workspace::new(archive, clock, Arc::clone(repository));
            Ok(Some(apply::answer_of(&workspace.commit(hash).await?)))
        }
        None => Ok(None),
    }
}
