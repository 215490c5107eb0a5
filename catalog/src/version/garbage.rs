//! Mark and sweep of objects: what no reference reaches and no write needed for a while goes.
//!
//! Commits that a reference reaches stay for ever, so a log never ends early. Their states (tree nodes, and the contents
//! they name) stay as far back as the reference's cut-off; an older state can be made again from the commits' operations.
//!
//! Invariant: whatever a commit younger than the safety age reaches stays too. So a reference that is made at such a
//! commit while a sweep runs finds everything; one to an older commit needs a reference that reaches it already.

use std::collections::{BTreeSet, HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    Content, EntryRange, Hash, Key, Repository,
    apply::now,
    history,
    node::Slot,
    stored::{NO_ANCESTOR, StoredCommit},
    workspace::Workspace,
};
use crate::{CatalogError, error::Missing, store::ObjectAge};

/// Default age below which nothing is removed: longer than any job or staged create takes.
pub(crate) const SAFETY_AGE: TimeDelta = TimeDelta::days(7);
/// Objects listed at once.
const PAGE: u32 = 5000;
/// Entries of a state read at once.
const ENTRIES: usize = 1000;
/// Format byte of a commit.
const COMMIT: u8 = 2;

/// Where a mark starts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Root {
    /// A commit.
    pub(crate) hash: Hash,
    /// States older than this aren't kept, but for the one that was valid then.
    pub(crate) keep_since: Option<DateTime<Utc>>,
}

/// What was reached so far. Marking again with more roots costs only what is new.
#[derive(Default)]
pub(crate) struct Marks {
    commits: HashMap<Hash, Mark>,
    nodes: HashSet<Hash>,
    /// Tables, views and others that a kept state holds, each version once.
    contents: BTreeSet<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kept {
    /// The commit alone.
    History,
    /// And its state.
    State,
    /// And its state, by way of its changes: the parents' states are kept too.
    Changes,
}

/// A mark, and how far back the states before it are kept.
type Mark = (Kept, Option<DateTime<Utc>>);

/// How objects fared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Swept {
    /// Reached, or too young.
    pub(crate) kept: u64,
    /// Removed, or in a dry run to be removed.
    pub(crate) removed: u64,
    /// Their bytes.
    pub(crate) removed_bytes: u64,
}

impl Marks {
    /// Metadata locations of kept tables and views, with their types.
    pub(crate) fn contents(&self) -> impl Iterator<Item = (&str, &str)> {
        self.contents.iter().map(|(location, kind)| (location.as_str(), kind.as_str()))
    }

    /// How many commits keep their state.
    pub(crate) fn kept_states(&self) -> usize {
        self.commits.values().filter(|(kept, _)| *kept > Kept::History).count()
    }

    fn holds(&self, hash: &Hash) -> bool {
        self.commits.contains_key(hash) || self.nodes.contains(hash)
    }

    fn take_content(&mut self, content: &Content) {
        if let Some(location) = content.0.get("metadataLocation").and_then(serde_json::Value::as_str) {
            self.contents.insert((location.to_owned(), content.content_type().to_owned()));
        }
    }
}

impl Repository {
    /// Objects that no write needed for `safety_age`, and the youngest commits as roots to mark from. Listed before a mark
    /// begins, so that what is needed meanwhile is not removed.
    pub(crate) async fn old_objects(
        &self,
        safety_age: TimeDelta,
    ) -> Result<(Vec<ObjectAge>, Vec<Root>, u64), CatalogError> {
        let limit_us = safety_age.num_microseconds().unwrap_or(i64::MAX);
        let keep_since = Some(now() - safety_age);
        let (mut old, mut roots, mut young) = (Vec::new(), Vec::new(), 0);
        let mut after = None;
        loop {
            let page = self.shared.store.object_ages(&self.name, after, PAGE).await?;
            after = page.last().map(|object| object.hash);
            let full = page.len() == PAGE as usize;
            for object in page {
                if object.age_us >= limit_us {
                    old.push(object);
                    continue;
                }
                young += 1;
                if object.format == COMMIT {
                    roots.push(Root { hash: object.hash, keep_since });
                }
            }
            if !full {
                return Ok((old, roots, young));
            }
        }
    }

    /// Marks everything that the roots reach.
    pub(crate) async fn mark(&self, roots: &[Root], marks: &mut Marks) -> Result<(), CatalogError> {
        let mut roots = roots.to_vec();
        // Who keeps most first: the others find their part marked.
        roots.sort_by_key(|root| root.keep_since);
        for root in roots {
            self.mark_root(root, marks).await?;
        }
        Ok(())
    }

    async fn mark_root(&self, root: Root, marks: &mut Marks) -> Result<(), CatalogError> {
        let workspace = self.workspace();
        let is_recent =
            |commit: &StoredCommit| root.keep_since.is_none_or(|since| commit.commit.time >= since);
        let mut waiting = vec![(root.hash, true)];
        while let Some((hash, child_is_recent)) = waiting.pop() {
            if hash == *NO_ANCESTOR {
                continue;
            }
            let commit = workspace.commit(hash).await?;
            // Changes lead from one state to the next; the first one that is kept is kept whole.
            let kept = match (is_recent(&commit), child_is_recent) {
                (true, _) => Kept::Changes,
                (false, true) => Kept::State,
                (false, false) => Kept::History,
            };
            let enough = |(before, since): &Mark| {
                *before >= kept && (kept < Kept::Changes || *since <= root.keep_since)
            };
            if marks.commits.get(&hash).is_some_and(enough) {
                continue;
            }
            marks.commits.insert(hash, (kept, root.keep_since));
            if kept == Kept::State || (kept == Kept::Changes && commit.root.is_some()) {
                self.mark_nodes(&workspace, &commit, marks).await?;
            }
            if kept > Kept::History {
                for (_, content) in &commit.commit.operations {
                    content.iter().for_each(|content| marks.take_content(content));
                }
            }
            if kept == Kept::State {
                self.mark_state(hash, marks).await?;
            }
            waiting.extend(commit.commit.parents.iter().map(|parent| (*parent, is_recent(&commit))));
        }
        Ok(())
    }

    /// Nodes of a commit's state, or of the stored state that it is made again from.
    pub(super) async fn mark_nodes(
        &self,
        workspace: &Workspace,
        commit: &StoredCommit,
        marks: &mut Marks,
    ) -> Result<(), CatalogError> {
        let (mut root, mut parent) = (commit.root, commit.parent());
        let root = loop {
            if let Some(root) = root
                && workspace.has_node(root).await?
            {
                break root;
            }
            if parent == *NO_ANCESTOR {
                return Ok(());
            }
            let before = workspace.commit(parent).await?;
            (root, parent) = (before.root, before.parent());
        };
        let mut waiting = vec![root];
        while let Some(hash) = waiting.pop() {
            if !marks.nodes.insert(hash) {
                continue;
            }
            let node = workspace.node(hash).await?;
            waiting.extend(node.entries.iter().filter_map(|(_, slot)| match slot {
                Slot::Child(child) => Some(*child),
                Slot::Content(_) => None,
            }));
        }
        Ok(())
    }

    async fn mark_state(&self, at: Hash, marks: &mut Marks) -> Result<(), CatalogError> {
        let mut after: Option<Key> = None;
        loop {
            let range = EntryRange { after: after.take(), limit: ENTRIES, ..EntryRange::default() };
            let (entries, more) = self.entries(at, &range).await?;
            entries.iter().for_each(|(_, content)| marks.take_content(content));
            match entries.into_iter().next_back() {
                Some((last, _)) if more => after = Some(last),
                _ => return Ok(()),
            }
        }
    }

    /// Removes the old objects that aren't marked; in a dry run only counts them.
    pub(crate) async fn sweep(
        &self,
        old: Vec<ObjectAge>,
        young: u64,
        marks: &Marks,
        dry_run: bool,
    ) -> Result<Swept, CatalogError> {
        let listed = old.len() as u64;
        let garbage: Vec<ObjectAge> = old.into_iter().filter(|object| !marks.holds(&object.hash)).collect();
        let removed = match dry_run {
            true => garbage.len() as u64,
            false => self.shared.store.delete_objects(&self.name, &garbage).await?,
        };
        let removed_bytes = garbage.iter().map(|object| object.bytes.unsigned_abs()).sum();
        Ok(Swept { kept: young + listed - removed, removed, removed_bytes })
    }

    /// Refuses a commit that a sweep may be removing: older than the safety age and reached by no reference.
    pub(crate) async fn check_kept(&self, hash: Hash) -> Result<(), CatalogError> {
        if hash == *NO_ANCESTOR {
            return Ok(());
        }
        let workspace = self.workspace();
        if workspace.commit(hash).await?.commit.time > now() - SAFETY_AGE {
            return Ok(());
        }
        let references = self.references().await?;
        for reference in &references {
            if history::is_ancestor(&workspace, hash, reference.hash).await? {
                return Ok(());
            }
        }
        for reference in &references {
            if history::merge_base(&workspace, hash, reference.hash).await? == hash {
                return Ok(());
            }
        }
        Err(CatalogError::NotFound {
            what: Missing::Commit,
            name: hash.to_string(),
            hint: format!(
                ": no reference reaches it and it is older than {} days, so garbage collection may be removing it",
                SAFETY_AGE.num_days()
            ),
        })
    }
}
