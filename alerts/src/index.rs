//! Findings in memory, for the API: those of the partitions that this process owns. `firn up` owns all of them.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, SecondsFormat};
use firn_policy::{FindingStatus, Severity, finding_id};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    host::{HostFinding, HostKey, HostState},
    packed::Packed,
    rules::RuleBook,
};

/// A finding as the API shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Finding {
    /// Hash of tenant, host and rule.
    pub id: String,
    /// Host, unique within the tenant only.
    pub host_id: String,
    /// Its name, as last reported.
    pub hostname: Option<String>,
    /// Its organisation, as last reported.
    pub organization_id: Option<String>,
    /// Policy.
    pub rule_id: String,
    /// The policy's title.
    pub title: String,
    /// `low`, `medium`, `high` or `critical`.
    #[schema(value_type = String)]
    pub severity: Severity,
    /// `pending`, `open`, `acknowledged`, `snoozed` or `resolved`.
    #[schema(value_type = String)]
    pub status: FindingStatus,
    /// Since when, RFC 3339.
    pub since: String,
    /// First breach of the present run of breaches, RFC 3339.
    pub breach_since: Option<String>,
    /// Quiet until, RFC 3339.
    pub snoozed_until: Option<String>,
    /// Whose it is.
    #[serde(default)]
    pub assignee: Option<String>,
    /// Number of transitions so far.
    pub version: u64,
    /// The values that began the present breach.
    #[schema(value_type = Object)]
    pub evidence: Value,
}

/// A page of findings, the latest change first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FindingsPage {
    /// Findings that fit, at most `limit`.
    pub findings: Vec<Finding>,
    /// How many fit in all.
    pub total: usize,
}

/// What to look for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    /// Any of these; if empty, all that people were ever told of.
    pub(crate) statuses: Vec<FindingStatus>,
    pub(crate) rule_id: Option<String>,
    pub(crate) host_id: Option<String>,
}

/// A host with findings, and where it lives.
struct Host {
    partition: i32,
    state: Packed,
}

/// By tenant and host; ids are looked up by computing them.
#[derive(Default)]
struct Tenant {
    hosts: HashMap<Arc<HostKey>, Host>,
    /// Whose each finding is, by its id as a number.
    ids: HashMap<u128, Arc<HostKey>>,
    open: u64,
}

/// See the module.
#[derive(Clone, Default)]
pub(crate) struct FindingsIndex {
    tenants: Arc<Mutex<HashMap<String, Tenant>>>,
}

/// Where a command for a finding goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FindingPlace {
    pub(crate) key: HostKey,
    pub(crate) rule_id: String,
    pub(crate) partition: i32,
    pub(crate) status: FindingStatus,
}

impl FindingsIndex {
    fn tenants(&self) -> MutexGuard<'_, HashMap<String, Tenant>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes hosts' new states; a host without findings leaves.
    pub(crate) fn update<'a>(
        &self,
        partition: i32,
        hosts: impl Iterator<Item = (&'a Arc<HostKey>, &'a Packed)>,
    ) {
        let mut tenants = self.tenants();
        for (key, state) in hosts {
            if !tenants.contains_key(&key.tenant) {
                tenants.insert(key.tenant.clone(), Tenant::default());
            }
            if let Some(tenant) = tenants.get_mut(&key.tenant) {
                tenant.update(key, Host { partition, state: state.clone() });
            }
        }
    }

    /// Forgets hosts.
    pub(crate) fn forget<'a>(&self, hosts: impl Iterator<Item = &'a Arc<HostKey>>) {
        let mut tenants = self.tenants();
        for key in hosts {
            if let Some(tenant) = tenants.get_mut(&key.tenant) {
                tenant.remove(key);
            }
        }
    }

    /// Forgets a partition.
    pub(crate) fn revoke(&self, partition: i32) {
        for tenant in self.tenants().values_mut() {
            let hosts = tenant.hosts.iter().filter(|(_, host)| host.partition == partition);
            let gone: Vec<Arc<HostKey>> = hosts.map(|(key, _)| Arc::clone(key)).collect();
            gone.iter().for_each(|key| tenant.remove(key));
        }
    }

    /// Live findings (open, acknowledged, snoozed) by tenant.
    pub(crate) fn live(&self) -> BTreeMap<String, u64> {
        self.tenants().iter().map(|(name, tenant)| (name.clone(), tenant.open)).collect()
    }

    /// Findings that fit, the latest change first.
    pub(crate) fn find(&self, tenant: &str, filter: &Filter, limit: usize, book: &RuleBook) -> FindingsPage {
        let tenants = self.tenants();
        let hosts = tenants.get(tenant).map(|tenant| &tenant.hosts);
        // When, whose, and which of its findings.
        let mut found: Vec<(i64, &HostKey, &Packed, usize)> = Vec::new();
        for (key, host) in hosts.into_iter().flatten() {
            if filter.host_id.as_ref().is_none_or(|wanted| *wanted == key.host_id) {
                let findings = host.state.state().findings;
                let fit = findings.iter().enumerate().filter(|(_, finding)| filter.fits(finding));
                found.extend(fit.map(|(at, finding)| (finding.since_us, key.as_ref(), &host.state, at)));
            }
        }
        found.sort_by_key(|(since_us, key, _, at)| (Reverse(*since_us), *key, *at));
        let total = found.len();
        let show = |(_, key, packed, at): &(i64, &HostKey, &Packed, usize)| {
            let host = packed.state();
            host.findings.get(*at).map(|finding| show(key, &host, finding, book))
        };
        FindingsPage { findings: found.iter().take(limit).filter_map(show).collect(), total }
    }

    /// One finding.
    pub(crate) fn get(&self, tenant: &str, id: &str, book: &RuleBook) -> Option<Finding> {
        let tenants = self.tenants();
        let (key, host, at) = tenants.get(tenant)?.finding(id)?;
        let state = host.state.state();
        Some(show(key, &state, state.findings.get(at)?, book))
    }

    /// Where a finding's commands go.
    pub(crate) fn place(&self, tenant: &str, id: &str) -> Option<FindingPlace> {
        let tenants = self.tenants();
        let (key, host, at) = tenants.get(tenant)?.finding(id)?;
        let finding = host.state.state().findings.into_iter().nth(at)?;
        Some(FindingPlace {
            key: HostKey::clone(key),
            rule_id: finding.rule_id,
            partition: host.partition,
            status: finding.status,
        })
    }
}

impl Tenant {
    fn update(&mut self, key: &Arc<HostKey>, host: Host) {
        // Most records change nothing that is shown.
        match self.hosts.get_mut(key) {
            Some(known) if known.state.has_findings_of(&host.state) => *known = host,
            Some(_) => {
                self.remove(key);
                self.insert(key, host);
            }
            None => self.insert(key, host),
        }
    }

    fn insert(&mut self, key: &Arc<HostKey>, host: Host) {
        if !host.state.has_findings() {
            return;
        }
        for finding in host.state.state().findings {
            self.ids.extend(
                number(&finding_id(&key.tenant, &key.host_id, &finding.rule_id))
                    .map(|id| (id, Arc::clone(key))),
            );
            self.open += u64::from(finding.status.is_live());
        }
        self.hosts.insert(Arc::clone(key), host);
    }

    fn remove(&mut self, key: &HostKey) {
        let Some(host) = self.hosts.remove(key) else { return };
        for finding in host.state.state().findings {
            if let Some(id) = number(&finding_id(&key.tenant, &key.host_id, &finding.rule_id)) {
                self.ids.remove(&id);
            }
            self.open -= u64::from(finding.status.is_live());
        }
    }

    /// Whose a finding is, and which of its host's.
    fn finding(&self, id: &str) -> Option<(&HostKey, &Host, usize)> {
        let key = self.ids.get(&number(id)?)?;
        let host = self.hosts.get(key)?;
        let is_it = |finding: &HostFinding| finding_id(&key.tenant, &key.host_id, &finding.rule_id) == id;
        Some((key, host, host.state.state().findings.iter().position(is_it)?))
    }
}

/// A finding's id as a number: a quarter of what the text takes.
fn number(id: &str) -> Option<u128> {
    u128::from_str_radix(id, 16).ok()
}

impl Filter {
    fn fits(&self, finding: &HostFinding) -> bool {
        let status = if self.statuses.is_empty() {
            finding.version > 0
        } else {
            self.statuses.contains(&finding.status)
        };
        status && self.rule_id.as_ref().is_none_or(|wanted| *wanted == finding.rule_id)
    }
}

fn show(key: &HostKey, host: &HostState, finding: &HostFinding, book: &RuleBook) -> Finding {
    let rules = book.cached(&key.tenant);
    let words = rules.as_ref().and_then(|rules| rules.words.get(&finding.rule_id));
    Finding {
        id: finding_id(&key.tenant, &key.host_id, &finding.rule_id),
        host_id: key.host_id.clone(),
        hostname: host.hostname.clone(),
        organization_id: host.organization_id.clone(),
        rule_id: finding.rule_id.clone(),
        title: words.map_or_else(|| finding.rule_id.clone(), |words| words.title.clone()),
        severity: words.map_or(Severity::Medium, |words| words.severity),
        status: finding.status,
        since: rfc3339(finding.since_us),
        breach_since: finding.breach_since_us.map(rfc3339),
        snoozed_until: finding.snoozed_until_us.map(rfc3339),
        assignee: finding.assignee.clone(),
        version: finding.version,
        evidence: finding
            .evidence
            .as_deref()
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default(),
    }
}

/// Microseconds since the epoch as text.
pub(crate) fn rfc3339(instant_us: i64) -> String {
    DateTime::from_timestamp_micros(instant_us)
        .unwrap_or_default()
        .to_rfc3339_opts(SecondsFormat::Micros, true)
}

#[cfg(test)]
mod tests;
