//! What the worker holds and how far it is: pure bookkeeping, no I/O and no clock of its own.
//!
//! Invariant: every record below a partition's position is in the catalog, or in exactly one of a tenant's `pending` or
//! `in_flight`, or at or above that tenant's `held` offset. The low watermark, the only thing committed to the group, is the
//! least offset of the last three.

mod pending;
mod span;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use super::{address::Taken, positions::Positions};
use pending::Packer;
pub(super) use pending::Pending;
use span::Spans;

/// First offset by partition.
type Firsts = BTreeMap<i32, i64>;

/// The books of one worker.
#[derive(Default)]
pub(super) struct Book {
    /// Partitions that are ours.
    partitions: BTreeMap<i32, Progress>,
    tenants: HashMap<String, Tenant>,
    /// Invariant: the sum of all tenants' pending and in-flight bytes.
    buffered_bytes: usize,
    /// Packs pending records once there are more bytes than this; none packs never.
    packing: Option<(usize, Packer)>,
}

struct Progress {
    /// Next offset to be read.
    position: i64,
    /// Last offset committed to the group.
    committed: i64,
}

#[derive(Default)]
struct Tenant {
    pending: Pending,
    /// When the first pending record came.
    since: Option<Instant>,
    in_flight: Option<InFlight>,
    /// Next offset wanted; lower ones are here or in the catalog already. Unknown where absent.
    next: Positions,
    held: Option<Held>,
    /// Failures since the last success.
    failures: u32,
}

struct InFlight {
    spans: Spans,
    bytes: usize,
}

/// A tenant that waits after a failure, or is suspended: none of its records are kept, only where they begin.
struct Held {
    /// `None`: until it is resumed.
    until: Option<Instant>,
    spans: Spans,
}

/// When a tenant's records are due.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    pub(super) interval: Duration,
    pub(super) bytes: usize,
    pub(super) max_buffered_bytes: usize,
}

impl Book {
    /// Books that pack pending records while they take more bytes than this.
    pub(super) fn packing_above(bytes: usize) -> Self {
        let packer = Packer::new();
        if let Err(error) = &packer {
            tracing::warn!(%error, "records can't be packed, so fewer of them wait in memory");
        }
        Self { packing: packer.ok().map(|packer| (bytes, packer)), ..Self::default() }
    }

    /// A partition is ours from `position` on.
    pub(super) fn assign(&mut self, partition: i32, position: i64) {
        self.partitions.insert(partition, Progress { position, committed: position });
    }

    /// A partition is no longer ours: what it gave and what has not begun to be committed is dropped.
    pub(super) fn revoke(&mut self, partition: i32) {
        self.partitions.remove(&partition);
        for tenant in self.tenants.values_mut() {
            self.buffered_bytes -= tenant.pending.memory_bytes();
            tenant.pending.remove(partition);
            self.buffered_bytes += tenant.pending.memory_bytes();
            if tenant.pending.is_empty() {
                tenant.since = None;
            }
            tenant.next.remove(&partition);
            if let Some(held) = &mut tenant.held {
                held.spans.remove(partition);
            }
        }
    }

    pub(super) fn owns(&self, partition: i32) -> bool {
        self.partitions.contains_key(&partition)
    }

    /// Takes one record of `tenant`, in the order of its partition.
    pub(super) fn take(&mut self, tenant: &str, taken: Taken, now: Instant) {
        let Some(progress) = self.partitions.get_mut(&taken.partition) else { return };
        progress.position = taken.offset + 1;
        if !self.tenants.contains_key(tenant) {
            self.tenants.insert(tenant.to_owned(), Tenant::default());
        }
        let Some(tenant) = self.tenants.get_mut(tenant) else { return };
        if let Some(held) = &mut tenant.held {
            held.spans.add(taken.partition, taken.offset);
            return;
        }
        // Read again because another tenant's partition was sought back.
        if tenant.next.get(&taken.partition).is_some_and(|next| taken.offset < *next) {
            return;
        }
        tenant.next.insert(taken.partition, taken.offset + 1);
        tenant.since.get_or_insert(now);
        self.buffered_bytes += tenant.pending.push(taken);
        if let Some((bytes, packer)) = &mut self.packing
            && self.buffered_bytes > *bytes
        {
            self.buffered_bytes -= tenant.pending.pack(packer);
        }
    }

    /// The tenant whose commit should begin now, if any: beyond the memory bound the largest, else the one that waits longest. Of
    /// equal ones the first by name, so that the same history always goes the same way.
    pub(super) fn due(&self, due: Due, now: Instant) -> Option<String> {
        let idle = self
            .tenants
            .iter()
            .filter(|(_, tenant)| tenant.in_flight.is_none() && !tenant.pending.is_empty());
        if self.buffered_bytes >= due.max_buffered_bytes {
            return idle
                .max_by_key(|(name, tenant)| (tenant.pending.memory_bytes(), Reverse(*name)))
                .map(|(name, _)| name.clone());
        }
        let waited = |tenant: &Tenant| {
            tenant.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
        };
        idle.filter(|(_, tenant)| {
            tenant.pending.unpacked_bytes() >= due.bytes || waited(tenant) >= due.interval
        })
        .max_by_key(|(name, tenant)| (waited(tenant), Reverse(*name)))
        .map(|(name, _)| name.clone())
    }

    /// The tenant's pending records, whose commit begins.
    pub(super) fn start(&mut self, tenant: &str) -> Pending {
        let Some(tenant) = self.tenants.get_mut(tenant) else { return Pending::default() };
        let records = std::mem::take(&mut tenant.pending);
        tenant.since = None;
        let in_flight = InFlight { spans: records.spans(), bytes: records.unpacked_bytes() };
        self.buffered_bytes += in_flight.bytes;
        self.buffered_bytes -= records.memory_bytes();
        tenant.in_flight = Some(in_flight);
        records
    }

    /// The commit that had begun is in the catalog, with these positions.
    pub(super) fn committed(&mut self, tenant: &str, positions: &Positions) {
        let Some(tenant) = self.tenants.get_mut(tenant) else { return };
        if let Some(in_flight) = tenant.in_flight.take() {
            self.buffered_bytes -= in_flight.bytes;
        }
        tenant.failures = 0;
        for (partition, next) in positions {
            if let Some(known) = tenant.next.get_mut(partition) {
                *known = (*known).max(*next);
            } else if self.partitions.contains_key(partition) {
                tenant.next.insert(*partition, *next);
            }
        }
    }

    /// How often in a row the tenant failed, counting one more now.
    pub(super) fn next_failure(&mut self, tenant: &str) -> u32 {
        let Some(tenant) = self.tenants.get_mut(tenant) else { return 1 };
        tenant.failures = tenant.failures.saturating_add(1);
        tenant.failures
    }

    /// The commit that had begun failed: all the tenant's records are dropped, to be read again after `until`. A suspended
    /// tenant stays so.
    pub(super) fn hold(&mut self, tenant: &str, until: Instant) {
        self.drop_pending(tenant, Some(until));
        let Some(tenant) = self.tenants.get_mut(tenant) else { return };
        let Some(held) = &mut tenant.held else { return };
        held.until = held.until.map(|_| until);
        if let Some(in_flight) = tenant.in_flight.take() {
            self.buffered_bytes -= in_flight.bytes;
            // Those of partitions that were revoked meanwhile are another worker's to read again.
            held.spans.join(in_flight.spans, |partition| self.partitions.contains_key(&partition));
        }
    }

    /// Takes nothing more for the tenant until it is resumed; a commit that has begun may end. False if it was so already.
    pub(super) fn suspend(&mut self, tenant: &str) -> bool {
        self.tenants.entry(tenant.to_owned()).or_default();
        let suspended_before = self.is_suspended(tenant);
        self.drop_pending(tenant, None);
        if let Some(held) = self.tenants.get_mut(tenant).and_then(|tenant| tenant.held.as_mut()) {
            held.until = None;
        }
        !suspended_before
    }

    /// Lets a suspended tenant go on: it is released next.
    pub(super) fn resume(&mut self, tenant: &str, now: Instant) {
        if let Some(held) = self.tenants.get_mut(tenant).and_then(|tenant| tenant.held.as_mut()) {
            held.until.get_or_insert(now);
        }
    }

    /// Whether nothing is taken for the tenant until it is resumed.
    pub(super) fn is_suspended(&self, tenant: &str) -> bool {
        let held = self.tenants.get(tenant).and_then(|tenant| tenant.held.as_ref());
        held.is_some_and(|held| held.until.is_none())
    }

    /// Whether a commit of the tenant has begun and not ended.
    pub(super) fn is_committing(&self, tenant: &str) -> bool {
        self.tenants.get(tenant).is_some_and(|tenant| tenant.in_flight.is_some())
    }

    /// Forgets the tenant's pending records but for where they begin. From here on it is held.
    fn drop_pending(&mut self, tenant: &str, until: Option<Instant>) {
        let Some(tenant) = self.tenants.get_mut(tenant) else { return };
        let pending = std::mem::take(&mut tenant.pending);
        self.buffered_bytes -= pending.memory_bytes();
        let spans = pending.spans();
        tenant.since = None;
        tenant.next.clear();
        let held = tenant.held.get_or_insert_with(|| Held { until, spans: Spans::default() });
        held.spans.join(spans, |_| true);
    }

    /// Lets go of tenants that have waited long enough; answers where to read on, by partition.
    pub(super) fn release(&mut self, now: Instant) -> Firsts {
        let mut seeks = Firsts::new();
        for tenant in self.tenants.values_mut() {
            let due = |held: &mut Held| held.until.is_some_and(|until| until <= now);
            let Some(held) = tenant.held.take_if(due) else { continue };
            for (partition, offset) in held.spans.firsts() {
                let entry = seeks.entry(partition).or_insert(offset);
                *entry = offset.min(*entry);
            }
        }
        // Only ever back: a partition that is already before the offset will come to it.
        seeks.retain(|partition, offset| match self.partitions.get_mut(partition) {
            Some(progress) if *offset < progress.position => {
                progress.position = *offset;
                true
            }
            _ => false,
        });
        seeks
    }

    /// Offsets to commit to the group: low watermarks above what was committed.
    pub(super) fn committable(&self) -> Firsts {
        let low = self.low_watermarks();
        low.into_iter().filter(|(partition, low)| self.partitions[partition].committed < *low).collect()
    }

    /// These were committed to the group.
    pub(super) fn group_committed(&mut self, offsets: &Firsts) {
        for (partition, offset) in offsets {
            if let Some(progress) = self.partitions.get_mut(partition) {
                progress.committed = *offset;
            }
        }
    }

    /// By partition that is ours: the first offset that is not known to be in the catalog.
    pub(super) fn low_watermarks(&self) -> Firsts {
        let mut low: Firsts =
            self.partitions.iter().map(|(partition, progress)| (*partition, progress.position)).collect();
        let mut lower = |partition: i32, offset: i64| {
            if let Some(low) = low.get_mut(&partition) {
                *low = offset.min(*low);
            }
        };
        for tenant in self.tenants.values() {
            let pending = tenant.pending.spans();
            let held = tenant.held.iter().flat_map(|held| held.spans.firsts());
            let in_flight = tenant.in_flight.iter().flat_map(|in_flight| in_flight.spans.firsts());
            pending
                .firsts()
                .chain(held)
                .chain(in_flight)
                .for_each(|(partition, offset)| lower(partition, offset));
        }
        low
    }

    /// Whether nothing more should be read.
    pub(super) fn is_full(&self, due: Due) -> bool {
        self.buffered_bytes >= due.max_buffered_bytes
    }

    /// Bytes of all records in memory.
    pub(super) fn buffered_bytes(&self) -> usize {
        self.buffered_bytes
    }

    /// Tenants with records in memory.
    pub(super) fn active(&self) -> impl Iterator<Item = &str> {
        let holds = |tenant: &Tenant| !tenant.pending.is_empty() || tenant.in_flight.is_some();
        self.tenants.iter().filter(move |(_, tenant)| holds(tenant)).map(|(name, _)| name.as_str())
    }

    /// Tenants with records that were read and are not in the catalog, and how many. Of a held tenant it is what was seen
    /// of its records since.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (&str, usize)> {
        self.tenants.iter().filter_map(|(name, tenant)| {
            let held = tenant.held.iter().map(|held| held.spans.records());
            let in_flight = tenant.in_flight.iter().map(|in_flight| in_flight.spans.records());
            let records = tenant.pending.spans().records() + held.chain(in_flight).sum::<usize>();
            (records > 0).then_some((name.as_str(), records))
        })
    }
}

#[cfg(test)]
mod tests;
