//! Keys that differ between two states.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashSet},
};

use super::{
    super::{Content, EntryRange, Key, node::Slot, workspace::Workspace},
    cursor::{Cursor, Next, is_beyond},
};
use crate::{CatalogError, store::Hash};

/// A key and its content on either side.
pub(in crate::version) type Difference = (Key, Option<Content>, Option<Content>);

/// Keys that differ, in key order. Goes down both trees level by level and drops the nodes that both have: what remains is
/// what changed, and the paths to it.
pub(in crate::version) async fn diff(
    workspace: &Workspace,
    from: Hash,
    to: Hash,
) -> Result<Vec<Difference>, CatalogError> {
    let mut left = Side { level: workspace.node(from).await?.level, hashes: vec![from] };
    let mut right = Side { level: workspace.node(to).await?.level, hashes: vec![to] };
    loop {
        drop_common(&mut left.hashes, &mut right.hashes);
        let level = left.level.max(right.level);
        if level == 0 {
            break;
        }
        for side in [&mut left, &mut right] {
            if side.level == level {
                side.descend(workspace).await?;
            }
        }
    }
    let mut keys: BTreeMap<Key, (Option<Content>, Option<Content>)> = BTreeMap::new();
    for (key, content) in left.contents(workspace).await? {
        keys.entry(key).or_default().0 = Some(content);
    }
    for (key, content) in right.contents(workspace).await? {
        keys.entry(key).or_default().1 = Some(content);
    }
    let differing = keys.into_iter().filter(|(_, (from, to))| from != to);
    Ok(differing.map(|(key, (from, to))| (key, from, to)).collect())
}

/// One page of them, within bounds; `true` if the limit left some out. It costs what differs on the page, and the paths to it:
/// both trees are walked side by side, past the nodes that both have.
pub(in crate::version) async fn diff_page(
    workspace: &Workspace,
    from: Hash,
    to: Hash,
    range: &EntryRange,
) -> Result<(Vec<Difference>, bool), CatalogError> {
    let mut left = Cursor::seek(workspace, from, range).await?;
    let mut right = Cursor::seek(workspace, to, range).await?;
    let mut found = Vec::new();
    loop {
        let difference = match (left.peek(), right.peek()) {
            (Next::End, Next::End) => return Ok((found, false)),
            (Next::Node(one, _), Next::Node(other, _)) if one == other => {
                left.skip();
                right.skip();
                continue;
            }
            (Next::Node(_, one), Next::Node(_, other)) => {
                if one >= other {
                    left.enter().await?;
                }
                if other >= one {
                    right.enter().await?;
                }
                continue;
            }
            (Next::Node(..), _) => {
                left.enter().await?;
                continue;
            }
            (_, Next::Node(..)) => {
                right.enter().await?;
                continue;
            }
            (Next::Entry(key, old), Next::Entry(other, new)) => match key.cmp(&other) {
                Ordering::Less => removed(&mut left, key, old),
                Ordering::Greater => added(&mut right, other, new),
                Ordering::Equal => {
                    left.skip();
                    right.skip();
                    if old == new {
                        continue;
                    }
                    (key, Some(old), Some(new))
                }
            },
            (Next::Entry(key, old), Next::End) => removed(&mut left, key, old),
            (Next::End, Next::Entry(key, new)) => added(&mut right, key, new),
        };
        if is_beyond(range, &difference.0) {
            return Ok((found, false));
        }
        if found.len() == range.limit {
            return Ok((found, true));
        }
        found.push(difference);
    }
}

fn removed(left: &mut Cursor<'_>, key: Key, content: Content) -> Difference {
    left.skip();
    (key, Some(content), None)
}

fn added(right: &mut Cursor<'_>, key: Key, content: Content) -> Difference {
    right.skip();
    (key, None, Some(content))
}

/// Nodes of one level of one tree.
struct Side {
    level: u8,
    hashes: Vec<Hash>,
}

impl Side {
    async fn descend(&mut self, workspace: &Workspace) -> Result<(), CatalogError> {
        let mut below = Vec::new();
        for hash in &self.hashes {
            let node = workspace.node(*hash).await?;
            below.extend(node.entries.iter().filter_map(|(_, slot)| match slot {
                Slot::Child(child) => Some(*child),
                Slot::Content(_) => None,
            }));
        }
        self.hashes = below;
        self.level -= 1;
        Ok(())
    }

    /// The contents of leaves.
    async fn contents(&self, workspace: &Workspace) -> Result<Vec<(Key, Content)>, CatalogError> {
        let mut contents = Vec::new();
        for hash in &self.hashes {
            let node = workspace.node(*hash).await?;
            contents.extend(node.entries.iter().filter_map(|(key, slot)| match slot {
                Slot::Content(content) => Some((key.clone(), content.clone())),
                Slot::Child(_) => None,
            }));
        }
        Ok(contents)
    }
}

fn drop_common(left: &mut Vec<Hash>, right: &mut Vec<Hash>) {
    let hashes: HashSet<Hash> = left.iter().copied().collect();
    let common: HashSet<Hash> = right.iter().copied().filter(|hash| hashes.contains(hash)).collect();
    left.retain(|hash| !common.contains(hash));
    right.retain(|hash| !common.contains(hash));
}
