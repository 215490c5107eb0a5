//! What one operation sees of a repository: what is stored, and beside it what the operation made itself.

use std::{
    collections::{HashMap, HashSet},
    iter::once,
    sync::{Arc, LazyLock},
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use firn_runtime::clock::Clock;

use super::{
    archive::Archive,
    node::{Node, Slot},
    state::State,
    stored::{NO_ANCESTOR, StoredCommit},
};
use crate::{CatalogError, error::Missing, store::Hash};

/// So many commits of a branch are read one after another before more are read at once.
const ONE_BY_ONE: usize = 4;

/// Root of the state without keys; never stored.
pub(super) static EMPTY_ROOT: LazyLock<Hash> = LazyLock::new(|| Hash::of(&Node::empty().encode()));

/// Nodes that aren't stored, with their bytes.
type NewNodes = HashMap<Hash, (Arc<Node>, Bytes)>;

/// The tree of a state that isn't stored: what it has beside stored nodes.
pub(super) struct Settled {
    root: Hash,
    nodes: NewNodes,
}

impl Settled {
    /// Bytes of its nodes.
    pub(super) fn bytes(&self) -> usize {
        self.nodes.values().map(|(_, bytes)| bytes.len()).sum()
    }
}

/// See the module.
#[derive(Clone)]
pub(super) struct Workspace {
    archive: Archive,
    clock: Arc<dyn Clock>,
    repository: Arc<str>,
    nodes: NewNodes,
    /// Nodes of states whose trees aren't stored.
    settled: Vec<Arc<Settled>>,
    commits: HashMap<Hash, (Arc<StoredCommit>, Bytes)>,
}

impl Workspace {
    pub(super) fn new(archive: Archive, clock: Arc<dyn Clock>, repository: Arc<str>) -> Self {
        Self {
            archive,
            clock,
            repository,
            nodes: NewNodes::new(),
            settled: Vec::new(),
            commits: HashMap::new(),
        }
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
        let here = once(&self.nodes).chain(self.settled.iter().map(|settled| &settled.nodes));
        match here.filter_map(|nodes| nodes.get(&hash)).next() {
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

    /// A commit's state.
    pub(super) async fn state(&self, at: Hash) -> Result<Arc<State>, CatalogError> {
        let mut since = Vec::new();
        let mut hash = at;
        let before = loop {
            if hash == *NO_ANCESTOR {
                break Arc::new(State::empty());
            }
            if let Some(state) = self.archive.state(&self.repository, hash).await {
                break state;
            }
            let commit = self.commit(hash).await?;
            if let Some(root) = commit.root
                && self.has_node(root).await?
            {
                break Arc::new(State::stored(root));
            }
            hash = commit.parent();
            if since.len() >= ONE_BY_ONE && since.len().is_power_of_two() {
                self.fetch_ancestors(&commit, since.len() as u64).await?;
            }
            since.push(commit);
        };
        if since.is_empty() {
            return Ok(before);
        }
        let mut state = State::clone(&before);
        for commit in since.iter().rev() {
            state.apply(&commit.commit.operations);
        }
        Ok(self.remember_state(at, state).await)
    }

    /// Reads a commit's ancestors of `count` generations, in few rounds: with each of them it is known where its parent is and
    /// where its jump leads, and so in each round about half of the way that is left.
    async fn fetch_ancestors(&self, from: &StoredCommit, count: u64) -> Result<(), CatalogError> {
        let last = from.depth.saturating_sub(count);
        let mut seen = HashSet::from([*NO_ANCESTOR]);
        let mut wanted = vec![from.parent(), from.jump];
        loop {
            wanted.retain(|hash| seen.insert(*hash));
            if wanted.is_empty() {
                return Ok(());
            }
            let found = self.archive.commits(&self.repository, &wanted).await?;
            let near = found.iter().filter(|commit| commit.depth > last);
            wanted = near.flat_map(|commit| [commit.parent(), commit.jump]).collect();
        }
    }

    /// The root of a commit's state. The nodes of a tree that isn't stored are made, and are seen by this workspace.
    pub(super) async fn root(&mut self, at: Hash) -> Result<Hash, CatalogError> {
        let state = self.state(at).await?;
        if state.edited_keys() == 0 {
            return state.root(self).await;
        }
        let settled = self.archive.settled(&self.repository, at, self.settle(at, &state)).await?;
        let root = settled.root;
        self.settled.push(settled);
        Ok(root)
    }

    async fn settle(&self, at: Hash, state: &State) -> Result<Settled, CatalogError> {
        let mut workspace =
            Self::new(self.archive.clone(), Arc::clone(&self.clock), Arc::clone(&self.repository));
        let root = state.root(&mut workspace).await?;
        if at != *NO_ANCESTOR && self.commit(at).await?.root.is_some_and(|known| known != root) {
            return Err(CatalogError::Internal(format!("the state of commit {at} can't be made again")));
        }
        Ok(Settled { root, nodes: workspace.nodes })
    }

    /// What must be stored for all commits made here: the commits, and new nodes below `root`.
    pub(super) fn objects(&self, root: Option<Hash>) -> Vec<(Hash, Bytes)> {
        let mut objects: Vec<(Hash, Bytes)> =
            self.commits.iter().map(|(hash, (_, bytes))| (*hash, bytes.clone())).collect();
        let mut below: Vec<Hash> = root.into_iter().collect();
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

    /// Puts a commit's state into the cache, unless it is found by its stored tree alone.
    pub(super) async fn remember_state(&self, at: Hash, state: State) -> Arc<State> {
        let state = Arc::new(state);
        if state.edited_keys() > 0 {
            self.archive.remember_state(&self.repository, at, Arc::clone(&state)).await;
        }
        state
    }
}
