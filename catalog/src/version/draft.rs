//! A branch's head with commits on top that are about to be written together.

use super::{apply::Head, state::State, workspace::Workspace};
use crate::{CatalogError, store::Hash};

/// See the module.
pub(super) struct Draft {
    /// The newest commit.
    hash: Hash,
    state: State,
    /// The tree below the state's edits was made here, so that it has to be written with the commits.
    new_tree: bool,
}

impl Draft {
    /// A commit and its state.
    pub(super) fn new(hash: Hash, state: State) -> Self {
        Self { hash, state, new_tree: false }
    }

    /// The newest commit.
    pub(super) fn hash(&self) -> Hash {
        self.hash
    }

    /// Its state, with what is being tried on top of it.
    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// See [`Draft::state`].
    pub(super) fn state_mut(&mut self) -> &mut State {
        &mut self.state
    }

    /// A commit was made of what was tried.
    pub(super) fn advance(&mut self, hash: Hash) {
        self.hash = hash;
        self.state.count_commit();
    }

    /// Commits were made that know their tree.
    pub(super) fn replace(&mut self, head: Head) {
        *self = Self { hash: head.hash, state: State::stored(head.root), new_tree: true };
    }

    /// With the tree of its state.
    pub(super) async fn head(&self, workspace: &mut Workspace) -> Result<Head, CatalogError> {
        Ok(Head { hash: self.hash, root: self.state.root(workspace).await? })
    }

    /// The newest commit and its state. If it is time to store the tree, the commit is sealed again, with its root, which is answered too.
    pub(super) async fn finish(
        self,
        workspace: &mut Workspace,
    ) -> Result<(Hash, State, Option<Hash>), CatalogError> {
        if !self.new_tree && !self.state.is_due() {
            return Ok((self.hash, self.state, None));
        }
        let Head { hash, root } = self.head(workspace).await?;
        Ok((workspace.seal_with_root(hash, root), State::stored(root), Some(root)))
    }
}
