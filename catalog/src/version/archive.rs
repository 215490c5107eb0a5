//! The immutable objects of a repository, read through a cache that is bounded by bytes. Of several who ask for one object,
//! one reads it.

use std::sync::Arc;

use bytes::Bytes;
use moka::policy::EvictionPolicy;

use super::{
    node::{Node, NodeError},
    state::State,
    stored::{CommitError, StoredCommit},
    workspace::Settled,
};
use crate::{
    CatalogError,
    store::{Hash, Store, StoreError},
};

/// Decoded commits take about this many times the memory of their bytes.
const COMMIT_FACTOR: usize = 4;
/// And nodes, whose contents are text until somebody looks at them.
const NODE_FACTOR: usize = 2;
/// Beside its bytes: key, hash table and counters.
const OVERHEAD_BYTES: usize = 256;
/// Of a key's change since a tree was stored; contents are shared with the commits.
const EDIT_BYTES: usize = 512;
/// One part in so many of the cache is for states that aren't stored, and another for their trees.
const DERIVED_SHARE: u64 = 8;

/// Objects of all repositories. A tenant's objects are never found by another's key.
#[derive(Clone)]
pub(super) struct Archive {
    store: Arc<dyn Store>,
    cache: moka::future::Cache<Name, Cached>,
    /// States of commits whose trees aren't stored.
    states: moka::future::Cache<Name, Arc<State>>,
    /// Those trees, where somebody needed one.
    settled: moka::future::Cache<Name, Arc<Settled>>,
}

/// An object of a repository.
type Name = (Arc<str>, Hash);

#[derive(Clone)]
struct Cached {
    object: Object,
    bytes: usize,
}

impl Cached {
    /// In memory.
    fn size(&self) -> usize {
        match self.object {
            Object::Node(_) => self.bytes * NODE_FACTOR,
            Object::Commit(_) => self.bytes * COMMIT_FACTOR,
        }
    }
}

#[derive(Clone)]
enum Object {
    Node(Arc<Node>),
    Commit(Arc<StoredCommit>),
}

#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error("object {0} is missing")]
    Absent(Hash),
    #[error("object {0} does not have that hash: the database was changed by other means")]
    Altered(Hash),
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Archive {
    pub(super) fn new(store: Arc<dyn Store>, cache_bytes: u64) -> Self {
        let derived_bytes = cache_bytes / DERIVED_SHARE;
        Self {
            store,
            cache: bounded(cache_bytes - 2 * derived_bytes, Cached::size),
            states: bounded(derived_bytes, |state: &Arc<State>| state.edited_keys() * EDIT_BYTES),
            settled: bounded(derived_bytes, |settled: &Arc<Settled>| settled.bytes() * NODE_FACTOR),
        }
    }

    /// A commit's state, if it is remembered.
    pub(super) async fn state(&self, repository: &Arc<str>, at: Hash) -> Option<Arc<State>> {
        self.states.get(&(Arc::clone(repository), at)).await
    }

    /// Remembers a commit's state.
    pub(super) async fn remember_state(&self, repository: &Arc<str>, at: Hash, state: Arc<State>) {
        self.states.insert((Arc::clone(repository), at), state).await;
    }

    /// The tree of a commit's state; of several who ask for it one makes it.
    pub(super) async fn settled(
        &self,
        repository: &Arc<str>,
        at: Hash,
        make: impl Future<Output = Result<Settled, CatalogError>>,
    ) -> Result<Arc<Settled>, CatalogError> {
        let made = async { make.await.map(Arc::new) };
        let settled = self.settled.try_get_with((Arc::clone(repository), at), made).await;
        settled.map_err(|error| CatalogError::clone(&error))
    }

    /// A node, or `None` if it isn't stored.
    pub(super) async fn node(
        &self,
        repository: &Arc<str>,
        hash: Hash,
    ) -> Result<Option<Arc<Node>>, CatalogError> {
        match self.object(repository, hash).await? {
            Some(Object::Node(node)) => Ok(Some(node)),
            Some(Object::Commit(_)) | None => Ok(None),
        }
    }

    /// A commit, or `None` if it isn't stored.
    pub(super) async fn commit(
        &self,
        repository: &Arc<str>,
        hash: Hash,
    ) -> Result<Option<Arc<StoredCommit>>, CatalogError> {
        match self.object(repository, hash).await? {
            Some(Object::Commit(commit)) => Ok(Some(commit)),
            Some(Object::Node(_)) | None => Ok(None),
        }
    }

    /// Those of some commits that are stored, read at once.
    pub(super) async fn commits(
        &self,
        repository: &Arc<str>,
        hashes: &[Hash],
    ) -> Result<Vec<Arc<StoredCommit>>, CatalogError> {
        let (mut found, mut unknown) = (Vec::new(), Vec::new());
        for hash in hashes {
            match self.cache.get(&(Arc::clone(repository), *hash)).await {
                Some(Cached { object: Object::Commit(commit), .. }) => found.push(commit),
                Some(_) => {}
                None => unknown.push(*hash),
            }
        }
        if unknown.is_empty() {
            return Ok(found);
        }
        for (hash, data) in self.store.objects(repository, &unknown).await? {
            let cached = decode(hash, &data).map_err(|error| CatalogError::Internal(error.to_string()))?;
            if let Object::Commit(commit) = &cached.object {
                found.push(Arc::clone(commit));
            }
            self.cache.insert((Arc::clone(repository), hash), cached).await;
        }
        Ok(found)
    }

    /// Remembers a node that was just written.
    pub(super) async fn remember_node(
        &self,
        repository: &Arc<str>,
        hash: Hash,
        node: Arc<Node>,
        bytes: usize,
    ) {
        let cached = Cached { object: Object::Node(node), bytes };
        self.cache.insert((Arc::clone(repository), hash), cached).await;
    }

    /// Remembers a commit that was just written.
    pub(super) async fn remember_commit(
        &self,
        repository: &Arc<str>,
        commit: Arc<StoredCommit>,
        bytes: usize,
    ) {
        let key = (Arc::clone(repository), commit.commit.hash);
        self.cache.insert(key, Cached { object: Object::Commit(commit), bytes }).await;
    }

    async fn object(&self, repository: &Arc<str>, hash: Hash) -> Result<Option<Object>, CatalogError> {
        let key = (Arc::clone(repository), hash);
        // The common case without what it takes to wait for another's read.
        if let Some(cached) = self.cache.get(&key).await {
            return Ok(Some(cached.object));
        }
        match self.cache.try_get_with(key, self.load(repository, hash)).await {
            Ok(cached) => Ok(Some(cached.object)),
            Err(error) => match &*error {
                LoadError::Absent(_) => Ok(None),
                LoadError::Store(StoreError::Unavailable(_)) => {
                    Err(CatalogError::Unavailable(error.to_string()))
                }
                _ => Err(CatalogError::Internal(error.to_string())),
            },
        }
    }

    async fn load(&self, repository: &str, hash: Hash) -> Result<Cached, LoadError> {
        let found = self.store.objects(repository, &[hash]).await?;
        let (_, data): (Hash, Bytes) = found.into_iter().next().ok_or(LoadError::Absent(hash))?;
        decode(hash, &data)
    }
}

fn decode(hash: Hash, data: &[u8]) -> Result<Cached, LoadError> {
    if Hash::of(data) != hash {
        return Err(LoadError::Altered(hash));
    }
    let object = match data.first() {
        Some(2) => Object::Commit(Arc::new(StoredCommit::decode(hash, data)?)),
        _ => Object::Node(Arc::new(Node::decode(data)?)),
    };
    Ok(Cached { object, bytes: data.len() })
}

/// A cache of so many bytes.
fn bounded<V: Clone + Send + Sync + 'static>(
    bytes: u64,
    size: impl Fn(&V) -> usize + Send + Sync + 'static,
) -> moka::future::Cache<Name, V> {
    let weigh = move |_: &Name, value: &V| u32::try_from(size(value) + OVERHEAD_BYTES).unwrap_or(u32::MAX);
    // What was written last is read next, though it was never read before.
    let policy = EvictionPolicy::lru();
    moka::future::Cache::builder().max_capacity(bytes).weigher(weigh).eviction_policy(policy).build()
}
