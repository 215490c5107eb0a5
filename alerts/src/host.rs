//! What is known of one host: its place in the log and its findings.

use std::collections::BTreeMap;

use bytes::Bytes;
use firn_inventory::{parse_record_key, record_key};
use firn_policy::{FindingState, FindingStatus, Flaps, Standing, WindowState};

/// Event time, received_at, partition, offset: of two records of a host the one with the larger order is the newer.
pub(crate) use firn_policy::Order;

/// A host of a tenant: the key of records in all topics of this worker.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct HostKey {
    pub(crate) tenant: String,
    pub(crate) host_id: String,
}

impl HostKey {
    /// Reads a record's key, `tenant/host`, both percent-encoded.
    pub(crate) fn parse(key: &[u8]) -> Option<Self> {
        let (tenant, host_id) = parse_record_key(key)?;
        Some(Self { tenant, host_id })
    }

    pub(crate) fn to_bytes(&self) -> Bytes {
        Bytes::from(record_key(&self.tenant, &self.host_id))
    }
}

/// State of one host, one record of the state topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HostState {
    /// State epoch: the high part of findings' versions. A rebuild raises it.
    pub(crate) epoch: u64,
    /// Last record judged.
    pub(crate) order: Order,
    pub(crate) hostname: Option<String>,
    pub(crate) organization_id: Option<String>,
    /// Invariant: sorted by rule, one entry per rule; rules that were always complied with have none.
    pub(crate) findings: Vec<HostFinding>,
    /// Largest receipt time of its records, those that were dropped included: absence is counted from it.
    pub(crate) received_us: i64,
    /// Windows of rules that have any, by rule.
    pub(crate) windows: BTreeMap<String, WindowState>,
    /// Gone for good, as far as anyone knows; a record brings it back. Its findings keep their versions.
    pub(crate) retired: bool,
}

/// State of one finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostFinding {
    pub(crate) rule_id: String,
    pub(crate) status: FindingStatus,
    pub(crate) since_us: i64,
    pub(crate) breach_since_us: Option<i64>,
    pub(crate) version: u64,
    pub(crate) snoozed_until_us: Option<i64>,
    /// The values that began the present breach, as JSON text: a grace that ends has no record at hand to take them from.
    pub(crate) evidence: Option<String>,
    pub(crate) assignee: Option<String>,
    pub(crate) flaps: Flaps,
}

impl HostState {
    /// How a rule stands here.
    pub(crate) fn standing(&self, rule_id: &str) -> Standing {
        let finding = self.finding(rule_id);
        Standing {
            finding: finding.map(|finding| finding.state(self.order)),
            evidence: finding.and_then(|finding| finding.evidence.clone()),
            window: self.windows.get(rule_id).cloned(),
            received_us: (!self.retired).then_some(self.received_us),
        }
    }

    /// Whether anything is kept of a rule.
    pub(crate) fn knows(&self, rule_id: &str) -> bool {
        self.finding(rule_id).is_some() || self.windows.contains_key(rule_id)
    }

    /// Keeps how a rule stands.
    pub(crate) fn put(&mut self, rule_id: &str, standing: Standing) {
        match standing.finding {
            Some(finding) => self.keep(rule_id, &finding, standing.evidence),
            None => self.findings.retain(|finding| finding.rule_id != rule_id),
        }
        match standing.window {
            Some(window) => _ = self.windows.insert(rule_id.to_owned(), window),
            None => _ = self.windows.remove(rule_id),
        }
    }

    pub(crate) fn finding(&self, rule_id: &str) -> Option<&HostFinding> {
        let at = self.findings.binary_search_by(|finding| finding.rule_id.as_str().cmp(rule_id)).ok()?;
        self.findings.get(at)
    }

    /// Keeps a finding's new state, unless there is nothing to remember of it.
    pub(crate) fn keep(&mut self, rule_id: &str, state: &FindingState, evidence: Option<String>) {
        let place = self.findings.binary_search_by(|finding| finding.rule_id.as_str().cmp(rule_id));
        if !state.is_worth_keeping() {
            if let Ok(at) = place {
                self.findings.remove(at);
            }
            return;
        }
        let finding = HostFinding {
            rule_id: rule_id.to_owned(),
            status: state.status,
            since_us: state.since_us,
            breach_since_us: state.breach_since_us,
            version: state.version,
            snoozed_until_us: state.snoozed_until_us,
            evidence: state.breach_since_us.and(evidence),
            assignee: state.assignee.clone(),
            flaps: state.flaps.clone(),
        };
        match place {
            Ok(at) => self.findings[at] = finding,
            Err(at) => self.findings.insert(at, finding),
        }
    }
}

impl HostFinding {
    pub(crate) fn state(&self, last_order: Order) -> FindingState {
        FindingState {
            status: self.status,
            since_us: self.since_us,
            breach_since_us: self.breach_since_us,
            last_order,
            version: self.version,
            snoozed_until_us: self.snoozed_until_us,
            assignee: self.assignee.clone(),
            flaps: self.flaps.clone(),
        }
    }
}
