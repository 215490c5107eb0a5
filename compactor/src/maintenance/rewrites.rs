//! Carrying out rewrites: the best first, some at a time, each for itself. One that fails leaves the others alone.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use firn_table::{DataFileEntry, Table};
use tokio::task::JoinSet;

use super::{Maintenance, pack::Packed, plan::Settings, worth::worth};
use crate::CompactorError;

/// Rewrites that fail before no other is begun: then it is the store or the catalog, not a file.
const MAX_FAILED: usize = 3;
/// Pause of a group that failed before it is tried again; it doubles each time, up to the longest.
const FIRST_REST: Duration = Duration::from_secs(60);
const LONGEST_REST: Duration = Duration::from_secs(3_600);

/// Files of one table that are rewritten together.
pub(super) struct Rewrite {
    pub(super) table: Table,
    pub(super) settings: Arc<Settings>,
    pub(super) files: Vec<DataFileEntry>,
}

/// What became of it.
pub(super) enum Rewritten {
    Done(Packed),
    /// Other writers changed the files meanwhile; they are as they were.
    Conflict,
    Failed(CompactorError),
    /// There was no time left, or too many others failed.
    NotBegun,
}

/// Groups that failed, by the location of their first file.
#[derive(Debug, Default)]
pub(super) struct Resting {
    groups: BTreeMap<String, Rest>,
}

#[derive(Clone, Copy, Debug)]
struct Rest {
    until: Instant,
    length: Duration,
}

impl Rewrite {
    fn name(&self) -> &str {
        self.files.first().map_or("", |file| &file.location)
    }
}

/// The best first.
pub(super) fn by_worth(rewrites: &mut [Rewrite]) {
    rewrites.sort_by_cached_key(|rewrite| {
        // As bits of positive numbers, which are in the order of the numbers.
        std::cmp::Reverse(worth(&rewrite.files, &rewrite.settings).to_bits())
    });
}

impl Resting {
    /// Leaves out those that rest, and forgets groups that are no longer to be rewritten.
    pub(super) fn leave_out(&mut self, rewrites: &mut Vec<Rewrite>, now: Instant) {
        self.groups.retain(|name, _| rewrites.iter().any(|rewrite| rewrite.name() == name));
        rewrites.retain(|rewrite| self.groups.get(rewrite.name()).is_none_or(|rest| rest.until <= now));
    }

    pub(super) fn failed(&mut self, rewrite: &Rewrite, now: Instant) {
        let length = self.groups.get(rewrite.name()).map_or(FIRST_REST, |rest| rest.length * 2);
        let length = length.min(LONGEST_REST);
        self.groups.insert(rewrite.name().to_owned(), Rest { until: now + length, length });
    }

    /// Whether any rest.
    pub(super) fn count(&self) -> usize {
        self.groups.len()
    }
}

impl Maintenance {
    /// Carries out rewrites in their order. None but the first begins after `until`; `each` hears of every one.
    pub(super) async fn rewrite_all(
        &self,
        rewrites: Vec<Rewrite>,
        until: Option<Instant>,
        mut each: impl FnMut(&Rewrite, Rewritten),
    ) {
        let parallel = self.config.maintenance.parallel_rewrites.max(1);
        let (mut waiting, mut begun, mut failed) = (rewrites.into_iter(), 0, 0);
        // Dropped with this future, as when the lease is lost: what runs is given up then.
        let mut running = JoinSet::new();
        loop {
            while running.len() < parallel
                && let Some(rewrite) = waiting.next()
            {
                // One is begun in any case, lest a time that is too short be none.
                let is_late = begun > 0 && until.is_some_and(|until| Instant::now() >= until);
                if failed >= MAX_FAILED || is_late {
                    each(&rewrite, Rewritten::NotBegun);
                } else {
                    begun += 1;
                    running.spawn(self.clone().rewrite(rewrite));
                }
            }
            let Some(ended) = running.join_next().await else { return };
            match ended {
                Ok((rewrite, rewritten)) => {
                    failed += usize::from(matches!(rewritten, Rewritten::Failed(_)));
                    each(&rewrite, rewritten);
                }
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                // Only whoever drops the set cancels.
                Err(_) => {}
            }
        }
    }

    async fn rewrite(self, rewrite: Rewrite) -> (Rewrite, Rewritten) {
        // Closed never; it bounds rewrites of all tenants together.
        let _place = self.rewriting.acquire().await;
        let rewritten = match self.pack(&rewrite.table, &rewrite.files, &rewrite.settings).await {
            Ok(packed) => Rewritten::Done(packed),
            Err(error) if error.is_conflict() => Rewritten::Conflict,
            Err(error) => Rewritten::Failed(error),
        };
        (rewrite, rewritten)
    }
}
