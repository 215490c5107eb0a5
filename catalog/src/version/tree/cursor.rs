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
    let after = range.after.as_ref().map(Key::successor);
    let start = [range.prefix.as_ref(), range.min.as_ref(), after.as_ref()].into_iter().flatten().max();
    let mut cursor = Cursor::seek(workspace, root, start).await?;
    let mut found = Vec::new();
    while let Some((key, content)) = cursor.next().await? {
        let within = range.prefix.as_ref().is_none_or(|prefix| key.starts_with(prefix))
            && range.max.as_ref().is_none_or(|max| key <= *max);
        if !within {
            break;
        }
        if found.len() == range.limit {
            return Ok((found, true));
        }
        found.push((key, content));
    }
    Ok((found, false))
}

/// A place between keys: the path of nodes from the root, and the next entry in each.
struct Cursor<'a> {
    workspace: &'a Workspace,
    path: Vec<(Arc<Node>, usize)>,
}

impl<'a> Cursor<'a> {
    async fn seek(workspace: &'a Workspace, root: Hash, start: Option<&Key>) -> Result<Self, CatalogError> {
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
        while let Some((node, position)) = self.path.last_mut() {
            let entry = node.entries.get(*position);
            *position += 1;
            match entry {
                Some((key, Slot::Content(content))) => return Ok(Some((key.clone(), content.clone()))),
                Some((_, Slot::Child(child))) => {
                    let child = self.workspace.node(*child).await?;
                    self.path.push((child, 0));
                }
                None => {
                    self.path.pop();
                }
            }
        }
        Ok(None)
    }
}
