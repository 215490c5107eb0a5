//! Ancestors: along first parents in logarithmic time, and the merge base of two commits.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use chrono::{DateTime, Utc};

use super::{
    Commit,
    stored::{NO_ANCESTOR, StoredCommit},
    workspace::Workspace,
};
use crate::{CatalogError, store::Hash};

/// Depth of a hash: 0 for the empty repository.
pub(super) async fn depth(workspace: &Workspace, hash: Hash) -> Result<u64, CatalogError> {
    if hash == *NO_ANCESTOR { Ok(0) } else { Ok(workspace.commit(hash).await?.depth) }
}

/// Where a child of `parent` jumps to: as far as both jumps before it together if they are equally long, else to the parent.
pub(super) async fn jump_of_child(workspace: &Workspace, parent: Hash) -> Result<Hash, CatalogError> {
    if parent == *NO_ANCESTOR {
        return Ok(parent);
    }
    let commit = workspace.commit(parent).await?;
    let over = depth(workspace, commit.jump).await?;
    if over == 0 {
        return Ok(parent);
    }
    let beyond = workspace.commit(commit.jump).await?.jump;
    let far = depth(workspace, beyond).await?;
    Ok(if commit.depth - over == over - far { beyond } else { parent })
}

/// The newest of `from` and its first-parent ancestors that `wanted` accepts; `None` if only the empty repository is left.
/// What accepts a commit must accept all of its ancestors.
async fn newest_where(
    workspace: &Workspace,
    from: Hash,
    wanted: impl Fn(&StoredCommit) -> bool,
) -> Result<Option<Arc<StoredCommit>>, CatalogError> {
    let mut hash = from;
    while hash != *NO_ANCESTOR {
        let commit = workspace.commit(hash).await?;
        if wanted(&commit) {
            return Ok(Some(commit));
        }
        let jump_passes = commit.jump == *NO_ANCESTOR || wanted(&*workspace.commit(commit.jump).await?);
        hash = if jump_passes { commit.parent() } else { commit.jump };
    }
    Ok(None)
}

/// The ancestor `count` first parents back, or `None` before the first commit's parent.
pub(super) async fn ancestor(
    workspace: &Workspace,
    from: Hash,
    count: u64,
) -> Result<Option<Hash>, CatalogError> {
    let Some(depth) = depth(workspace, from).await?.checked_sub(count) else { return Ok(None) };
    let found = newest_where(workspace, from, |commit| commit.depth <= depth).await?;
    Ok(Some(found.map_or(*NO_ANCESTOR, |commit| commit.commit.hash)))
}

/// The newest commit at or before an instant.
pub(super) async fn at_instant(
    workspace: &Workspace,
    from: Hash,
    instant: DateTime<Utc>,
) -> Result<Option<Hash>, CatalogError> {
    let found = newest_where(workspace, from, |commit| commit.commit.time <= instant).await?;
    Ok(found.map(|commit| commit.commit.hash))
}

/// Whether `ancestor` is `from` or one of its first-parent ancestors.
pub(super) async fn is_ancestor(
    workspace: &Workspace,
    ancestor: Hash,
    from: Hash,
) -> Result<bool, CatalogError> {
    let depth = depth(workspace, ancestor).await?;
    let found = newest_where(workspace, from, |commit| commit.depth <= depth).await?;
    Ok(found.map_or(*NO_ANCESTOR, |commit| commit.commit.hash) == ancestor)
}

/// Commits along first parents, newest first; `true` if there are more.
pub(super) async fn log(
    workspace: &Workspace,
    from: Hash,
    limit: usize,
) -> Result<(Vec<Commit>, bool), CatalogError> {
    let mut commits = Vec::new();
    let mut hash = from;
    while hash != *NO_ANCESTOR {
        if commits.len() == limit {
            return Ok((commits, true));
        }
        let commit = workspace.commit(hash).await?;
        hash = commit.parent();
        commits.push(commit.commit.clone());
    }
    Ok((commits, false))
}

const LEFT: u8 = 1;
const RIGHT: u8 = 2;

/// The newest commit that both reach by any parents; the empty repository if there is none. A commit is newer than its parents,
/// so walking both histories newest first meets it first.
pub(super) async fn merge_base(workspace: &Workspace, left: Hash, right: Hash) -> Result<Hash, CatalogError> {
    let mut sides: HashMap<Hash, u8> = HashMap::new();
    let mut waiting: BTreeMap<(DateTime<Utc>, Hash), Arc<StoredCommit>> = BTreeMap::new();
    for (start, side) in [(left, LEFT), (right, RIGHT)] {
        visit(workspace, start, side, &mut sides, &mut waiting).await?;
    }
    while let Some(((_, hash), commit)) = waiting.pop_last() {
        let side = sides.get(&hash).copied().unwrap_or_default();
        if side == LEFT | RIGHT {
            return Ok(hash);
        }
        for parent in &commit.commit.parents {
            visit(workspace, *parent, side, &mut sides, &mut waiting).await?;
        }
    }
    Ok(*NO_ANCESTOR)
}

async fn visit(
    workspace: &Workspace,
    hash: Hash,
    side: u8,
    sides: &mut HashMap<Hash, u8>,
    waiting: &mut BTreeMap<(DateTime<Utc>, Hash), Arc<StoredCommit>>,
) -> Result<(), CatalogError> {
    if hash == *NO_ANCESTOR {
        return Ok(());
    }
    let commit = workspace.commit(hash).await?;
    *sides.entry(hash).or_default() |= side;
    waiting.insert((commit.commit.time, hash), commit);
    Ok(())
}
