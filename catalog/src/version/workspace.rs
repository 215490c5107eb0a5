//! What one operation sees of a repository: what is stored, and beside it what the operation made itself.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::{
    archive::Archive,
    node::{Node, Slot},
    stored::{NO_ANCESTOR, StoredCommit},
    tree,
};
use crate::{CatalogError, clock::Clock, error::Missing, store::Hash};

/// Root of the state without keys; never stored.
pub(super) static EMPTY_ROOT: LazyLock<Hash> = LazyLock::new(|| Hash::of(&Node::empty().encode()));

/// See the module.
#[derive(Clone)]
pub(super) struct Workspace {
    archive: Archive,
    clock: Arc<dyn Clock>,
    repository: Arc<str>,
    nodes: HashMap<Hash, (Arc<Node>, Bytes)>,
    commits: HashMap<Hash, (Arc<StoredCommit>, Bytes)>,
}

impl Workspace {
    pub(super) fn new(archive: Archive, clock: Arc<dyn Clock>, repository: Arc<str>) -> Self {
        Self { archive, clock, repository, nodes: HashMap::new(), commits: HashMap::new() }
    }

    /// Now, in the microseconds that are stored.
    pub(super) fn now(&self) -> DateTime<Utc> {
        let now = self.clock.now();
        DateTime::from_timestamp_micros(now.timestamp_micros()).unwrap_or(now)
    }

    /// A node that must exist.
    pub(super) async fn node(&self, hash: Hash) -> Result<Arc<Node>, CatalogError> {
        self.find_node(hash).await?.ok_or_else(|| {
            CatalogError::Internal(format!(
                "tree node {hash} of '{}' is missing from the database",
                self.repository
            ))
        })
    }

    /// Whether a node is stored.
    pub(super) async fn has_node(&self, hash: Hash) -> Result<bool, CatalogError> {
        Ok(self.find_node(hash).await?.is_some())
    }

    async fn find_node(&self, hash: Hash) -> Result<Option<Arc<Node>>, CatalogError> {
        if hash == *EMPTY_ROOT {
            return Ok(Some(Arc::new(Node::empty())));
        }
        match self.nodes.get(&hash) {
            Some((node, _)) => Ok(Some(Arc::clone(node))),
            None => self.archive.node(&self.repository, hash).await,
        }
    }

    /// Adds a node.
    pub(super) fn add_node(&mut self, node: Node) -> Hash {
        let bytes = node.encode();
        let hash = Hash::of(&bytes);
        self.nodes.insert(hash, (Arc::new(node), bytes));
        hash
    }

    /// A commit, or an error that says it doesn't exist. The no-ancestor hash is no commit.
    pub(super) async fn commit(&self, hash: Hash) -> Result<Arc<StoredCommit>, CatalogError> {
        if let Some((commit, _)) = self.commits.get(&hash) {
            return Ok(Arc::clone(commit));
        }
        let found = self.archive.commit(&self.repository, hash).await?;
        found.ok_or_else(|| CatalogError::NotFound {
            what: Missing::Commit,
            name: hash.to_string(),
            hint: ": it was never made in this repository, or garbage collection removed it".to_owned(),
        })
    }

    /// Seals and adds a commit; answers its hash.
    pub(super) fn add_commit(&mut self, mut commit: StoredCommit) -> Hash {
        let bytes = commit.seal();
        let hash = commit.commit.hash;
        self.commits.insert(hash, (Arc::new(commit), bytes));
        hash
    }

    /// Seals a commit again, with the root of its state, if it was made here without; answers its hash, which is another then.
    /// Only for the newest commit: nothing may name it yet.
    pub(super) fn seal_with_root(&mut self, hash: Hash, root: Hash) -> Hash {
        match self.commits.get(&hash) {
            Some((commit, _)) if commit.root.is_none() => {
                let commit = StoredCommit { root: Some(root), ..(**commit).clone() };
                self.commits.remove(&hash);
                self.add_commit(commit)
            }
            _ => hash,
        }
    }

    /// Takes commits back that turned out not to be wanted: those from `newest` down to, and without, `head`.
    pub(super) fn drop_commits_after(&mut self, head: Hash, newest: Hash) {
        let mut hash = newest;
        while hash != head
            && let Some((commit, _)) = self.commits.remove(&hash)
        {
            hash = commit.parent();
        }
    }

    /// The root of a commit's state. Of several commits that were written together only the newest one's state is stored; the
    /// others' are made again here from the nearest stored state before them.
    pub(super) async fn root(&mut self, at: Hash) -> Result<Hash, CatalogError> {
        let mut unstored = Vec::new();
        let mut hash = at;
        let mut root = loop {
            if hash == *NO_ANCESTOR {
                break *EMPTY_ROOT;
            }
            let commit = self.commit(hash).await?;
            if let Some(root) = commit.root
                && self.find_node(root).await?.is_some()
            {
                break root;
            }
            hash = commit.parent();
            unstored.push(commit);
        };
        for commit in unstored.into_iter().rev() {
            root = tree::update(self, root, commit.commit.operations.iter().cloned().collect()).await?;
            if commit.root.is_some_and(|known| known != root) {
                let hash = commit.commit.hash;
                return Err(CatalogError::Internal(format!(
                    "the state of commit {hash} can't be made again"
                )));
            }
        }
        Ok(root)
    }

    /// What must be stored for a state and all commits made here: new nodes below `root`, and the commits.
    pub(super) fn objects(&self, root: Hash) -> Vec<(Hash, Bytes)> {
        let mut objects: Vec<(Hash, Bytes)> =
            self.commits.iter().map(|(hash, (_, bytes))| (*hash, bytes.clone())).collect();
        let mut below = vec![root];
        while let Some(hash) = below.pop() {
            let Some((node, bytes)) = self.nodes.get(&hash) else { continue };
            objects.push((hash, bytes.clone()));
            below.extend(node.entries.iter().filter_map(|(_, slot)| match slot {
                Slot::Child(child) => Some(*child),
                Slot::Content(_) => None,
            }));
        }
        objects
    }

    /// Puts what was stored into the cache.
    pub(super) async fn remember(&self, objects: &[(Hash, Bytes)]) {
        for (hash, bytes) in objects {
            if let Some((node, _)) = self.nodes.get(hash) {
                self.archive.remember_node(&self.repository, *hash, Arc::clone(node), bytes.len()).await;
            } else if let Some((commit, _)) = self.commits.get(hash) {
                self.archive.remember_commit(&self.repository, Arc::clone(commit), bytes.len()).await;
            }
        }
    }
}
