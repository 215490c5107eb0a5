//! How many tables and views a state has. Counted once; from then on only what changed is.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::{Content, EntryRange, Hash, Repository};
use crate::CatalogError;

/// Entries that are counted at once.
const CHUNK: usize = 1000;

/// The state of each repository that was counted last, and what came of it.
#[derive(Default)]
pub(super) struct Counts(Mutex<HashMap<Arc<str>, (Hash, usize)>>);

impl Repository {
    /// Tables and views of a state.
    pub(crate) async fn table_count(&self, at: Hash) -> Result<usize, CatalogError> {
        let counts = &self.shared.counts.0;
        let known = counts.lock().unwrap_or_else(PoisonError::into_inner).get(&self.name).copied();
        let count = match known {
            Some((before, count)) => match self.count_from(before, count, at).await {
                // Garbage collection may have removed what was counted last.
                Err(CatalogError::NotFound { .. }) => self.count_all(at).await?,
                counted => counted?,
            },
            None => self.count_all(at).await?,
        };
        let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.insert(Arc::clone(&self.name), (at, count));
        Ok(count)
    }

    async fn count_from(&self, before: Hash, count: usize, at: Hash) -> Result<usize, CatalogError> {
        let mut count = count;
        for (_, old, new) in self.diff(before, at).await? {
            let is_table =
                |content: Option<Content>| content.is_some_and(|content| content.is_table_or_view());
            count = count + usize::from(is_table(new)) - usize::from(is_table(old));
        }
        Ok(count)
    }

    async fn count_all(&self, at: Hash) -> Result<usize, CatalogError> {
        let mut range = EntryRange { limit: CHUNK, ..EntryRange::default() };
        let mut count = 0;
        loop {
            let (entries, more) = self.entries(at, &range).await?;
            count += entries.iter().filter(|(_, content)| content.is_table_or_view()).count();
            if !more {
                return Ok(count);
            }
            range.after = entries.into_iter().next_back().map(|(key, _)| key);
        }
    }
}
