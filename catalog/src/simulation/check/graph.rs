//! All commits that a branch ever led to, when they came about, and the states they add up to.

use std::collections::BTreeMap;

use super::super::{database::Moved, ledger::Count};
use crate::{
    CatalogError,
    store::Hash,
    version::{Commit, Content, Key, NO_ANCESTOR, Repository},
};

/// What keys hold.
pub(super) type State = BTreeMap<Key, Content>;

/// See the module.
pub(super) struct Graph {
    pub(super) commits: BTreeMap<Hash, Commit>,
    /// With which move each commit could be seen first.
    pub(super) landed: BTreeMap<Hash, Count>,
    states: BTreeMap<Hash, State>,
    nothing: State,
}

impl Graph {
    pub(super) async fn read(repository: &Repository, journal: &[Moved]) -> Result<Self, CatalogError> {
        let states = BTreeMap::from([(*NO_ANCESTOR, State::new())]);
        let (commits, landed) = (BTreeMap::new(), BTreeMap::new());
        let mut graph = Self { commits, landed, states, nothing: State::new() };
        for moved in journal {
            let mut waiting = Vec::from_iter(moved.to);
            while let Some(hash) = waiting.pop() {
                if hash == *NO_ANCESTOR || graph.landed.contains_key(&hash) {
                    continue;
                }
                let commit = repository.commit_at(hash).await?;
                waiting.extend(&commit.parents);
                graph.landed.insert(hash, moved.at);
                graph.commits.insert(hash, commit);
            }
            if let Some(head) = moved.to {
                graph.add_up(head);
            }
        }
        Ok(graph)
    }

    /// The state of a commit, by the operations that led to it.
    pub(super) fn state(&self, hash: Hash) -> &State {
        self.states.get(&hash).unwrap_or(&self.nothing)
    }

    /// Whether a commit is another's ancestor along first parents, or that one itself.
    pub(super) fn descends(&self, head: Hash, from: Hash) -> bool {
        let mut hash = head;
        while hash != from && hash != *NO_ANCESTOR {
            hash = self.parent(hash);
        }
        hash == from
    }

    /// Makes the states up to a commit, along first parents. Others' were made when a branch led to them.
    fn add_up(&mut self, head: Hash) {
        let (mut missing, mut hash) = (Vec::new(), head);
        while !self.states.contains_key(&hash) {
            missing.push(hash);
            hash = self.parent(hash);
        }
        let mut state = self.state(hash).clone();
        for hash in missing.into_iter().rev() {
            let operations = self.commits.get(&hash).map(|commit| commit.operations.clone());
            for (key, content) in operations.unwrap_or_default() {
                match content {
                    Some(content) => drop(state.insert(key, content)),
                    None => drop(state.remove(&key)),
                }
            }
            self.states.insert(hash, state.clone());
        }
    }

    fn parent(&self, hash: Hash) -> Hash {
        self.commits.get(&hash).and_then(|commit| commit.parents.first().copied()).unwrap_or(*NO_ANCESTOR)
    }
}
