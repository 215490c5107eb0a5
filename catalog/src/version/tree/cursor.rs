//! Listing keys in order.

use std::sync::Arc;

use super::super::{
    Content, EntryRange, Key,
    node::{Node, Slot},
    workspace::Workspace,
};
use crate::{CatalogError, store::Hash};

/// Keys and contents within bounds; `true` if the limit left some out.
pub(in crate::version) async fn entries(
    workspace: &Workspace,
    root: Hash,
    range: &EntryRange,
) -> Result<(Vec<(Key, Content)>, bool), CatalogError> {
    let mut cursor = Cursor::seek(workspace, root, range).await?;
    let mut found = Vec::new();
    while let Some((key, content)) = cursor.next().await? {
        if is_beyond(range, &key) {
            break;
        }
        if found.len() == range.limit {
            return Ok((found, true));
        }
        found.push((key, content));
    }
    Ok((found, false))
}

/// Whether a key that isn't before a range is behind it.
pub(super) fn is_beyond(range: &EntryRange, key: &Key) -> bool {
    range.prefix.as_ref().is_some_and(|prefix| !key.starts_with(prefix))
        || range.max.as_ref().is_some_and(|max| key > max)
}

/// A place between keys: the path of nodes from the root, and the next entry in each.
pub(super) struct Cursor<'a> {
    workspace: &'a Workspace,
    path: Vec<(Arc<Node>, usize)>,
}

/// What is behind a place.
pub(super) enum Next {
    End,
    /// A node and its level.
    Node(Hash, u8),
    Entry(Key, Content),
}

impl<'a> Cursor<'a> {
    /// The first place of a range.
    pub(super) async fn seek(
        workspace: &'a Workspace,
        root: Hash,
        range: &EntryRange,
    ) -> Result<Self, CatalogError> {
        let after = range.after.as_ref().map(Key::successor);
        let start = [range.prefix.as_ref(), range.min.as_ref(), after.as_ref()].into_iter().flatten().max();
        let mut path = Vec::new();
        let mut hash = root;
        loop {
            let node = workspace.node(hash).await?;
            let position = start.map_or(0, |key| node.position(key));
            let child = match node.entries.get(position) {
                Some((_, Slot::Child(child))) => Some(*child),
                Some((_, Slot::Content(_))) | None => None,
            };
            // Above the leaves the entry is being visited: the next one is after it.
            path.push((node, if child.is_some() { position + 1 } else { position }));
            match child {
                Some(child) => hash = child,
                None => return Ok(Self { workspace, path }),
            }
        }
    }

    async fn next(&mut self) -> Result<Option<(Key, Content)>, CatalogError> {
        loop {
            match self.peek() {
                Next::End => return Ok(None),
                Next::Node(..) => self.enter().await?,
                Next::Entry(key, content) => {
                    self.skip();
                    return Ok(Some((key, content)));
                }
            }
        }
    }

    /// What comes next.
    pub(super) fn peek(&mut self) -> Next {
        while let Some((node, position)) = self.path.last() {
            match node.entries.get(*position) {
                Some((key, Slot::Content(content))) => return Next::Entry(key.clone(), content.clone()),
                Some((_, Slot::Child(child))) => return Next::Node(*child, node.level - 1),
                None => self.path.pop(),
            };
        }
        Next::End
    }

    /// Goes behind what comes next.
    pub(super) fn skip(&mut self) {
        if let Some((_, position)) = self.path.last_mut() {
            *position += 1;
        }
    }

    /// Goes into the node that comes next.
    pub(super) async fn enter(&mut self) -> Result<(), CatalogError> {
        if let Next::Node(hash, _) = self.peek() {
            let node = self.workspace.node(hash).await?;
            self.skip();
            self.path.push((node, 0));
        }
        Ok(())
    }
}
