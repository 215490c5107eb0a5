//! What is known of one host: its place in the log and its findings.

use std::collections::BTreeMap;

use bytes::Bytes;
use firn_inventory::{parse_record_key, record_key};
use firn_policy::{CompiledRule, FindingState, FindingStatus, Flaps, Standing, WindowState, due_us};

/// Event time, received_at, partition, offset: of two records of a host the one with the larger order is the newer.
pub(crate) use firn_policy::Order;

/// The epoch of states that were never rebuilt.
pub(crate) const FIRST_EPOCH: u64 = 1;
/// A version's bits below the epoch.
const VERSION_BITS: u32 = 40;

/// The version that the world sees: larger with each transition, also after a rebuild that forgot how many there were.
pub(crate) fn published_version(epoch: u64, version: u64) -> u64 {
    (epoch << VERSION_BITS) + version
}

/// The epoch of a published version, and the finding's own transition counter.
pub(crate) fn parts_of_version(published: u64) -> (u64, u64) {
    (published >> VERSION_BITS, published & ((1 << VERSION_BITS) - 1))
}

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
    /// Takes out how a rule stands here; what is kept of it is gone until it is put back.
    pub(crate) fn take(&mut self, rule_id: &str) -> Standing {
        let finding = self.place(rule_id).ok().map(|at| self.findings.remove(at));
        Standing {
            finding: finding.as_ref().map(|finding| finding.state(self.order)),
            evidence: finding.and_then(|finding| finding.evidence),
            window: self.windows.remove(rule_id),
            received_us: self.heard_us(),
        }
    }

    /// When time alone changes how a rule stands here next.
    pub(crate) fn due_us(&self, rule: &CompiledRule) -> Option<i64> {
        let id = rule.policy.id.as_str();
        let finding = self.finding(id).map(|finding| finding.state(self.order));
        due_us(rule, finding.as_ref(), self.windows.get(id), self.heard_us())
    }

    /// From when on silence counts, unless nobody waits for the host.
    fn heard_us(&self) -> Option<i64> {
        (!self.retired).then_some(self.received_us)
    }

    /// Whether anything is kept of a rule.
    pub(crate) fn knows(&self, rule_id: &str) -> bool {
        self.finding(rule_id).is_some() || self.windows.contains_key(rule_id)
    }

    /// Puts back how a rule stands.
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
        self.findings.get(self.place(rule_id).ok()?)
    }

    /// Where a rule's finding is, or would be.
    fn place(&self, rule_id: &str) -> Result<usize, usize> {
        self.findings.binary_search_by(|finding| finding.rule_id.as_str().cmp(rule_id))
    }

    /// Whether a rule is in breach, told or within its grace.
    pub(crate) fn is_in_breach(&self, rule_id: &str) -> bool {
        self.finding(rule_id).is_some_and(|finding| finding.breach_since_us.is_some())
    }

    /// Keeps a finding's new state, unless there is nothing to remember of it.
    pub(crate) fn keep(&mut self, rule_id: &str, state: &FindingState, evidence: Option<String>) {
        let place = self.place(rule_id);
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
