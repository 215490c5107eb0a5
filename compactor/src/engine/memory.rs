//! How queries share their memory.
//!
//! Sorts and groupings take what they are let and spill when they are refused more. Two things then still need memory: what merges
//! the sorted parts, which can't spill, and the spilling itself, which sorts what it writes. A part of the memory is kept for both.
//! DataFusion's own fair pool keeps none, so that a merge behind two full sorters fails, and so does a grouping that is to spill; it
//! also divides the memory by all consumers that could spill, whether they hold anything or not.

use std::{
    cmp::Reverse,
    collections::HashMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use datafusion::{
    error::{DataFusionError, Result},
    execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation},
};

/// Share of the memory, as one of so many, that consumers leave to others until they spill.
const KEPT_SHARE: usize = 4;
/// The same while they spill.
const KEPT_WHILE_SPILLING: usize = 32;
/// What the merge of a sort's spilled parts is called. It takes as many parts at once as it is let, and does with two.
const MERGE: &str = "ExternalSorterMerge";
/// Share of the memory, as one of so many, that one such merge may hold.
const MERGE_SHARE: usize = 6;
/// Share of the memory, as one of so many, that each consumer may hold whatever others hold: who can't even hold a few rows can't
/// spill them.
const LEAST_SHARE: usize = 32;
/// Consumers that are named when there is no memory left.
const NAMED: usize = 4;

/// Memory of all queries.
#[derive(Debug)]
pub(super) struct QueryMemory {
    bytes: usize,
    least_sharing: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    /// Who holds memory, by the consumer's id.
    holders: HashMap<usize, Holder>,
    by_spillable: usize,
    by_others: usize,
}

#[derive(Debug)]
struct Holder {
    name: String,
    can_spill: bool,
    bytes: usize,
    /// It was refused more, so that it spills now.
    spills: bool,
}

impl QueryMemory {
    /// At least so many are to share what is not kept, even if fewer hold memory yet.
    pub(super) fn new(bytes: usize, least_sharing: usize) -> Self {
        Self { bytes, least_sharing, taken: Mutex::default() }
    }

    /// What a sort keeps for its merge.
    pub(super) fn merge_bytes(&self) -> usize {
        (self.bytes / LEAST_SHARE).clamp(1 << 20, 10 << 20)
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that a consumer may take now.
    fn left(&self, taken: &Taken, consumer: &MemoryConsumer) -> usize {
        let free = self.bytes.saturating_sub(taken.by_others + taken.by_spillable);
        let held = taken.holders.get(&consumer.id()).map_or(0, |holder| holder.bytes);
        if !consumer.can_spill() {
            let is_merge = consumer.name().starts_with(MERGE);
            let most = if is_merge { self.bytes / MERGE_SHARE } else { self.bytes };
            return most.saturating_sub(held).min(free);
        }
        let holding = taken.holders.values().filter(|holder| holder.can_spill && holder.bytes > 0).count();
        let sharing = (holding + usize::from(held == 0)).max(self.least_sharing);
        let to_share = self.bytes.saturating_sub(taken.by_others.max(self.bytes / KEPT_SHARE));
        let share =
            (to_share / sharing).saturating_sub(held).min(to_share.saturating_sub(taken.by_spillable));
        share.max((self.bytes / LEAST_SHARE).saturating_sub(held)).min(free)
    }

    /// Bytes that a consumer may take while it spills.
    fn left_to_spill(&self, taken: &Taken) -> usize {
        let taken = taken.by_others + taken.by_spillable;
        self.bytes.saturating_sub(taken + self.bytes / KEPT_WHILE_SPILLING)
    }

    fn refused(
        &self,
        taken: &Taken,
        consumer: &MemoryConsumer,
        bytes: usize,
        left: usize,
    ) -> DataFusionError {
        let mut holders: Vec<_> = taken.holders.values().filter(|holder| holder.bytes > 0).collect();
        holders.sort_by_key(|holder| Reverse(holder.bytes));
        let most = holders.iter().take(NAMED).map(|holder| format!("{} {}", holder.name, holder.bytes));
        DataFusionError::ResourcesExhausted(format!(
            "{} needs {bytes} bytes more, and {left} of {} are left to it (most have: {}): raise promotion.memory_bytes",
            consumer.name(),
            self.bytes,
            most.collect::<Vec<_>>().join(", ")
        ))
    }
}

impl Taken {
    fn holder(&mut self, consumer: &MemoryConsumer) -> &mut Holder {
        self.holders.entry(consumer.id()).or_insert_with(|| Holder {
            name: consumer.name().to_owned(),
            can_spill: consumer.can_spill(),
            bytes: 0,
            spills: false,
        })
    }

    fn of_kind(&mut self, consumer: &MemoryConsumer) -> &mut usize {
        if consumer.can_spill() { &mut self.by_spillable } else { &mut self.by_others }
    }

    fn add(&mut self, consumer: &MemoryConsumer, bytes: usize) {
        self.holder(consumer).bytes += bytes;
        *self.of_kind(consumer) += bytes;
    }
}

impl MemoryPool for QueryMemory {
    fn name(&self) -> &str {
        "queries"
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.taken().holders.remove(&consumer.id());
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.taken().add(reservation.consumer(), additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        let (mut taken, consumer) = (self.taken(), reservation.consumer());
        taken.holder(consumer).bytes -= shrink;
        *taken.of_kind(consumer) -= shrink;
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let (mut taken, consumer) = (self.taken(), reservation.consumer());
        let left = self.left(&taken, consumer);
        let fits = additional <= left;
        let to_spill = self.left_to_spill(&taken);
        let was_refused = std::mem::replace(&mut taken.holder(consumer).spills, !fits);
        let may_spill = consumer.can_spill() && was_refused && additional <= to_spill;
        if !fits && !may_spill {
            return Err(self.refused(&taken, consumer, additional, left));
        }
        taken.add(consumer, additional);
        Ok(())
    }

    fn reserved(&self) -> usize {
        let taken = self.taken();
        taken.by_spillable + taken.by_others
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.bytes)
    }
}

impl fmt::Display for QueryMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "queries({} bytes)", self.bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use datafusion::{
        execution::runtime_env::RuntimeEnvBuilder,
        prelude::{SessionConfig, SessionContext},
    };
    use futures::StreamExt;

    use super::*;

    fn spillable(name: &str, pool: &Arc<dyn MemoryPool>) -> MemoryReservation {
        MemoryConsumer::new(name).with_can_spill(true).register(pool)
    }

    #[test]
    fn full_sorters_leave_memory_to_what_merges_them() {
        let pool: Arc<dyn MemoryPool> = Arc::new(QueryMemory::new(1_600, 4));
        let sorters = ["a", "b", "c", "d"].map(|name| spillable(name, &pool));
        sorters.iter().for_each(|sorter| sorter.try_grow(300).unwrap());
        assert!(sorters.iter().all(|sorter| sorter.try_grow(1).is_err()), "they spill");
        let merge = MemoryConsumer::new("merge").register(&pool);
        merge.try_grow(400).unwrap();
        let told = merge.try_grow(1).unwrap_err().to_string();
        assert!(told.contains("merge needs 1 bytes more, and 0 of 1600 are left"), "{told}");
        assert!(told.contains("(most have: merge 400, "), "{told}");
        // What is free is anybody's who can't spill.
        drop(sorters);
        merge.try_grow(1_200).unwrap();
        assert_eq!(pool.reserved(), 1_600);
    }

    #[test]
    fn merges_of_spilled_parts_leave_memory_to_each_other() {
        let pool: Arc<dyn MemoryPool> = Arc::new(QueryMemory::new(600, 4));
        let merges = [0, 1].map(|n| MemoryConsumer::new(format!("{MERGE}[{n}]")).register(&pool));
        merges.iter().for_each(|merge| merge.try_grow(100).unwrap());
        assert!(merges.iter().all(|merge| merge.try_grow(1).is_err()));
    }

    #[test]
    fn what_was_refused_may_take_what_is_kept_while_it_spills() {
        let pool: Arc<dyn MemoryPool> = Arc::new(QueryMemory::new(3_200, 4));
        let grouping = spillable("grouping", &pool);
        grouping.try_grow(600).unwrap();
        assert!(grouping.try_grow(1).is_err(), "it is to spill");
        grouping.try_grow(2_500).unwrap();
        assert!(grouping.try_grow(1).is_err(), "a little is kept even then");
        grouping.shrink(3_100);
        // It has spilled, and is refused anew before it may take as much again.
        grouping.try_grow(600).unwrap();
        assert!(grouping.try_grow(1_000).is_err());
    }

    #[test]
    fn who_comes_late_gets_a_little_and_the_others_give_way_once_they_ask() {
        let pool: Arc<dyn MemoryPool> = Arc::new(QueryMemory::new(3_200, 4));
        let first = ["a", "b", "c", "d"].map(|name| spillable(name, &pool));
        first.iter().for_each(|holder| holder.try_grow(600).unwrap());
        let late = spillable("late", &pool);
        late.try_grow(100).unwrap();
        assert!(late.try_grow(1).is_err(), "nothing is left of what is shared");
        first[0].shrink(600);
        first[0].try_grow(480).unwrap();
        assert!(first[0].try_grow(1).is_err(), "five share now");
    }

    /// Sorts and groups far more than fits, by two threads.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn queries_over_more_than_the_memory_come_to_their_end() {
        let pool = Arc::new(QueryMemory::new(48 << 20, 4));
        let config = SessionConfig::new()
            .with_target_partitions(2)
            .with_sort_spill_reservation_bytes(pool.merge_bytes());
        let runtime = RuntimeEnvBuilder::new().with_memory_pool(pool).build_arc().unwrap();
        let session = SessionContext::new_with_config_rt(config, runtime);
        let rows = "SELECT md5(CAST(value AS VARCHAR)) AS id, repeat('x', 100) AS text FROM range(500000)";
        session.sql(&format!("CREATE VIEW t AS {rows}")).await.unwrap();
        let rows_of = async |sql: &str| {
            let mut batches = session.sql(sql).await.unwrap().execute_stream().await.unwrap();
            let mut rows = 0;
            while let Some(batch) = batches.next().await {
                rows += batch.unwrap().num_rows();
            }
            rows
        };
        assert_eq!(rows_of("SELECT id, min(text), count(*) FROM t GROUP BY id").await, 500_000);
        assert_eq!(rows_of("SELECT * FROM t ORDER BY id").await, 500_000);
    }
}
