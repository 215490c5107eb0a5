//! Findings in memory, for the API: those of the partitions that this process owns. `firn up` owns all of them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, SecondsFormat};
use firn_policy::{FindingStatus, Severity, finding_id};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    host::{HostFinding, HostKey, HostState},
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

/// A host's findings and where it lives.
struct Host {
    partition: i32,
    state: HostState,
}

/// By tenant and host; ids are looked up by computing them.
#[derive(Default)]
struct Tenant {
    hosts: BTreeMap<String, Host>,
    /// Host and rule of each finding id.
    ids: HashMap<String, (String, String)>,
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
        hosts: impl Iterator<Item = (&'a HostKey, &'a HostState)>,
    ) {
        let mut tenants = self.tenants();
        for (key, state) in hosts {
            let tenant = tenants.entry(key.tenant.clone()).or_default();
            tenant.remove(key);
            if !state.findings.is_empty() {
                tenant.insert(key, Host { partition, state: state.clone() });
            }
        }
    }

    /// Forgets hosts.
    pub(crate) fn forget<'a>(&self, hosts: impl Iterator<Item = &'a HostKey>) {
        let mut tenants = self.tenants();
        for key in hosts {
            if let Some(tenant) = tenants.get_mut(&key.tenant) {
                tenant.remove(key);
            }
        }
    }

    /// Forgets a partition.
    pub(crate) fn revoke(&self, partition: i32) {
        for (name, tenant) in self.tenants().iter_mut() {
            let hosts = tenant.hosts.iter().filter(|(_, host)| host.partition == partition);
            let gone: Vec<HostKey> = hosts
                .map(|(host_id, _)| HostKey { tenant: name.clone(), host_id: host_id.clone() })
                .collect();
            for key in gone {
                tenant.remove(&key);
            }
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
        let mut found: Vec<(&String, &Host, &HostFinding)> = Vec::new();
        for (host_id, host) in hosts.into_iter().flatten() {
            if filter.host_id.as_ref().is_none_or(|wanted| wanted == host_id) {
                found.extend(
                    host.state.findings.iter().filter(|f| filter.fits(f)).map(|f| (host_id, host, f)),
                );
            }
        }
        found.sort_by_key(|(_, _, finding)| std::cmp::Reverse(finding.since_us));
        let total = found.len();
        let show = |(host_id, host, finding): &(&String, &Host, &HostFinding)| {
            show(tenant, host_id, &host.state, finding, book)
        };
        FindingsPage { findings: found.iter().take(limit).map(show).collect(), total }
    }

    /// One finding.
    pub(crate) fn get(&self, tenant: &str, id: &str, book: &RuleBook) -> Option<Finding> {
        let tenants = self.tenants();
        let known = tenants.get(tenant)?;
        let (host_id, rule_id) = known.ids.get(id)?;
        let host = known.hosts.get(host_id)?;
        Some(show(tenant, host_id, &host.state, host.state.finding(rule_id)?, book))
    }

    /// Where a finding's commands go.
    pub(crate) fn place(&self, tenant: &str, id: &str) -> Option<FindingPlace> {
        let tenants = self.tenants();
        let known = tenants.get(tenant)?;
        let (host_id, rule_id) = known.ids.get(id)?;
        let host = known.hosts.get(host_id)?;
        Some(FindingPlace {
            key: HostKey { tenant: tenant.to_owned(), host_id: host_id.clone() },
            rule_id: rule_id.clone(),
            partition: host.partition,
            status: host.state.finding(rule_id)?.status,
        })
    }
}

impl Tenant {
    fn insert(&mut self, key: &HostKey, host: Host) {
        for finding in &host.state.findings {
            let id = finding_id(&key.tenant, &key.host_id, &finding.rule_id);
            self.ids.insert(id, (key.host_id.clone(), finding.rule_id.clone()));
            self.open += u64::from(finding.status.is_live());
        }
        self.hosts.insert(key.host_id.clone(), host);
    }

    fn remove(&mut self, key: &HostKey) {
        let Some(host) = self.hosts.remove(&key.host_id) else { return };
        for finding in &host.state.findings {
            self.ids.remove(&finding_id(&key.tenant, &key.host_id, &finding.rule_id));
            self.open -= u64::from(finding.status.is_live());
        }
    }
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

fn show(tenant: &str, host_id: &str, host: &HostState, finding: &HostFinding, book: &RuleBook) -> Finding {
    let rules = book.cached(tenant);
    let words = rules.as_ref().and_then(|rules| rules.words.get(&finding.rule_id));
    Finding {
        id: finding_id(tenant, host_id, &finding.rule_id),
        host_id: host_id.to_owned(),
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
