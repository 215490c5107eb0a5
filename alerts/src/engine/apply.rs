//! Applying judged records, commands, rule changes and time to one partition's hosts.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use arrow::array::RecordBatch;
use firn_inventory::tables::INVENTORY_TOPIC;
use firn_policy::{
    Cause, Command, CompiledRule, FindingStatus, Observation, Told, Transition, TransitionRecord, Verdict,
    apply, finding_id, withdraw,
};
use firn_stream::Record;
use serde_json::Value;

use super::{
    Batch, Changed, CommandRecord, Counts, PartitionStep, Step, is_erased,
    judge::{Judged, TenantBatch},
    partition::Partition,
};
use crate::{
    host::{FIRST_EPOCH, HostKey, HostState, Order, published_version},
    packed::Packed,
    rules::TenantRules,
};

/// Evidence kept and published, at the most.
const MAX_EVIDENCE_BYTES: usize = 8 << 10;

/// One partition's step in the making: reads through to the partition, writes beside it.
pub(super) struct Work<'a> {
    base: &'a Partition,
    number: i32,
    batch: &'a Batch,
    /// Hosts that this step changed so far.
    hosts: HashMap<Arc<HostKey>, HostState>,
    out: PartitionStep,
    counts: BTreeMap<String, Counts>,
    unreadable: u64,
    more: bool,
    pub(super) reviewed: u64,
}

/// What is said of a transition beside the transition itself.
#[derive(Clone)]
pub(super) struct Story {
    cause: Cause,
    by: Option<String>,
    /// JSON text.
    evidence: Option<String>,
}

impl Story {
    pub(super) fn new(cause: Cause, evidence: Option<String>) -> Self {
        Self { cause, by: None, evidence }
    }
}

impl<'a> Work<'a> {
    pub(super) fn new(base: &'a Partition, number: i32, batch: &'a Batch) -> Self {
        let clock_us = batch.clock_us.get(&number).copied().unwrap_or(i64::MIN);
        let out = PartitionStep { time_us: base.time_us.max(clock_us), ..PartitionStep::default() };
        Self {
            base,
            number,
            batch,
            hosts: HashMap::new(),
            out,
            counts: BTreeMap::new(),
            unreadable: 0,
            more: false,
            reviewed: 0,
        }
    }

    /// Ends findings of rules that the tenant no longer has. A tenant's rules count as adopted once none is left.
    pub(super) fn adopt_rules(&mut self, mut budget: usize) {
        let (base, batch) = (self.base, self.batch);
        for (tenant, rules) in base.behind(&batch.rules) {
            let is_gone = |host: &HostState| {
                let counts = |status: FindingStatus| status.is_live() || status == FindingStatus::Pending;
                host.findings.iter().any(|finding| counts(finding.status) && !rules.has(&finding.rule_id))
            };
            let gone = base.hosts_of(tenant).filter(|(_, host)| is_gone(host));
            let keys: Vec<Arc<HostKey>> = gone.map(|(key, _)| Arc::clone(key)).collect();
            let fits = keys.len() <= budget;
            for key in keys.into_iter().take(budget) {
                self.withdraw_gone(&key, rules);
                budget -= 1;
            }
            if !fits {
                self.more = true;
                return;
            }
            self.out.adopted.insert(tenant.to_owned(), rules.fingerprint);
        }
    }

    fn withdraw_gone(&mut self, key: &Arc<HostKey>, rules: &TenantRules) {
        let mut host = self.take(key).1;
        let at_us = self.out.time_us.max(host.order.1);
        for finding in host.findings.clone() {
            if rules.has(&finding.rule_id) {
                continue;
            }
            let (after, told) =
                withdraw(&finding.state(host.order), at_us, "the rule was withdrawn".to_owned());
            host.keep(&finding.rule_id, &after, None);
            self.tell(key, &host, &finding.rule_id, told, Story::new(Cause::Rules, finding.evidence));
        }
        self.keep(Arc::clone(key), host);
    }

    /// Applies a record to all rules of its host. Rules about single records skip one that is older than one judged already;
    /// windows go by its own time, and it shows in any case that the host is alive.
    pub(super) fn record(&mut self, record: &Judged, tenant: &TenantBatch<'_>) {
        let received_us = record.order.1;
        self.out.time_us = self.out.time_us.max(received_us);
        let (key, mut host) = self.take(&record.key);
        let known = host.order != Order::default();
        let dropped = known && record.order <= host.order;
        if known {
            self.pass(&key, &mut host, tenant.rules, received_us);
        }
        host.retired = false;
        host.received_us = host.received_us.max(received_us);
        let late = self.sample(&mut host, record, tenant);
        let seen = Counts {
            records: 1,
            dropped: dropped.into(),
            late: late.into(),
            transitions: 0,
            received_at_us: received_us,
        };
        self.count(&key.tenant, &seen);
        let before = host.order;
        if !dropped {
            host.order = record.order;
            host.hostname.clone_from(&record.hostname);
            host.organization_id.clone_from(&record.organization_id);
        }
        for (rule, verdicts) in tenant.rules.rules.iter().zip(&tenant.verdicts) {
            let verdict = verdicts[record.row];
            let judges = !dropped && rule.policy.is_per_record() && verdict != Verdict::NoResult;
            // A pass is news only of what was in breach, as is a record of what was silent: most say nothing.
            let is_news = (judges && verdict == Verdict::Fail)
                || ((judges || rule.absence_us().is_some()) && host.finding(&rule.policy.id).is_some());
            if !is_news {
                continue;
            }
            let (mut standing, mut told) = (host.take(&rule.policy.id), Vec::new());
            standing.alive(rule, received_us, &mut told);
            if judges {
                let seen = Observation { verdict, order: record.order };
                standing.record(rule, seen, before, || evidence(rule, &tenant.batch, record.row), &mut told);
            }
            host.put(&rule.policy.id, standing);
            self.tell_all(&key, &host, rule, told);
        }
        self.keep(key, host);
    }

    /// Adds a record's samples to its host's windows; answers whether one of them came too late.
    fn sample(&self, host: &mut HostState, record: &Judged, tenant: &TenantBatch<'_>) -> bool {
        let mut late = false;
        host.windows
            .retain(|rule_id, _| tenant.rules.rule(rule_id).is_some_and(|rule| rule.window().is_some()));
        for (rule, samples) in tenant.rules.rules.iter().zip(&tenant.samples) {
            let Some(samples) = samples else { continue };
            let mut standing = host.take(&rule.policy.id);
            late |= standing.sample(rule, record.order, samples, record.row);
            host.put(&rule.policy.id, standing);
        }
        late
    }

    /// Lets time pass for a host: closes windows, notes silence, ends graces and snoozes, retires.
    fn pass(&mut self, key: &HostKey, host: &mut HostState, rules: &TenantRules, time_us: i64) {
        for rule in &rules.rules {
            let id = &rule.policy.id;
            // A window may be over though nobody has to be told of it.
            let has_window = rule.window().is_some() && host.knows(id);
            let touched = (rule.absence_us().is_some() || host.knows(id))
                && host.due_us(rule).is_some_and(|due_us| due_us <= time_us);
            if !touched && !has_window {
                continue;
            }
            let (mut standing, mut told) = (host.take(id), Vec::new());
            standing.pass(rule, time_us, &mut told);
            host.put(id, standing);
            self.tell_all(key, host, rule, told);
        }
        if let Some(retires_us) = self.base.retires_us(host).filter(|retires_us| *retires_us <= time_us) {
            self.retire(key, host, retires_us, &Story::new(Cause::Retirement, None), "host retired");
        }
    }

    fn tell_all(&mut self, key: &HostKey, host: &HostState, rule: &CompiledRule, told: Vec<Told>) {
        for Told { transition, cause, evidence } in told {
            self.tell(key, host, &rule.policy.id, Some(transition), Story::new(cause, evidence));
        }
    }

    /// Ends all findings of a host that is gone for good. What is kept of it are the findings' versions.
    fn retire(&mut self, key: &HostKey, host: &mut HostState, at_us: i64, story: &Story, reason: &str) {
        for finding in host.findings.clone() {
            let (after, told) = withdraw(&finding.state(host.order), at_us, reason.to_owned());
            let story = Story { evidence: finding.evidence, ..story.clone() };
            self.tell(key, host, &finding.rule_id, told, story);
            host.keep(&finding.rule_id, &after, None);
        }
        host.windows.clear();
        host.retired = true;
    }

    /// Applies a person's command; one for a finding that isn't there, or that doesn't fit, changes nothing.
    pub(super) fn command(&mut self, record: &Record) {
        let key = record.key.as_deref().and_then(HostKey::parse);
        let command =
            record.value.as_deref().and_then(|value| serde_json::from_slice::<CommandRecord>(value).ok());
        let (Some(key), Some(command)) = (key, command) else {
            self.unreadable += 1;
            return;
        };
        let Some(mut host) = self.known(&key) else { return };
        let key = Arc::new(key);
        if command.command == Command::Retire {
            if host.retired {
                return;
            }
            let reason = if command.note.is_empty() { "host retired" } else { &command.note };
            let story = Story { cause: Cause::Command, by: Some(command.by), evidence: None };
            self.retire(&key, &mut host, command.at_us, &story, reason);
            self.keep(key, host);
            return;
        }
        let Some(finding) = host.finding(&command.rule_id).cloned() else { return };
        let reason = if command.note.is_empty() { format!("by {}", command.by) } else { command.note };
        let (after, told) = apply(&finding.state(host.order), &command.command, command.at_us, reason);
        if told.is_none() {
            return;
        }
        host.keep(&command.rule_id, &after, finding.evidence.clone());
        let story = Story { cause: Cause::Command, by: Some(command.by), evidence: finding.evidence };
        self.tell(&key, &host, &command.rule_id, told, story);
        self.keep(key, host);
    }

    /// Lets time pass for the hosts that are due at the partition's time.
    pub(super) fn pass_time(&mut self, budget: usize) {
        let (base, batch) = (self.base, self.batch);
        for (count, key) in base.awake(self.out.time_us).enumerate() {
            if count == budget {
                self.more = true;
                return;
            }
            let Some(rules) = batch.rules.get(&key.tenant) else { continue };
            // What this step changed gets its timer anew anyway.
            let is_changed = self.hosts.contains_key(key);
            let (key, mut host) = self.take(key);
            let due_us = base.due_us(&host, rules);
            if due_us.is_some_and(|due_us| due_us <= self.out.time_us) {
                self.pass(&key, &mut host, rules, self.out.time_us);
                self.keep(key, host);
            } else if is_changed {
                self.keep(key, host);
            } else {
                self.out.put_off.push((key, due_us));
            }
        }
    }

    /// Forgets hosts that were erased; nobody is told anything of them any more.
    pub(super) fn forget_erased(&mut self) {
        let batch = self.batch;
        if batch.erased.is_empty() {
            return;
        }
        let is_erased = |tenant: &str, host_id: &str| is_erased(&batch.erased, tenant, host_id);
        if batch.sweeps_erased {
            let keys = self.base.keys().filter(|key| is_erased(&key.tenant, &key.host_id));
            self.out.removed = keys.map(Arc::clone).collect();
        }
        self.hosts.retain(|key, _| !is_erased(&key.tenant, &key.host_id));
        self.out.transitions.retain(|transition| !is_erased(&transition.tenant, &transition.host_id));
    }

    pub(super) fn finish(mut self, step: &mut Step) {
        for (key, host) in self.hosts {
            let rules = self.batch.rules.get(&key.tenant);
            let due_us = rules.and_then(|rules| self.base.due_us(&host, rules));
            self.out.changed.push((key, Changed { state: Packed::of(&host), due_us }));
        }
        for (tenant, counts) in self.counts {
            step.counts.entry(tenant).or_default().add(&counts);
        }
        step.unreadable += self.unreadable;
        step.more |= self.more;
        step.reviewed += self.reviewed;
        step.partitions.insert(self.number, self.out);
    }

    /// The partition's time in this step.
    pub(super) fn time_us(&self) -> i64 {
        self.out.time_us
    }

    /// The host as it is in this step, if it is known here.
    pub(super) fn known(&self, key: &HostKey) -> Option<HostState> {
        self.hosts.get(key).cloned().or_else(|| self.base.host(key).map(|(_, host)| host))
    }

    /// Takes the host as it is in this step, or a new one. What was changed of it is lost if it isn't kept again.
    fn take(&mut self, key: &HostKey) -> (Arc<HostKey>, HostState) {
        let known = self.hosts.remove_entry(key);
        let known = known.or_else(|| self.base.host(key).map(|(key, host)| (Arc::clone(key), host)));
        known.unwrap_or_else(|| {
            (Arc::new(key.clone()), HostState { epoch: FIRST_EPOCH, ..HostState::default() })
        })
    }

    pub(super) fn keep(&mut self, key: Arc<HostKey>, host: HostState) {
        self.hosts.insert(key, host);
    }

    fn count(&mut self, tenant: &str, seen: &Counts) {
        match self.counts.get_mut(tenant) {
            Some(counts) => counts.add(seen),
            None => _ = self.counts.insert(tenant.to_owned(), *seen),
        }
    }

    pub(super) fn tell(
        &mut self,
        key: &HostKey,
        host: &HostState,
        rule_id: &str,
        told: Option<Transition>,
        story: Story,
    ) {
        let Some(transition) = told else { return };
        let rules = self.batch.rules.get(&key.tenant);
        let words = rules.and_then(|rules| rules.words.get(rule_id));
        self.count(&key.tenant, &Counts { transitions: 1, ..Counts::default() });
        self.out.transitions.push(TransitionRecord {
            finding_id: finding_id(&key.tenant, &key.host_id, rule_id),
            tenant: key.tenant.clone(),
            host_id: key.host_id.clone(),
            hostname: host.hostname.clone(),
            organization_id: host.organization_id.clone(),
            rule_id: rule_id.to_owned(),
            // A rule withdrawn before this process started is known by its id alone.
            title: words.map_or_else(|| rule_id.to_owned(), |words| words.title.clone()),
            severity: words.map_or(firn_policy::Severity::Medium, |words| words.severity),
            from: transition.from,
            to: transition.to,
            at_us: transition.at_us,
            version: published_version(host.epoch, transition.version),
            cause: story.cause,
            reason: transition.reason,
            by: story.by,
            assignee: transition.assignee,
            snoozed_until_us: transition.snoozed_until_us,
            evidence: story.evidence.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or(Value::Null),
            revision: rules.and_then(|rules| Some(rules.rule(rule_id)?.revision.clone())).unwrap_or_default(),
            topic: INVENTORY_TOPIC.to_owned(),
            partition: host.order.2,
            offset: host.order.3,
            catalog_commit: rules.map(|rules| rules.commit.clone()).unwrap_or_default(),
        });
    }
}

pub(super) fn evidence(rule: &CompiledRule, rows: &RecordBatch, row: usize) -> String {
    bounded(rule, rule.evidence(rows, row).to_string())
}

/// What is kept of evidence.
pub(crate) fn bounded(rule: &CompiledRule, text: String) -> String {
    if text.len() <= MAX_EVIDENCE_BYTES {
        return text;
    }
    serde_json::json!({ "left_out": format!("{} bytes of {}", text.len(), rule.columns.join(", ")) })
        .to_string()
}
