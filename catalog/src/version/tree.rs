//! The prolly tree: a search tree whose node boundaries depend on the keys alone (after Noms). Equal states have equal roots
//! whatever the order in which they came about, so that a diff visits only nodes that differ.
//!
//! On each level a node ends at the keys that [`Key::ends_node`] names; the root is the lowest level's only node.

mod cursor;
mod diff;
mod edit;

#[cfg(test)]
mod model;

use super::{Content, Key, node::Slot, workspace::Workspace};
use crate::{CatalogError, store::Hash};

pub(super) use cursor::entries;
pub(super) use diff::{diff, diff_page};
pub(super) use edit::update;

/// The content of a key.
pub(super) async fn get(
    workspace: &Workspace,
    root: Hash,
    key: &Key,
) -> Result<Option<Content>, CatalogError> {
    let mut hash = root;
    loop {
        let node = workspace.node(hash).await?;
        match node.entries.get(node.position(key)) {
            Some((_, Slot::Child(child))) => hash = *child,
            Some((found, Slot::Content(content))) if found == key => return Ok(Some(content.clone())),
            Some((_, Slot::Content(_))) | None => return Ok(None),
        }
    }
}
