//! Keys that differ between two states.

use std::collections::{BTreeMap, HashSet};

use super::super::{Content, Key, node::Slot, workspace::Workspace};
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
