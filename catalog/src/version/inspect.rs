//! What one may want to know of references beside where they are.

use super::{Event, Hash, NamedRef, Repository, garbage::Marks, history, stored::NO_ANCESTOR};
use crate::CatalogError;

/// Events read back at most when looking for a reference's moves.
const EVENTS_BACK: i64 = 5000;
const PAGE: u32 = 1000;

/// How a commit relates to another one's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Relation {
    /// The newest commit that both reach.
    pub(crate) base: Hash,
    /// Commits since that base.
    pub(crate) ahead: u64,
    /// Commits of the other one since that base.
    pub(crate) behind: u64,
}

impl Repository {
    /// Number of commits from the first one to this one, along first parents.
    pub(crate) async fn commit_count(&self, hash: Hash) -> Result<u64, CatalogError> {
        history::depth(&self.workspace(), hash).await
    }

    /// How `hash` relates to `other`.
    pub(crate) async fn relation(&self, hash: Hash, other: Hash) -> Result<Relation, CatalogError> {
        let workspace = self.workspace();
        let base = history::merge_base(&workspace, hash, other).await?;
        let depth = history::depth(&workspace, base).await?;
        let (own, others) =
            (history::depth(&workspace, hash).await?, history::depth(&workspace, other).await?);
        Ok(Relation { base, ahead: own.saturating_sub(depth), behind: others.saturating_sub(depth) })
    }

    /// Where a reference pointed before, newest first, as far as the newest events tell; at most `limit`.
    pub(crate) async fn recent_heads(
        &self,
        reference: &NamedRef,
        limit: usize,
    ) -> Result<Vec<Hash>, CatalogError> {
        let last = self.last_event().await?;
        let mut after = (last - EVENTS_BACK).max(0);
        let mut heads = Vec::new();
        while after < last {
            let events = self.events(after, PAGE).await?;
            let Some(newest) = events.last().map(|event| event.number) else { break };
            after = newest;
            let ours = events.iter().filter(|event| event.body["reference"] == reference.name.as_str());
            heads.extend(ours.filter_map(head_after));
        }
        heads.reverse();
        heads.dedup();
        heads.retain(|hash| *hash != reference.hash);
        heads.truncate(limit);
        Ok(heads)
    }

    /// Number of the newest event; 0 if there is none. Numbers have no gaps, so it is found by halving.
    async fn last_event(&self) -> Result<i64, CatalogError> {
        let (mut known, mut step) = (0, 1);
        while self.has_event_after(known + step - 1).await? {
            known += step;
            step *= 2;
        }
        let mut beyond = known + step;
        while beyond - known > 1 {
            let middle = known + (beyond - known) / 2;
            if self.has_event_after(middle - 1).await? {
                known = middle;
            } else {
                beyond = middle;
            }
        }
        Ok(known)
    }

    async fn has_event_after(&self, number: i64) -> Result<bool, CatalogError> {
        Ok(!self.events(number, 1).await?.is_empty())
    }

    /// For each commit whether it and its whole state can be read.
    pub(crate) async fn readable(&self, commits: &[Hash]) -> Result<Vec<bool>, CatalogError> {
        let workspace = self.workspace();
        let mut marks = Marks::default();
        let mut readable = Vec::with_capacity(commits.len());
        for hash in commits {
            let whole = match workspace.commit(*hash).await {
                _ if *hash == *NO_ANCESTOR => Ok(()),
                Ok(commit) => self.mark_nodes(&workspace, &commit, &mut marks).await,
                Err(error) => Err(error),
            };
            match whole {
                Ok(()) => readable.push(true),
                Err(CatalogError::NotFound { .. } | CatalogError::Internal(_)) => readable.push(false),
                Err(error) => return Err(error),
            }
        }
        Ok(readable)
    }
}

fn head_after(event: &Event) -> Option<Hash> {
    event.body["hash"].as_str()?.parse().ok()
}
