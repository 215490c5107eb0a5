//! The immutable objects of a repository, read through a cache that is bounded by bytes. Of several who ask for one object,
//! one reads it.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    node::{Node, NodeError},
    stored::{CommitError, StoredCommit},
};
use crate::{
    CatalogError,
    store::{Hash, Store, StoreError},
};

/// Decoded objects take about this many times the memory of their bytes.
const DECODED_FACTOR: usize = 4;
/// Beside its bytes: key, hash table and counters.
const OVERHEAD_BYTES: usize = 256;

/// Objects of all repositories. A tenant's objects are never found by another's key.
#[derive(Clone)]
pub(super) struct Archive {
    store: Arc<dyn Store>,
    cache: moka::future::Cache<(Arc<str>, Hash), Cached>,
}

#[derive(Clone)]
struct Cached {
    object: Object,
    bytes: usize,
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
        let weigh = |_: &(Arc<str>, Hash), cached: &Cached| {
            u32::try_from(cached.bytes * DECODED_FACTOR + OVERHEAD_BYTES).unwrap_or(u32::MAX)
        };
        Self { store, cache: moka::future::Cache::builder().max_capacity(cache_bytes).weigher(weigh).build() }
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
        if Hash::of(&data) != hash {
            return Err(LoadError::Altered(hash));
        }
        let object = match data.first() {
            Some(2) => Object::Commit(Arc::new(StoredCommit::decode(hash, &data)?)),
            _ => Object::Node(Arc::new(Node::decode(&data)?)),
        };
        Ok(Cached { object, bytes: data.len() })
    }
}
