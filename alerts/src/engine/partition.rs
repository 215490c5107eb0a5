//! One partition: its hosts, its time, and what time will do to them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use super::PartitionStep;
use crate::{
    host::{HostKey, HostState},
    rules::TenantRules,
};

/// State of a partition.
pub(super) struct Partition {
    hosts: HashMap<HostKey, HostState>,
    tenants: BTreeSet<String>,
    /// The largest receipt time read; follows the wall clock only while read to the end, and never goes back.
    pub(super) time_us: i64,
    /// Fingerprint of the rules that the partition follows, by tenant. A tenant's hosts are in `due` once it is here.
    adopted: BTreeMap<String, u64>,
    /// Invariant: `due` and `due_of` hold the same pairs.
    due: BTreeSet<(i64, HostKey)>,
    due_of: HashMap<HostKey, i64>,
    retire_after_us: Option<i64>,
}

impl Partition {
    pub(super) fn new(hosts: HashMap<HostKey, HostState>, retire_after_us: Option<i64>) -> Self {
        Self {
            tenants: hosts.keys().map(|key| key.tenant.clone()).collect(),
            time_us: hosts.values().map(|host| host.received_us).max().unwrap_or(i64::MIN),
            hosts,
            adopted: BTreeMap::new(),
            due: BTreeSet::new(),
            due_of: HashMap::new(),
            retire_after_us,
        }
    }

    pub(super) fn host(&self, key: &HostKey) -> Option<&HostState> {
        self.hosts.get(key)
    }

    pub(super) fn tenants(&self) -> impl Iterator<Item = &String> {
        self.tenants.iter()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &HostKey> {
        self.hosts.keys()
    }

    pub(super) fn hosts_of(&self, tenant: &str) -> impl Iterator<Item = (&HostKey, &HostState)> {
        self.hosts.iter().filter(move |(key, _)| key.tenant == tenant)
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
        self.due.first().is_some_and(|(due_us, _)| *due_us <= clock_us.max(self.time_us))
    }

    /// Hosts that time touches up to `time_us`, the longest overdue first.
    pub(super) fn due_until(&self, time_us: i64) -> impl Iterator<Item = &HostKey> {
        self.due.iter().take_while(move |(due_us, _)| *due_us <= time_us).map(|(_, key)| key)
    }

    pub(super) fn accept(&mut self, step: &PartitionStep, rules: &HashMap<String, Arc<TenantRules>>) {
        self.time_us = self.time_us.max(step.time_us);
        for (key, host) in &step.changed {
            self.tenants.insert(key.tenant.clone());
            self.schedule(key, host, rules);
            self.hosts.insert(key.clone(), host.clone());
        }
        for key in &step.removed {
            self.hosts.remove(key);
            self.unschedule(key);
        }
        for (tenant, fingerprint) in &step.adopted {
            self.adopted.insert(tenant.clone(), *fingerprint);
            let hosts: Vec<HostKey> = self.hosts_of(tenant).map(|(key, _)| key.clone()).collect();
            for key in hosts {
                let Some(host) = self.hosts.get(&key).cloned() else { continue };
                self.schedule(&key, &host, rules);
            }
        }
    }

    /// When the host is retired for its silence.
    pub(super) fn retires_us(&self, host: &HostState) -> Option<i64> {
        retires_us(host, self.retire_after_us)
    }

    /// Notes when time will touch a host next.
    fn schedule(&mut self, key: &HostKey, host: &HostState, rules: &HashMap<String, Arc<TenantRules>>) {
        let due_us = rules.get(&key.tenant).and_then(|rules| due_us(host, rules, self.retire_after_us));
        self.unschedule(key);
        if let Some(due_us) = due_us {
            self.due.insert((due_us, key.clone()));
            self.due_of.insert(key.clone(), due_us);
        }
    }

    fn unschedule(&mut self, key: &HostKey) {
        if let Some(before) = self.due_of.remove(key) {
            self.due.remove(&(before, key.clone()));
        }
    }
}

fn retires_us(host: &HostState, after_us: Option<i64>) -> Option<i64> {
    Some(host.received_us.saturating_add(after_us.filter(|_| !host.retired)?))
}

/// When time alone changes a host next. Invariant: once `Work::pass` went up to that instant, this is a later one.
fn due_us(host: &HostState, rules: &TenantRules, retire_after_us: Option<i64>) -> Option<i64> {
    let mut due: Vec<i64> = retires_us(host, retire_after_us).into_iter().collect();
    for rule in &rules.rules {
        if rule.absence_us().is_some() || host.knows(&rule.policy.id) {
            due.extend(host.standing(&rule.policy.id).due_us(rule));
        }
    }
    due.into_iter().min()
}
