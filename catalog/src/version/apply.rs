//! One commit against a head: pure but for reading objects, so that a leader can apply many in memory before it writes.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::{
    Commit, CommitRequest, Committed, Content, EntryRange, Key, KeyConflict, Meta, Op,
    draft::Draft,
    history,
    state::{Edits, State},
    stored::{NO_ANCESTOR, StoredCommit},
    tree,
    workspace::Workspace,
};
use crate::{CatalogError, store::Hash};

/// Where a branch is while commits are applied to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) hash: Hash,
    pub(super) root: Hash,
}

impl Key {
    fn conflict(&self, conflict_type: &'static str, why: &str) -> KeyConflict {
        KeyConflict { key: self.clone(), conflict_type, message: format!("key '{self}' {why}") }
    }
}

/// Applies a commit to a draft, which stays as it is if nothing changes or the commit is refused.
pub(super) async fn apply(
    workspace: &mut Workspace,
    draft: &mut Draft,
    request: &CommitRequest,
) -> Result<Committed, CatalogError> {
    let mut keys = BTreeSet::new();
    for operation in &request.operations {
        let key = operation.key().clone().checked()?;
        if !keys.insert(key) {
            let key = operation.key();
            return Err(CatalogError::Invalid(format!(
                "a commit has at most one operation per key, not two for '{key}'"
            )));
        }
    }
    let mut conflicts = changed_since(workspace, draft, request, &keys).await?;
    let settled = settle(workspace, draft.state(), &request.operations).await?;
    conflicts.extend(settled.conflicts);
    let undo = draft.state_mut().edit(&settled.edits);
    if conflicts.is_empty() {
        conflicts =
            namespace_conflicts(workspace, draft.state(), &settled.edits, &settled.removed_namespaces)
                .await?;
    }
    if !conflicts.is_empty() {
        draft.state_mut().undo(undo);
        return Err(conflict(&format!("the commit to '{}'", request.branch), conflicts));
    }
    if settled.changed {
        let operations = settled.edits.into_iter().collect();
        let hash = append(workspace, draft.hash(), None, &[], operations, request.meta.clone()).await?;
        draft.advance(hash);
    }
    Ok(Committed { hash: draft.hash(), contents: settled.put })
}

/// An error that lists conflicts; nothing was changed.
pub(super) fn conflict(what: &str, conflicts: Vec<KeyConflict>) -> CatalogError {
    let reasons: Vec<&str> = conflicts.iter().map(|conflict| conflict.message.as_str()).collect();
    CatalogError::Conflict { message: format!("{what} conflicts: {}", reasons.join("; ")), conflicts }
}

/// Adds a commit on top of another. Its time is now, but later than its parents', so that instants find one commit.
pub(super) async fn append(
    workspace: &mut Workspace,
    parent: Hash,
    root: Option<Hash>,
    merged: &[Hash],
    operations: Vec<(Key, Option<Content>)>,
    meta: Meta,
) -> Result<Hash, CatalogError> {
    let mut parents = vec![parent];
    parents.extend(merged);
    let mut time = now();
    for parent in &parents {
        if *parent != *NO_ANCESTOR {
            time = time.max(workspace.commit(*parent).await?.commit.time + TimeDelta::microseconds(1));
        }
    }
    let stored = StoredCommit {
        root,
        depth: history::depth(workspace, parent).await? + 1,
        jump: history::jump_of_child(workspace, parent).await?,
        request: Uuid::new_v4().to_string(),
        // Sealing gives it its hash.
        commit: Commit { hash: parent, parents, time, meta, operations },
    };
    Ok(workspace.add_commit(stored))
}

/// Now, in the microseconds that are stored.
pub(super) fn now() -> DateTime<Utc> {
    let now = Utc::now();
    DateTime::from_timestamp_micros(now.timestamp_micros()).unwrap_or(now)
}

impl Op {
    /// The key it is about.
    #[must_use]
    pub fn key(&self) -> &Key {
        match self {
            Self::Put { key, .. } | Self::Delete { key, .. } | Self::Unchanged { key } => key,
        }
    }
}

/// Keys whose content differs between the head that the caller saw and the present one.
async fn changed_since(
    workspace: &mut Workspace,
    draft: &Draft,
    request: &CommitRequest,
    keys: &BTreeSet<Key>,
) -> Result<Vec<KeyConflict>, CatalogError> {
    let Some(expected) = request.expected_head.filter(|expected| *expected != draft.hash()) else {
        return Ok(Vec::new());
    };
    if !history::is_ancestor(workspace, expected, draft.hash()).await? {
        return Err(CatalogError::ReferenceConflict(format!(
            "the expected commit {expected} is not in the history of '{}': load the branch again",
            request.branch
        )));
    }
    let seen = workspace.state(expected).await?;
    let mut conflicts = Vec::new();
    for key in keys {
        let (before, after) = (seen.get(workspace, key).await?, draft.state().get(workspace, key).await?);
        if before != after {
            let kind = match (&before, &after) {
                (None, _) => "KEY_EXISTS",
                (_, None) => "KEY_DOES_NOT_EXIST",
                _ => "VALUE_DIFFERS",
            };
            conflicts.push(key.conflict(kind, &format!("was changed since the expected commit {expected}")));
        }
    }
    Ok(conflicts)
}

/// Operations judged against a state.
#[derive(Default)]
struct Settled {
    edits: Edits,
    /// Whether any edit says something new.
    changed: bool,
    put: Vec<(Key, Content)>,
    removed_namespaces: Vec<Key>,
    conflicts: Vec<KeyConflict>,
}

async fn settle(workspace: &Workspace, state: &State, operations: &[Op]) -> Result<Settled, CatalogError> {
    let mut current = BTreeMap::new();
    for operation in operations {
        if let Some(content) = state.get(workspace, operation.key()).await? {
            current.insert(operation.key(), content);
        }
    }
    let removed: HashSet<&str> = operations
        .iter()
        .filter(|operation| matches!(operation, Op::Delete { .. }))
        .filter_map(|operation| current.get(operation.key()).and_then(Content::id))
        .collect();
    let mut settled = Settled::default();
    for operation in operations {
        let present = current.get(operation.key());
        match operation {
            Op::Unchanged { .. } => {}
            Op::Put { key, content, expected } => {
                match settle_put(key, content, expected.as_ref(), present, &removed) {
                    Ok(content) => {
                        settled.changed |= present != Some(&content);
                        settled.edits.insert(key.clone(), Some(content.clone()));
                        settled.put.push((key.clone(), content));
                    }
                    Err(conflict) => settled.conflicts.push(conflict),
                }
            }
            Op::Delete { key, expected } => match (present, expected) {
                (None, _) => settled.conflicts.push(key.conflict("KEY_DOES_NOT_EXIST", "does not exist")),
                (Some(found), Some(expected)) if Some(found) != expected.as_ref() => {
                    settled
                        .conflicts
                        .push(key.conflict("VALUE_DIFFERS", "has another content than expected"));
                }
                (Some(found), _) => {
                    if found.is_namespace() {
                        settled.removed_namespaces.push(key.clone());
                    }
                    settled.changed = true;
                    settled.edits.insert(key.clone(), None);
                }
            },
        }
    }
    Ok(settled)
}

/// What a put stores: the content with the id it keeps or gets.
fn settle_put(
    key: &Key,
    content: &Content,
    expected: Option<&Option<Content>>,
    present: Option<&Content>,
    removed_ids: &HashSet<&str>,
) -> Result<Content, KeyConflict> {
    if !content.0.is_object() || content.content_type().is_empty() {
        return Err(key.conflict("UNKNOWN", "would get a content without a type"));
    }
    let id = content.id();
    match (present, expected) {
        (Some(_), Some(None)) => return Err(key.conflict("KEY_EXISTS", "exists already")),
        (None, Some(Some(_))) => return Err(key.conflict("KEY_DOES_NOT_EXIST", "does not exist any more")),
        (Some(found), Some(Some(expected))) if found != expected => {
            return Err(key.conflict("VALUE_DIFFERS", "has another content than expected"));
        }
        // As in Nessie: a content without an id is new, one with an id is there already or moves here.
        (Some(_), None) if id.is_none() => {
            return Err(key.conflict("KEY_EXISTS", "exists already; a content without id is a new one"));
        }
        (Some(found), None) if id != found.id() => {
            return Err(key.conflict("CONTENT_ID_DIFFERS", "has a content of another id"));
        }
        (None, None) if id.is_some_and(|id| !removed_ids.contains(id)) => {
            return Err(key.conflict("KEY_DOES_NOT_EXIST", "does not exist; a new content has no id"));
        }
        _ => {}
    }
    if present.is_some_and(|found| found.content_type() != content.content_type()) {
        return Err(key.conflict("PAYLOAD_DIFFERS", "has a content of another type"));
    }
    match (id, present.and_then(Content::id)) {
        (Some(_), _) => Ok(content.clone()),
        (None, Some(kept)) => Ok(content.with_id(kept)),
        (None, None) => Ok(content.with_id(&Uuid::new_v4().to_string())),
    }
}

/// Nessie's rules for the state after a commit: each key lies in namespaces that exist, and a namespace goes only when it is empty.
pub(super) async fn namespace_conflicts(
    workspace: &mut Workspace,
    after: &State,
    edits: &Edits,
    removed_namespaces: &[Key],
) -> Result<Vec<KeyConflict>, CatalogError> {
    let mut conflicts = Vec::new();
    let put = edits.iter().filter(|(_, content)| content.is_some());
    let parents: BTreeSet<Key> = put.filter_map(|(key, _)| key.parent()).collect();
    for parent in parents {
        match after.get(workspace, &parent).await? {
            None => conflicts
                .push(parent.conflict("NAMESPACE_ABSENT", "must exist as a namespace: create it first")),
            Some(content) if !content.is_namespace() => {
                conflicts
                    .push(parent.conflict("NOT_A_NAMESPACE", "is not a namespace, so nothing can be in it"));
            }
            Some(_) => {}
        }
    }
    if removed_namespaces.is_empty() {
        return Ok(conflicts);
    }
    let root = after.root(workspace).await?;
    for namespace in removed_namespaces {
        let below = EntryRange {
            prefix: Some(namespace.clone()),
            after: Some(namespace.clone()),
            limit: 1,
            ..EntryRange::default()
        };
        let (found, _) = tree::entries(workspace, root, &below).await?;
        if let (Some((first, _)), None) = (found.first(), tree::get(workspace, root, namespace).await?) {
            let why = format!("is a namespace that isn't empty: '{first}' is in it");
            conflicts.push(namespace.conflict("NAMESPACE_NOT_EMPTY", &why));
        }
    }
    Ok(conflicts)
}

/// A stored commit as the answer to the request that made it.
pub(super) fn answer_of(commit: &Arc<StoredCommit>) -> Committed {
    let put = commit.commit.operations.iter();
    let put = put.filter_map(|(key, content)| content.clone().map(|content| (key.clone(), content)));
    Committed { hash: commit.commit.hash, contents: put.collect() }
}
