//! The state of a commit: a tree that is stored, and the edits since then.
//!
//! To store a tree costs more than all else of a commit, since every edit makes the nodes on its way to the root anew. So
//! it is stored for every so many commits only; the others' states are made from it and from the operations in between.

use std::collections::BTreeMap;

use super::{
    Content, Key, tree,
    workspace::{EMPTY_ROOT, Workspace},
};
use crate::{CatalogError, store::Hash};

/// Commits on one stored tree. It bounds what a process reads that sees a branch for the first time.
pub(super) const MAX_COMMITS: usize = 512;

/// What some keys are set to; `None` removes one.
pub(super) type Edits = BTreeMap<Key, Option<Content>>;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct State {
    /// Root of the stored tree.
    root: Hash,
    /// What was changed since then.
    edits: Edits,
    /// By so many commits.
    commits: usize,
}

impl State {
    /// A tree that is stored.
    pub(super) fn stored(root: Hash) -> Self {
        Self { root, edits: Edits::new(), commits: 0 }
    }

    /// The state without keys.
    pub(super) fn empty() -> Self {
        Self::stored(*EMPTY_ROOT)
    }

    /// Whether it is time to store the tree.
    pub(super) fn is_due(&self) -> bool {
        self.commits >= MAX_COMMITS || self.edits.len() >= MAX_COMMITS
    }

    /// The content of a key.
    pub(super) async fn get(
        &self,
        workspace: &Workspace,
        key: &Key,
    ) -> Result<Option<Content>, CatalogError> {
        match self.edits.get(key) {
            Some(content) => Ok(content.clone()),
            None => tree::get(workspace, self.root, key).await,
        }
    }

    /// Sets keys; answers what takes that back.
    pub(super) fn edit(&mut self, edits: &Edits) -> Undo {
        let each = edits.iter().map(|(key, content)| (key, self.edits.insert(key.clone(), content.clone())));
        Undo(each.map(|(key, before)| (key.clone(), before)).collect())
    }

    /// Takes the newest edit back.
    pub(super) fn undo(&mut self, undo: Undo) {
        for (key, before) in undo.0 {
            match before {
                Some(before) => self.edits.insert(key, before),
                None => self.edits.remove(&key),
            };
        }
    }

    /// The edits since the last commit are another one's.
    pub(super) fn count_commit(&mut self) {
        self.commits += 1;
    }

    /// What a commit changed, on top.
    pub(super) fn apply(&mut self, operations: &[(Key, Option<Content>)]) {
        self.edits.extend(operations.iter().cloned());
        self.count_commit();
    }

    /// Root of the tree with all edits, whose nodes are added to the workspace.
    pub(super) async fn root(&self, workspace: &mut Workspace) -> Result<Hash, CatalogError> {
        if self.edits.is_empty() {
            return Ok(self.root);
        }
        tree::update(workspace, self.root, self.edits.clone()).await
    }

    /// How many keys were changed since the tree was stored.
    pub(super) fn edited_keys(&self) -> usize {
        self.edits.len()
    }
}

/// What some keys had in the edits before the newest one.
pub(super) struct Undo(Vec<(Key, Option<Option<Content>>)>);
