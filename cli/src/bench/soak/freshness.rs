//! How long it takes from an acknowledged upload to a row that a query finds.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Result;
use firn_catalog_client::TenantClient;
use firn_table::{Increment, increment};
use serde::Serialize;

use super::{Acknowledged, rows};
use crate::simulate::number_of;

/// Between two looks: freshness is told too old by up to this.
pub(super) const LOOK: Duration = Duration::from_millis(200);

/// Rows by their age in milliseconds when they were first found.
#[derive(Clone, Default)]
pub(super) struct Freshness {
    ages_ms: Arc<Mutex<BTreeMap<u64, u64>>>,
}

/// What is printed of it.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    /// Rows that were looked at as they came.
    rows: u64,
    p50_ms: u64,
    p99_ms: u64,
    longest_ms: u64,
}

impl Freshness {
    /// Looks for a tenant's new rows until it is dropped.
    pub(super) fn watch(
        &self,
        client: TenantClient,
        acknowledged: Acknowledged,
    ) -> impl Future<Output = Result<()>> + Send + use<> {
        let ages_ms = Arc::clone(&self.ages_ms);
        async move {
            let mut read = None;
            loop {
                tokio::time::sleep(LOOK).await;
                let Some(table) = rows::bronze(&client).await? else { continue };
                let newest = table.current_snapshot().map(|snapshot| snapshot.id);
                if newest == read {
                    continue;
                }
                // What can't be told row by row, since a compaction or a rollback came between, is left out.
                if let Increment::Appended(added) = increment(&table, read, newest).await? {
                    let seen = tokio::time::Instant::now();
                    let note = |id: Option<&str>| {
                        let acknowledged = id.and_then(number_of).and_then(|number| acknowledged.of(number));
                        let age =
                            acknowledged.map(|at| seen.saturating_duration_since(at)).unwrap_or_default();
                        let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
                        *ages_ms.lock().unwrap_or_else(PoisonError::into_inner).entry(age_ms).or_default() +=
                            1;
                    };
                    rows::event_ids(*added, note).await?;
                }
                read = newest;
            }
        }
    }

    pub(super) fn summary(&self) -> Summary {
        let ages_ms = self.ages_ms.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = ages_ms.values().sum();
        let (p50_ms, p99_ms) = (quantile(&ages_ms, rows, 50), quantile(&ages_ms, rows, 99));
        Summary { rows, p50_ms, p99_ms, longest_ms: ages_ms.keys().next_back().copied().unwrap_or(0) }
    }
}

/// The age below which so many of a hundred rows were.
fn quantile(ages_ms: &BTreeMap<u64, u64>, rows: u64, percent: u64) -> u64 {
    let mut left = (rows * percent).div_ceil(100);
    for (age_ms, count) in ages_ms {
        left = left.saturating_sub(*count);
        if left == 0 {
            return *age_ms;
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_count_rows() {
        let ages_ms = BTreeMap::from([(10, 90), (20, 9), (500, 1)]);
        let of = |percent| quantile(&ages_ms, 100, percent);
        assert_eq!((of(50), of(90), of(91), of(99), of(100)), (10, 10, 20, 20, 500));
        assert_eq!(quantile(&BTreeMap::new(), 0, 99), 0);
    }
}
