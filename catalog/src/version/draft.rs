//! A branch's head with commits on top that are about to be written together.
//!
//! Making a tree anew for each of them would cost more than all else: every edit makes the nodes on its way to the root anew.
//! So edits are kept beside the tree, and only the newest commit gets the root of its state. The states of those before it
//! are made again from their operations if ever somebody asks: see [`Workspace::root`].

use std::collections::BTreeMap;

use super::{Content, Key, apply::Head, tree, workspace::Workspace};
use crate::{CatalogError, store::Hash};

/// What some keys are set to; `None` removes one.
pub(super) type Edits = BTreeMap<Key, Option<Content>>;

/// See the module.
pub(super) struct Draft {
    /// The newest commit.
    hash: Hash,
    /// Root of the state below the edits.
    root: Hash,
    edits: Edits,
}

impl Draft {
    pub(super) fn new(head: Head) -> Self {
        Self { hash: head.hash, root: head.root, edits: Edits::new() }
    }

    /// The newest commit.
    pub(super) fn hash(&self) -> Hash {
        self.hash
    }

    /// A commit was made on top.
    pub(super) fn advance(&mut self, hash: Hash) {
        self.hash = hash;
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

    /// Root of the state with all edits.
    pub(super) async fn root(&self, workspace: &mut Workspace) -> Result<Hash, CatalogError> {
        if self.edits.is_empty() {
            return Ok(self.root);
        }
        tree::update(workspace, self.root, self.edits.clone()).await
    }

    /// Puts the edits into the tree.
    pub(super) async fn flush(&mut self, workspace: &mut Workspace) -> Result<Head, CatalogError> {
        self.root = self.root(workspace).await?;
        self.edits.clear();
        Ok(Head { hash: self.hash, root: self.root })
    }
}

/// What a key had in the edits before the newest one.
pub(super) struct Undo(Vec<(Key, Option<Option<Content>>)>);
