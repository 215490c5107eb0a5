//! The hosts of one partition, and when time will touch them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use firn_policy::CompiledRule;

use super::{Changed, PartitionStep};
use crate::{
    host::{HostKey, HostState},
    packed::Packed,
    rules::TenantRules,
};

/// When a host is looked at that time alone doesn't touch.
const NEVER: i64 = i64::MAX;

/// State of a partition.
pub(super) struct Partition {
    hosts: HashMap<Arc<HostKey>, Kept>,
    tenants: BTreeSet<String>,
    /// The largest receipt time read; follows the wall clock only while read to the end, and never goes back.
    pub(super) time_us: i64,
    /// Fingerprint of the rules that the partition follows, by tenant. A tenant's hosts have their timers once it is here.
    adopted: BTreeMap<String, u64>,
    /// Invariant: the hosts whose `wakes_us` isn't `NEVER`, by that.
    timers: BTreeSet<(i64, Arc<HostKey>)>,
    retire_after_us: Option<i64>,
}

/// What is kept of a host.
struct Kept {
    state: Packed,
    /// When it is looked at next. Invariant: not after time would change it; it may be before, since a host that reports puts
    /// off what its silence would bring, and to move a timer with each record would cost more than to look once in vain.
    wakes_us: i64,
}

impl Partition {
    pub(super) fn new(hosts: HashMap<Arc<HostKey>, Packed>, retire_after_us: Option<i64>) -> Self {
        let received_us = hosts.values().map(|state| state.state().received_us);
        Self {
            time_us: received_us.max().unwrap_or(i64::MIN),
            tenants: hosts.keys().map(|key| key.tenant.clone()).collect(),
            hosts: hosts.into_iter().map(|(key, state)| (key, Kept { state, wakes_us: NEVER })).collect(),
            adopted: BTreeMap::new(),
            timers: BTreeSet::new(),
            retire_after_us,
        }
    }

    /// A host's state, and its key as it is kept here.
    pub(super) fn host(&self, key: &HostKey) -> Option<(&Arc<HostKey>, HostState)> {
        self.hosts.get_key_value(key).map(|(key, kept)| (key, kept.state.state()))
    }

    pub(super) fn tenants(&self) -> impl Iterator<Item = &String> {
        self.tenants.iter()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &Arc<HostKey>> {
        self.hosts.keys()
    }

    pub(super) fn states(&self) -> impl Iterator<Item = (&Arc<HostKey>, &Packed)> {
        self.hosts.iter().map(|(key, kept)| (key, &kept.state))
    }

    pub(super) fn hosts_of(&self, tenant: &str) -> impl Iterator<Item = (&Arc<HostKey>, HostState)> {
        let hosts = self.hosts.iter().filter(move |(key, _)| key.tenant == tenant);
        hosts.map(|(key, kept)| (key, kept.state.state()))
    }

    /// Tenants whose rules are others than those that the partition follows.
    pub(super) fn behind<'a>(
        &'a self,
        rules: &'a HashMap<String, Arc<TenantRules>>,
    ) -> impl Iterator<Item = (&'a str, &'a TenantRules)> {
        self.tenants.iter().filter_map(|tenant| {
            let present = rules.get(tenant)?;
            (self.adopted.get(tenant) != Some(&present.fingerprint))
                .then_some((tenant.as_str(), present.as_ref()))
        })
    }

    pub(super) fn is_due(&self, clock_us: i64) -> bool {
        self.timers.first().is_some_and(|(wakes_us, _)| *wakes_us <= clock_us.max(self.time_us))
    }

    /// Hosts to be looked at up to `time_us`, the longest overdue first.
    pub(super) fn awake(&self, time_us: i64) -> impl Iterator<Item = &Arc<HostKey>> {
        self.timers.iter().take_while(move |(wakes_us, _)| *wakes_us <= time_us).map(|(_, key)| key)
    }

    pub(super) fn accept(&mut self, step: &PartitionStep, rules: &HashMap<String, Arc<TenantRules>>) {
        self.time_us = self.time_us.max(step.time_us);
        for (key, Changed { state, due_us }) in &step.changed {
            let wakes_us = match self.hosts.get_mut(key) {
                Some(kept) => {
                    kept.state = state.clone();
                    kept.wakes_us
                }
                None => {
                    if !self.tenants.contains(&key.tenant) {
                        self.tenants.insert(key.tenant.clone());
                    }
                    self.hosts.insert(Arc::clone(key), Kept { state: state.clone(), wakes_us: NEVER });
                    NEVER
                }
            };
            let due_us = due_us.unwrap_or(NEVER);
            if due_us < wakes_us || wakes_us <= self.time_us {
                self.wake(key, due_us);
            }
        }
        for (key, due_us) in &step.put_off {
            self.wake(key, due_us.unwrap_or(NEVER));
        }
        for key in &step.removed {
            self.wake(key, NEVER);
            self.hosts.remove(key);
        }
        for (tenant, fingerprint) in &step.adopted {
            self.adopted.insert(tenant.clone(), *fingerprint);
            let Some(rules) = rules.get(tenant) else { continue };
            let due = |host: &HostState| due_us(host, rules, self.retire_after_us).unwrap_or(NEVER);
            let hosts = self.hosts_of(tenant).map(|(key, host)| (Arc::clone(key), due(&host)));
            let hosts: Vec<(Arc<HostKey>, i64)> = hosts.collect();
            hosts.iter().for_each(|(key, due_us)| self.wake(key, *due_us));
        }
    }

    /// When the host is retired for its silence.
    pub(super) fn retires_us(&self, host: &HostState) -> Option<i64> {
        retires_us(host, self.retire_after_us)
    }

    /// When time alone changes a host next.
    pub(super) fn due_us(&self, host: &HostState, rules: &TenantRules) -> Option<i64> {
        due_us(host, rules, self.retire_after_us)
    }

    /// Sets a host's timer.
    fn wake(&mut self, key: &Arc<HostKey>, wakes_us: i64) {
        let Some((key, kept)) = self.hosts.get_key_value(key) else { return };
        let before = kept.wakes_us;
        if before == wakes_us {
            return;
        }
        // The key that is kept, so that none lies in memory twice.
        let key = Arc::clone(key);
        if before != NEVER {
            self.timers.remove(&(before, Arc::clone(&key)));
        }
        if wakes_us != NEVER {
            self.timers.insert((wakes_us, Arc::clone(&key)));
        }
        if let Some(kept) = self.hosts.get_mut(&key) {
            kept.wakes_us = wakes_us;
        }
    }
}

fn retires_us(host: &HostState, after_us: Option<i64>) -> Option<i64> {
    Some(host.received_us.saturating_add(after_us.filter(|_| !host.retired)?))
}

/// When time alone changes a host next. Invariant: once `Work::pass` went up to that instant, this is a later one.
fn due_us(host: &HostState, rules: &TenantRules, retire_after_us: Option<i64>) -> Option<i64> {
    let touched = |rule: &&CompiledRule| rule.absence_us().is_some() || host.knows(&rule.policy.id);
    let due = rules.rules.iter().filter(touched).filter_map(|rule| host.due_us(rule));
    due.chain(retires_us(host, retire_after_us)).min()
}
