//! Changing a tree: only the nodes on the paths to changed keys are made anew.

use std::{
    collections::{BTreeMap, btree_map::IntoIter},
    iter::Peekable,
    sync::Arc,
};

use super::super::{
    Content, Key,
    node::{Node, Slot},
    workspace::{EMPTY_ROOT, Workspace},
};
use crate::{CatalogError, store::Hash};

type Edits = BTreeMap<Key, Option<Slot>>;

/// Sets and removes keys; answers the new root. Works level by level: what changes among the nodes of one level are the edits
/// of the level above.
pub(in crate::version) async fn update(
    workspace: &mut Workspace,
    root: Hash,
    edits: BTreeMap<Key, Option<Content>>,
) -> Result<Hash, CatalogError> {
    let top = workspace.node(root).await?.level;
    let mut edits: Edits =
        edits.into_iter().map(|(key, content)| (key, content.map(Slot::Content))).collect();
    for level in 0..=top {
        if edits.is_empty() {
            return Ok(root);
        }
        let level_edits = rewrite_level(workspace, root, level, edits).await?;
        if level == top {
            let nodes = level_edits.made.into_iter().map(|(key, hash)| (key, Slot::Child(hash))).collect();
            return raise(workspace, level, nodes).await;
        }
        edits = level_edits.into_edits();
    }
    Ok(root)
}

/// The nodes of one level that went and those that came, by their last keys.
struct LevelEdits {
    gone: BTreeMap<Key, Hash>,
    made: BTreeMap<Key, Hash>,
}

impl LevelEdits {
    fn into_edits(self) -> Edits {
        let mut edits: Edits = self.gone.keys().map(|key| (key.clone(), None)).collect();
        for (key, hash) in self.made {
            if self.gone.get(&key) == Some(&hash) {
                edits.remove(&key);
            } else {
                edits.insert(key, Some(Slot::Child(hash)));
            }
        }
        edits
    }
}

async fn rewrite_level(
    workspace: &mut Workspace,
    root: Hash,
    level: u8,
    edits: Edits,
) -> Result<LevelEdits, CatalogError> {
    let mut done = LevelEdits { gone: BTreeMap::new(), made: BTreeMap::new() };
    let mut edits = edits.into_iter().peekable();
    while let Some(first) = edits.peek().map(|(key, _)| key.clone()) {
        let mut entries = Vec::new();
        let mut seek = first;
        // A node whose last key went has no end of its own any more: it runs on into the next one.
        loop {
            let found = node_at(workspace, root, level, &seek).await?;
            let end = if found.last { None } else { found.node.last_key() };
            merge(&found.node.entries, &mut edits, end, &mut entries);
            if let Some(key) = found.node.last_key() {
                done.gone.insert(key.clone(), found.hash);
                seek = key.successor();
            }
            let open = entries.last().is_some_and(|(key, _): &(Key, Slot)| !key.ends_node(level));
            if found.last || !open {
                break;
            }
        }
        done.made.extend(add_nodes(workspace, level, entries));
    }
    Ok(done)
}

struct Found {
    hash: Hash,
    node: Arc<Node>,
    /// No other node of the level is after it.
    last: bool,
}

/// The node of a level in whose range a key lies.
async fn node_at(workspace: &Workspace, root: Hash, level: u8, key: &Key) -> Result<Found, CatalogError> {
    let mut found = Found { hash: root, node: workspace.node(root).await?, last: true };
    while found.node.level > level {
        let ultimate = found.node.entries.len().saturating_sub(1);
        let position = found.node.position(key).min(ultimate);
        let Some((_, Slot::Child(child))) = found.node.entries.get(position) else {
            return Err(CatalogError::Internal(format!("tree node {} has no children", found.hash)));
        };
        let (hash, last) = (*child, found.last && position == ultimate);
        found = Found { hash, node: workspace.node(hash).await?, last };
    }
    Ok(found)
}

/// Appends a node's entries with the edits up to `end` applied (all that are left without an end).
fn merge(
    old: &[(Key, Slot)],
    edits: &mut Peekable<IntoIter<Key, Option<Slot>>>,
    end: Option<&Key>,
    entries: &mut Vec<(Key, Slot)>,
) {
    let mut old = old.iter().peekable();
    while let Some((key, slot)) = edits.next_if(|(key, _)| end.is_none_or(|end| key <= end)) {
        while let Some(kept) = old.next_if(|(other, _)| *other < key) {
            entries.push(kept.clone());
        }
        old.next_if(|(other, _)| *other == key);
        entries.extend(slot.map(|slot| (key, slot)));
    }
    entries.extend(old.cloned());
}

/// Cuts entries into nodes at the keys that end them.
fn add_nodes(workspace: &mut Workspace, level: u8, entries: Vec<(Key, Slot)>) -> Vec<(Key, Hash)> {
    let mut made = Vec::new();
    let mut node = Vec::new();
    let mut entries = entries.into_iter().peekable();
    while let Some((key, slot)) = entries.next() {
        let ends = key.ends_node(level) || entries.peek().is_none();
        node.push((key.clone(), slot));
        if ends {
            let hash = workspace.add_node(Node { level, entries: std::mem::take(&mut node) });
            made.push((key, hash));
        }
    }
    made
}

/// The root above all nodes of a level: levels are added until one has a single node, and those with a single child are left out.
async fn raise(workspace: &mut Workspace, level: u8, nodes: Vec<(Key, Slot)>) -> Result<Hash, CatalogError> {
    let (mut level, mut nodes) = (level, nodes);
    while nodes.len() > 1 {
        level += 1;
        let above = add_nodes(workspace, level, nodes);
        nodes = above.into_iter().map(|(key, hash)| (key, Slot::Child(hash))).collect();
    }
    let Some((_, Slot::Child(mut root))) = nodes.pop() else { return Ok(*EMPTY_ROOT) };
    loop {
        let node = workspace.node(root).await?;
        match node.entries.as_slice() {
            [(_, Slot::Child(only))] => root = *only,
            _ => return Ok(root),
        }
    }
}
