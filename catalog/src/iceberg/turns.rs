//! Turns: commits to one table queue up in this process, first come, first served, instead of racing each other.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::OwnedMutexGuard;

use crate::{CatalogError, version::Key};

/// More than this many waiting for one table are turned away.
const MAX_WAITING: usize = 512;
/// Longest wait for a turn.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// Tenant, branch and table.
type Place = (String, String, Key);
type Queue = Arc<tokio::sync::Mutex<()>>;

/// The queues of all tables that are being committed to.
pub(crate) struct Turns {
    queues: Arc<Mutex<HashMap<Place, Queue>>>,
    max_wait: Duration,
}

impl Default for Turns {
    fn default() -> Self {
        Self { queues: Arc::default(), max_wait: MAX_WAIT }
    }
}

/// Turns at one or several tables, until dropped.
pub(crate) struct Turn {
    queues: Arc<Mutex<HashMap<Place, Queue>>>,
    held: Vec<(Place, OwnedMutexGuard<()>)>,
}

impl Turns {
    /// Waits for the turn at each key, in key order, so that two commits can't wait for each other.
    pub(crate) async fn take(
        &self,
        tenant: &str,
        branch: &str,
        keys: BTreeSet<Key>,
    ) -> Result<Turn, CatalogError> {
        let mut turn = Turn { queues: Arc::clone(&self.queues), held: Vec::with_capacity(keys.len()) };
        for key in keys {
            let place = (tenant.to_owned(), branch.to_owned(), key);
            let queue = {
                let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
                Arc::clone(queues.entry(place.clone()).or_default())
            };
            let crowded =
                || CatalogError::Unavailable(format!("too many commits wait for '{}': try again", place.2));
            if Arc::strong_count(&queue) > MAX_WAITING {
                return Err(crowded());
            }
            let guard =
                tokio::time::timeout(self.max_wait, queue.lock_owned()).await.map_err(|_| crowded())?;
            turn.held.push((place, guard));
        }
        Ok(turn)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        for (place, guard) in self.held.drain(..) {
            drop(guard);
            let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
            // Only the map knows the queue: nobody waits. New ones come under this lock.
            if queues.get(&place).is_some_and(|queue| Arc::strong_count(queue) == 1) {
                queues.remove(&place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn keys(names: &[&str]) -> BTreeSet<Key> {
        names.iter().map(|name| Key(vec![(*name).to_owned()])).collect()
    }

    #[tokio::test]
    async fn one_table_has_one_turn_and_others_go_on() {
        let turns = Arc::new(Turns::default());
        let first = turns.take("t", "main", keys(&["a", "b"])).await.unwrap();
        drop(turns.take("t", "main", keys(&["c"])).await.unwrap());
        drop(turns.take("t", "dev", keys(&["a"])).await.unwrap());
        let waiting = tokio::spawn({
            let turns = Arc::clone(&turns);
            async move { turns.take("t", "main", keys(&["b"])).await.map(drop) }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        waiting.await.unwrap().unwrap();
        assert!(turns.queues.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_wait_has_an_end() {
        let turns = Turns { max_wait: Duration::from_millis(1), ..Turns::default() };
        let _held = turns.take("t", "main", keys(&["a"])).await.unwrap();
        let waited = turns.take("t", "main", keys(&["a"])).await;
        assert!(matches!(waited, Err(CatalogError::Unavailable(_))));
    }
}
