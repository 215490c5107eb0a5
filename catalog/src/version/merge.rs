//! Merge and transplant: changes of another history onto a branch, key by key as in Nessie.

use std::collections::BTreeMap;

use super::{
    Content, IdempotencyRecord, Key, KeyConflict, Meta,
    apply::{self, Head},
    content::TABLE,
    history,
    state::{Edits, State},
    tree,
    workspace::Workspace,
};
use crate::{CatalogError, store::Hash};

/// What to do with a key that both sides changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MergeMode {
    /// Conflict.
    #[default]
    Normal,
    /// Take the source's content.
    Force,
    /// Keep the target's content.
    Drop,
}

/// What is brought onto the branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MergeSource {
    /// Everything up to a commit since the merge base, as one commit with two parents.
    Merge(Hash),
    /// Single commits, oldest first, each as a commit of its own that keeps its author and message.
    Transplant(Vec<Hash>),
}

/// A merge or transplant.
#[derive(Clone, Debug)]
pub struct MergeRequest {
    /// Target.
    pub branch: String,
    /// A commit of the target's history that the caller saw.
    pub expected_head: Option<Hash>,
    /// Source.
    pub source: MergeSource,
    /// Author, message, properties. A transplant takes only the committer, and the message if there is one.
    pub meta: Meta,
    /// For keys without a mode of their own.
    pub default_mode: MergeMode,
    /// By key.
    pub modes: BTreeMap<Key, MergeMode>,
    /// What comes of keys that both sides changed.
    pub reconciled: Vec<Reconciled>,
    /// Only say what would happen.
    pub dry_run: bool,
    /// Written in the same transaction.
    pub idempotency: Option<IdempotencyRecord>,
}

/// A table that both sides changed, as it was in each of the three states.
#[derive(Clone, Debug, PartialEq)]
pub struct Contested {
    /// Key.
    pub key: Key,
    /// Before both.
    pub base: Content,
    /// What the source made of it.
    pub source: Content,
    /// What the target has.
    pub target: Content,
}

/// What comes of a contested table. It counts only while all three states are still those.
#[derive(Clone, Debug, PartialEq)]
pub struct Reconciled {
    /// The three states.
    pub contested: Contested,
    /// The content that holds both sides' changes, or why there is none.
    pub outcome: Result<Content, String>,
}

/// How a merge went. With conflicts nothing changed; they are not an error here, since callers show them in different ways.
#[derive(Clone, Debug, PartialEq)]
pub struct Merged {
    /// The target's head: the new one if it moved.
    pub hash: Hash,
    /// Merge base; `None` for a transplant.
    pub base: Option<Hash>,
    /// Whether the target moved.
    pub applied: bool,
    /// Keys that the source changed.
    pub details: Vec<MergeDetail>,
}

/// What happened to a key.
#[derive(Clone, Debug, PartialEq)]
pub struct MergeDetail {
    /// Key.
    pub key: Key,
    /// Mode.
    pub mode: MergeMode,
    /// Why it can't be merged.
    pub conflict: Option<KeyConflict>,
    /// Set if the conflict is one that looking into the table may solve.
    pub contested: Option<Contested>,
}

impl Merged {
    /// Whether there is no conflict.
    #[must_use]
    pub fn successful(&self) -> bool {
        self.details.iter().all(|detail| detail.conflict.is_none())
    }

    /// The conflicts as an error.
    #[must_use]
    pub fn into_error(self, branch: &str) -> CatalogError {
        let conflicts = self.details.into_iter().filter_map(|detail| detail.conflict).collect();
        apply::conflict(&format!("the merge into '{branch}'"), conflicts)
    }
}

/// Applies a merge to a head.
pub(super) async fn merge(
    workspace: &mut Workspace,
    head: Head,
    request: &MergeRequest,
) -> Result<(Head, Merged), CatalogError> {
    if let Some(expected) = request.expected_head
        && !history::is_ancestor(workspace, expected, head.hash).await?
    {
        let branch = &request.branch;
        return Err(CatalogError::ReferenceConflict(format!(
            "the expected commit {expected} is not in the history of '{branch}': load the branch again"
        )));
    }
    match &request.source {
        MergeSource::Merge(from) => merge_one(workspace, head, request, *from).await,
        MergeSource::Transplant(commits) => transplant(workspace, head, request, commits).await,
    }
}

async fn merge_one(
    workspace: &mut Workspace,
    head: Head,
    request: &MergeRequest,
    from: Hash,
) -> Result<(Head, Merged), CatalogError> {
    let base = history::merge_base(workspace, head.hash, from).await?;
    let (base_root, from_root) = (workspace.root(base).await?, workspace.root(from).await?);
    let replay = replay(workspace, head.root, base_root, from_root, request).await?;
    let mut merged = Merged { hash: head.hash, base: Some(base), applied: false, details: replay.details };
    if base == from || !merged.successful() || request.dry_run {
        return Ok((head, merged));
    }
    let operations = replay.edits.into_iter().collect();
    let (root, meta) = (replay.root, request.meta.clone());
    merged.hash = apply::append(workspace, head.hash, Some(root), &[from], operations, meta).await?;
    merged.applied = true;
    Ok((Head { hash: merged.hash, root }, merged))
}

async fn transplant(
    workspace: &mut Workspace,
    head: Head,
    request: &MergeRequest,
    commits: &[Hash],
) -> Result<(Head, Merged), CatalogError> {
    let mut at = head;
    let mut details: BTreeMap<Key, MergeDetail> = BTreeMap::new();
    for hash in commits {
        let commit = workspace.commit(*hash).await?;
        let (before, after) = (workspace.root(commit.parent()).await?, workspace.root(*hash).await?);
        let replay = replay(workspace, at.root, before, after, request).await?;
        let conflicts = replay.details.iter().any(|detail| detail.conflict.is_some());
        details.extend(replay.details.into_iter().map(|detail| (detail.key.clone(), detail)));
        if conflicts {
            break;
        }
        let mut meta = commit.commit.meta.clone();
        meta.committer.clone_from(&request.meta.committer);
        if !request.meta.message.is_empty() {
            meta.message.clone_from(&request.meta.message);
        }
        if !replay.edits.is_empty() {
            let (root, operations) = (replay.root, replay.edits.into_iter().collect());
            at = Head {
                hash: apply::append(workspace, at.hash, Some(root), &[], operations, meta).await?,
                root,
            };
        }
    }
    let mut merged =
        Merged { hash: head.hash, base: None, applied: false, details: details.into_values().collect() };
    if at == head || !merged.successful() || request.dry_run {
        workspace.drop_commits_after(head.hash, at.hash);
        return Ok((head, merged));
    }
    merged.hash = at.hash;
    merged.applied = true;
    Ok((at, merged))
}

/// The changes between two states applied to a third.
struct Replay {
    root: Hash,
    edits: Edits,
    details: Vec<MergeDetail>,
}

async fn replay(
    workspace: &mut Workspace,
    target: Hash,
    before: Hash,
    after: Hash,
    request: &MergeRequest,
) -> Result<Replay, CatalogError> {
    let mut edits = BTreeMap::new();
    let mut removed_namespaces = Vec::new();
    let mut details = Vec::new();
    for (key, old, new) in tree::diff(workspace, before, after).await? {
        let present = tree::get(workspace, target, &key).await?;
        let mode = request.modes.get(&key).copied().unwrap_or(request.default_mode);
        let verdict = judge(&key, mode, old.as_ref(), new.as_ref(), present.as_ref());
        let (verdict, contested) = match verdict {
            Err(conflict) => reconcile(conflict, old, new, present.as_ref(), &request.reconciled),
            Ok(true) => (Ok(Some(new)), None),
            Ok(false) => (Ok(None), None),
        };
        let conflict = match verdict {
            Ok(Some(content)) => {
                if content.is_none() && present.as_ref().is_some_and(Content::is_namespace) {
                    removed_namespaces.push(key.clone());
                }
                edits.insert(key.clone(), content);
                None
            }
            Ok(None) => None,
            Err(conflict) => Some(conflict),
        };
        details.push(MergeDetail { key, mode, conflict, contested });
    }
    let root = tree::update(workspace, target, edits.clone()).await?;
    let after = State::stored(root);
    for conflict in apply::namespace_conflicts(workspace, &after, &edits, &removed_namespaces).await? {
        match details.iter_mut().find(|detail| detail.key == conflict.key) {
            Some(detail) => detail.conflict = Some(conflict),
            None => details.push(MergeDetail {
                key: conflict.key.clone(),
                mode: request.default_mode,
                conflict: Some(conflict),
                contested: None,
            }),
        }
    }
    Ok(Replay { root, edits, details })
}

/// Whether the source's content is taken over; the target's stays where both sides came to the same.
fn judge(
    key: &Key,
    mode: MergeMode,
    old: Option<&Content>,
    new: Option<&Content>,
    present: Option<&Content>,
) -> Result<bool, KeyConflict> {
    let same = match (new, present) {
        (Some(new), Some(present)) => new == present || new.same_namespace(present),
        (None, None) => true,
        _ => false,
    };
    if same {
        return Ok(false);
    }
    if old == present {
        return Ok(mode != MergeMode::Drop);
    }
    let (kind, why) = match (old, present) {
        (None, _) => ("KEY_EXISTS", "was created on both sides"),
        (Some(_), None) => ("KEY_DOES_NOT_EXIST", "was changed by the source and removed from the target"),
        (Some(_), Some(_)) => ("VALUE_DIFFERS", "was changed on both sides since the merge base"),
    };
    match mode {
        MergeMode::Force => Ok(true),
        MergeMode::Drop => Ok(false),
        MergeMode::Normal => {
            Err(KeyConflict { key: key.clone(), conflict_type: kind, message: format!("key '{key}' {why}") })
        }
    }
}

/// What a key is set to, if the merge sets it, or its conflict.
type Verdict = Result<Option<Option<Content>>, KeyConflict>;

/// A conflict over a table is settled by what its two sides came to, or stays open for somebody to look into it.
fn reconcile(
    conflict: KeyConflict,
    old: Option<Content>,
    new: Option<Content>,
    present: Option<&Content>,
    reconciled: &[Reconciled],
) -> (Verdict, Option<Contested>) {
    let (Some(base), Some(source), Some(target)) = (old, new, present.cloned()) else {
        return (Err(conflict), None);
    };
    if ![&base, &source, &target].iter().all(|content| content.content_type() == TABLE) {
        return (Err(conflict), None);
    }
    let contested = Contested { key: conflict.key.clone(), base, source, target };
    match reconciled.iter().find(|known| known.contested == contested) {
        None => (Err(conflict), Some(contested)),
        Some(Reconciled { outcome: Ok(content), .. }) => (Ok(Some(Some(content.clone()))), None),
        Some(Reconciled { outcome: Err(reason), .. }) => {
            let message = format!("{}: {reason}", conflict.message);
            (Err(KeyConflict { message, ..conflict }), None)
        }
    }
}
