//! Deciding: from states, records, commands, rules and time to new states and transitions. Pure and synchronous.
//!
//! A [`Step`] is computed from the engine without changing it, written to the log by the worker, and only then
//! [`accepted`](Engine::accept). One step handles, per partition and in this order: what rule changes ended, records in
//! their order, commands in theirs, and what time alone brings: the end of a grace, a snooze or a window, silence, retirement.

mod apply;
mod judge;
mod partition;
mod review;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use firn_policy::{Command, TransitionRecord};
use firn_stream::Record;
use serde::{Deserialize, Serialize};

use crate::{
    host::HostKey,
    packed::Packed,
    rules::{ErasureLists, TenantRules},
};
pub(crate) use apply::bounded;
pub(crate) use judge::received_us;
use partition::Partition;
pub(crate) use review::Devices;
use review::Review;

/// Hosts that rule changes or time may touch in one step and partition; the rest follows in the next.
const MAX_HOSTS_PER_SWEEP: usize = 2_000;

/// What a step is computed from.
#[derive(Default)]
pub(crate) struct Batch {
    /// Inventories by partition, in order.
    pub(crate) records: BTreeMap<i32, Vec<Record>>,
    /// Commands by partition, in order.
    pub(crate) commands: BTreeMap<i32, Vec<Record>>,
    /// Rules by tenant. Records of a tenant that is not here are skipped: nobody knows it.
    pub(crate) rules: HashMap<String, Arc<TenantRules>>,
    /// Wall clock of partitions that are read to their end, microseconds since the epoch.
    pub(crate) clock_us: BTreeMap<i32, i64>,
    /// Hosts to be judged again, by their newest record.
    pub(crate) devices: Option<Devices>,
    /// Whether time passes for a host with its own records alone, as in a replay.
    pub(crate) only_records: bool,
    /// Id of the inventory topic.
    pub(crate) topic_id: String,
    /// Who was erased.
    pub(crate) erased: Arc<ErasureLists>,
    /// Whether all hosts are to be looked through for them.
    pub(crate) sweeps_erased: bool,
}

impl Batch {
    /// Leaves out records and commands of erased hosts.
    pub(crate) fn leave_out_erased(&mut self) {
        if self.erased.is_empty() {
            return;
        }
        let erased = Arc::clone(&self.erased);
        let stays = |record: &Record| {
            let key = record.key.as_deref().and_then(HostKey::parse);
            key.is_none_or(|key| !is_erased(&erased, &key.tenant, &key.host_id))
        };
        self.records.values_mut().chain(self.commands.values_mut()).for_each(|records| records.retain(stays));
    }
}

/// Whether a host is on its tenant's erasure list.
pub(crate) fn is_erased(lists: &ErasureLists, tenant: &str, host_id: &str) -> bool {
    lists.get(tenant).is_some_and(|list| list.has("host_id", host_id))
}

/// A command as it lies in the topic `alerts-commands`; the record's key names the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CommandRecord {
    pub(crate) rule_id: String,
    #[serde(flatten)]
    pub(crate) command: Command,
    pub(crate) by: String,
    #[serde(default)]
    pub(crate) note: String,
    pub(crate) at_us: i64,
}

/// What a step changes.
#[derive(Default)]
pub(crate) struct Step {
    pub(crate) partitions: BTreeMap<i32, PartitionStep>,
    /// By tenant.
    pub(crate) counts: BTreeMap<String, Counts>,
    /// First run-time error by tenant and rule.
    pub(crate) rule_errors: BTreeMap<(String, String), String>,
    /// Records whose key, header or payload made no sense. Ingest quarantines the same ones.
    pub(crate) unreadable: u64,
    /// Hosts that were judged again.
    pub(crate) reviewed: u64,
    /// Whether another step has work to do without new records.
    pub(crate) more: bool,
}

/// One partition's part of a step.
#[derive(Default)]
pub(crate) struct PartitionStep {
    pub(crate) changed: Vec<(Arc<HostKey>, Changed)>,
    /// Hosts that were looked at in vain, and when to look again.
    put_off: Vec<(Arc<HostKey>, Option<i64>)>,
    /// Hosts that were erased.
    pub(crate) removed: BTreeSet<Arc<HostKey>>,
    pub(crate) transitions: Vec<TransitionRecord>,
    /// Tenants whose present rules the partition follows from now on, with their fingerprint.
    pub(crate) adopted: BTreeMap<String, u64>,
    time_us: i64,
}

/// What a host becomes.
pub(crate) struct Changed {
    pub(crate) state: Packed,
    /// When time alone changes it next.
    due_us: Option<i64>,
}

/// Totals of a step for one tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) records: u64,
    /// Older than one already judged.
    pub(crate) dropped: u64,
    /// Samples that came after all their windows had closed.
    pub(crate) late: u64,
    pub(crate) transitions: u64,
    /// Largest receipt time, microseconds since the epoch.
    pub(crate) received_at_us: i64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Self) {
        self.records += other.records;
        self.dropped += other.dropped;
        self.late += other.late;
        self.transitions += other.transitions;
        self.received_at_us = self.received_at_us.max(other.received_at_us);
    }
}

/// All partitions that this worker owns.
#[derive(Default)]
pub(crate) struct Engine {
    partitions: BTreeMap<i32, Partition>,
    /// A host that was silent for so many microseconds is retired; never, if absent.
    retire_after_us: Option<i64>,
}

impl Engine {
    /// Owns nothing yet.
    pub(crate) fn new(retire_after_us: Option<i64>) -> Self {
        Self { partitions: BTreeMap::new(), retire_after_us }
    }

    /// Takes a partition with the states read back from the log.
    pub(crate) fn assign(&mut self, partition: i32, hosts: HashMap<Arc<HostKey>, Packed>) {
        self.partitions.insert(partition, Partition::new(hosts, self.retire_after_us));
    }

    /// Gives a partition up.
    pub(crate) fn revoke(&mut self, partition: i32) {
        self.partitions.remove(&partition);
    }

    /// Tenants that have hosts here.
    pub(crate) fn tenants(&self) -> BTreeSet<String> {
        self.partitions.values().flat_map(|partition| partition.tenants().cloned()).collect()
    }

    /// Whether time or rules alone give a step something to do.
    pub(crate) fn has_work(&self, batch: &Batch) -> bool {
        self.partitions.iter().any(|(number, partition)| {
            let clock_us = batch.clock_us.get(number).copied().unwrap_or(i64::MIN);
            partition.is_due(clock_us) || partition.behind(&batch.rules).next().is_some()
        })
    }

    /// Computes a step; changes nothing.
    pub(crate) fn process(&self, batch: &Batch) -> Step {
        let mut step = Step::default();
        let judged = judge::judge(batch, &mut step);
        let review = Review::of(batch);
        for (number, partition) in &self.partitions {
            let mut work = apply::Work::new(partition, *number, batch);
            work.adopt_rules(MAX_HOSTS_PER_SWEEP);
            if let Some(review) = &review {
                work.review(review);
            }
            for record in judged.of(*number) {
                work.record(record, judged.tenant(record));
            }
            for record in batch.commands.get(number).into_iter().flatten() {
                work.command(record);
            }
            if !batch.only_records {
                work.pass_time(MAX_HOSTS_PER_SWEEP);
            }
            work.forget_erased();
            work.finish(&mut step);
        }
        step
    }

    /// Makes a step's changes ours, after the log has them.
    pub(crate) fn accept(&mut self, step: &Step, rules: &HashMap<String, Arc<TenantRules>>) {
        for (number, part) in &step.partitions {
            if let Some(partition) = self.partitions.get_mut(number) {
                partition.accept(part, rules);
            }
        }
    }

    /// Hosts of a tenant that are not retired.
    pub(crate) fn hosts(&self, tenant: &str) -> u64 {
        let hosts = self.partitions.values().flat_map(|partition| partition.hosts_of(tenant));
        hosts.filter(|(_, host)| !host.retired).count() as u64
    }

    /// All hosts' states, and the partitions that they lie in.
    pub(crate) fn states(&self) -> impl Iterator<Item = (i32, &Arc<HostKey>, &Packed)> {
        self.partitions
            .iter()
            .flat_map(|(number, partition)| partition.states().map(|(key, state)| (*number, key, state)))
    }

    /// A host's state.
    #[cfg(test)]
    pub(crate) fn host(&self, partition: i32, key: &HostKey) -> Option<Packed> {
        self.partitions.get(&partition)?.host(key).map(|(_, state)| Packed::of(&state))
    }
}

#[cfg(test)]
mod tests;
