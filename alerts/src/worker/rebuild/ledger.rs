//! What people were told of each finding, whoever knows it: the table, or the topic that it is filled from.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use datafusion::prelude::SessionContext;
use firn_catalog_client::iceberg::TableIdent;
use firn_inventory::tables::GOLD_TRANSITIONS;
use firn_policy::{Cause, Command, FindingStatus, TransitionRecord, transitions_from_batch};
use firn_stream::{Contents, Log, OffsetRange, TopicPartition};
use firn_table::{Table, TableError, TableErrorKind, TableScan};
use futures::StreamExt as _;

use crate::{
    AlertsError,
    engine::{CommandRecord, is_erased},
    host::{HostKey, Order},
    rules::{ErasureLists, RuleBook},
};

/// A finding, as told last. Transitions may come in any order, and more than once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// As published.
    pub(super) version: u64,
    pub(super) status: FindingStatus,
    pub(super) assignee: Option<String>,
    pub(super) hostname: Option<String>,
    pub(super) organization_id: Option<String>,
    /// The record that decided last, as far as a transition tells its order.
    pub(super) order: Order,
    pub(super) since_us: i64,
    pub(super) snoozed_until_us: Option<i64>,
    /// When it opened last, and the values that decided then, JSON text.
    pub(super) opened_us: i64,
    pub(super) evidence: Option<String>,
    /// When its host was retired, if that ended it.
    retired_us: Option<i64>,
    /// The latest instant of what time made the worker tell.
    pub(super) noticed_us: Option<i64>,
    since_version: u64,
    opened_version: u64,
    published_us: i64,
    /// By version, when it was published: what tells a transition that was told again from one that comes from table and topic.
    /// Invariant: sorted.
    published: Vec<(u64, i64)>,
    is_doubled: bool,
}

/// All findings by host and rule.
#[derive(Default)]
pub(super) struct Ledger {
    hosts: HashMap<HostKey, BTreeMap<String, Told>>,
    /// Hosts that a person retired, and when. Where no finding ended, no transition tells it.
    retired: HashMap<HostKey, i64>,
}

impl Told {
    fn new(transition: &TransitionRecord, published_us: i64) -> Self {
        Self {
            version: 0,
            status: transition.to,
            assignee: None,
            hostname: None,
            organization_id: None,
            order: Order::default(),
            since_us: transition.at_us,
            snoozed_until_us: None,
            opened_us: transition.at_us,
            evidence: None,
            retired_us: None,
            noticed_us: None,
            since_version: 0,
            opened_version: 0,
            published_us,
            published: Vec::new(),
            is_doubled: false,
        }
    }

    fn take(&mut self, transition: &TransitionRecord, published_us: i64) {
        let TransitionRecord { from, to, at_us, version, .. } = *transition;
        if matches!(transition.cause, Cause::Window | Cause::Time) {
            self.noticed_us = self.noticed_us.max(Some(at_us));
        }
        match self.published.binary_search_by_key(&version, |(known, _)| *known) {
            Ok(at) => self.is_doubled |= self.published[at].1 != published_us,
            Err(at) => self.published.insert(at, (version, published_us)),
        }
        // Of two with the same version, what was told later is what people know.
        if version == self.version && published_us <= self.published_us {
            return;
        }
        if version >= self.version {
            (self.version, self.status, self.published_us) = (version, to, published_us);
            self.assignee.clone_from(&transition.assignee);
            self.hostname.clone_from(&transition.hostname);
            self.organization_id.clone_from(&transition.organization_id);
            self.order = (at_us, at_us, transition.partition, transition.offset);
            let by_person = transition.cause == Cause::Command && from.is_live();
            let ends = to == FindingStatus::Resolved && (by_person || transition.cause == Cause::Retirement);
            self.retired_us = ends.then_some(at_us);
        }
        if (from != to || transition.snoozed_until_us.is_some()) && version >= self.since_version {
            (self.since_version, self.since_us) = (version, at_us);
            self.snoozed_until_us = transition.snoozed_until_us;
        }
        if to == FindingStatus::Open && !from.is_live() && version >= self.opened_version {
            (self.opened_version, self.opened_us) = (version, at_us);
            self.evidence = (!transition.evidence.is_null()).then(|| transition.evidence.to_string());
        }
    }
}

impl Ledger {
    /// Takes what the tenant's table has.
    pub(super) async fn read_kept(&mut self, book: &RuleBook, tenant: &str) -> Result<(), AlertsError> {
        let (client, file_io) = book.lake(tenant);
        let failed = || AlertsError::lake(tenant, GOLD_TRANSITIONS);
        let ident = TableIdent::new(GOLD_TRANSITIONS.0, GOLD_TRANSITIONS.1);
        let table = match Table::load(&client, file_io, "main", &ident).await {
            Ok(table) if table.current_snapshot().is_some() => table,
            Ok(_) => return Ok(()),
            Err(error) if error.kind == TableErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed()(error)),
        };
        let unreadable = |source: Box<dyn std::error::Error + Send + Sync>| {
            let context = "reading its rows".to_owned();
            failed()(TableError { kind: TableErrorKind::Storage, context, source: Some(source) })
        };
        let scan = TableScan::new(&table, None).await.map_err(failed())?;
        let rows = async { SessionContext::new().read_table(Arc::new(scan))?.execute_stream().await };
        let mut rows = rows.await.map_err(|error| unreadable(error.into()))?;
        while let Some(batch) = rows.next().await {
            let batch = batch.map_err(|error| unreadable(error.into()))?;
            let transitions = transitions_from_batch(&batch, tenant);
            for (transition, published_us) in transitions.map_err(|error| unreadable(error.into()))? {
                self.take(&transition, published_us);
            }
        }
        Ok(())
    }

    /// Takes what the topic still has. What erased a host stands in the lists of erasures, too.
    pub(super) async fn read_topic(
        &mut self,
        log: &dyn Log,
        ranges: BTreeMap<TopicPartition, OffsetRange>,
        tenants: &BTreeSet<String>,
    ) -> Result<(), AlertsError> {
        for (partition, range) in ranges {
            let mut contents = Contents::new(log, partition, range);
            while let Some(records) =
                contents.next().await.map_err(AlertsError::stream("reading transitions"))?
            {
                for record in records {
                    let Some(value) = record.value.as_deref() else { continue };
                    match serde_json::from_slice::<TransitionRecord>(value) {
                        Ok(transition) if tenants.contains(&transition.tenant) => {
                            self.take(&transition, record.timestamp_ms.saturating_mul(1_000));
                        }
                        Ok(_) => {}
                        Err(error) => {
                            let (partition, offset) = (record.partition, record.offset);
                            tracing::warn!(partition, offset, %error, "the record of 'compliance' is no transition");
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes whom people retired.
    pub(super) async fn read_commands(
        &mut self,
        log: &dyn Log,
        ranges: BTreeMap<TopicPartition, OffsetRange>,
    ) -> Result<(), AlertsError> {
        for (partition, range) in ranges {
            let mut contents = Contents::new(log, partition, range);
            while let Some(records) =
                contents.next().await.map_err(AlertsError::stream("reading commands"))?
            {
                for record in records.iter().filter(|record| record.offset < range.end) {
                    let command = record.value.as_deref().map(serde_json::from_slice::<CommandRecord>);
                    let (Some(Ok(command)), Some(key)) =
                        (command, record.key.as_deref().and_then(HostKey::parse))
                    else {
                        continue;
                    };
                    if command.command == Command::Retire {
                        let at_us = self.retired.entry(key).or_insert(command.at_us);
                        *at_us = command.at_us.max(*at_us);
                    }
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, transition: &TransitionRecord, published_us: i64) {
        let (tenant, host_id) = (transition.tenant.clone(), transition.host_id.clone());
        let host = self.hosts.entry(HostKey { tenant, host_id }).or_default();
        let told = host.entry(transition.rule_id.clone());
        told.or_insert_with(|| Told::new(transition, published_us)).take(transition, published_us);
    }

    pub(super) fn forget_erased(&mut self, lists: &ErasureLists) {
        self.hosts.retain(|key, _| !is_erased(lists, &key.tenant, &key.host_id));
    }

    /// Hosts of which anything was told.
    pub(super) fn keys(&self) -> impl Iterator<Item = &HostKey> {
        self.hosts.keys()
    }

    /// What was told of a host, by rule.
    pub(super) fn of(&self, key: &HostKey) -> &BTreeMap<String, Told> {
        static NOTHING: BTreeMap<String, Told> = BTreeMap::new();
        self.hosts.get(key).unwrap_or(&NOTHING)
    }

    /// When a host was retired last, if ever.
    pub(super) fn retired_us(&self, key: &HostKey) -> Option<i64> {
        let ended = self.of(key).values().filter_map(|told| told.retired_us).max();
        ended.max(self.retired.get(key).copied())
    }

    pub(super) fn findings(&self) -> u64 {
        self.hosts.values().map(|host| host.len() as u64).sum()
    }

    pub(super) fn doubled(&self) -> u64 {
        let told = self.hosts.values().flat_map(BTreeMap::values);
        told.filter(|told| told.is_doubled).count() as u64
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn transition(to: &str, version: u64, at_us: i64) -> TransitionRecord {
        serde_json::from_value(json!({
            "finding_id": "f", "tenant": "acme", "host_id": "h", "rule_id": "enc", "title": "T", "severity": "high",
            "from": if to == "open" { "compliant" } else { "open" }, "to": to, "at_us": at_us, "version": version,
            "cause": "record", "reason": "", "revision": "r", "topic": "inventory", "partition": 3, "offset": 9,
            "catalog_commit": "c",
        }))
        .unwrap()
    }

    /// Transitions: what they go to, version, when, and when they were published.
    fn ledger(told: &[(&str, u64, i64, i64)]) -> Ledger {
        let mut ledger = Ledger::default();
        for (to, version, at_us, published_us) in told {
            ledger.take(&transition(to, *version, *at_us), *published_us);
        }
        ledger
    }

    #[test]
    fn a_version_told_twice_is_doubled_wherever_it_comes_and_one_from_table_and_topic_is_not() {
        let first = [("open", 1, 10, 15), ("resolved", 2, 20, 25), ("open", 3, 30, 35)];
        let again: Vec<_> = first.into_iter().chain(first).collect();
        assert_eq!((ledger(&again).doubled(), ledger(&again).findings()), (0, 1));
        // By a worker that had lost its state: the same record read again, or a later one.
        for doubled in [("open", 1, 10, 45), ("resolved", 2, 40, 45), ("open", 3, 30, 45)] {
            for at in 0..=first.len() {
                let mut told = first.to_vec();
                told.insert(at, doubled);
                assert_eq!(ledger(&told).doubled(), 1, "{told:?}");
            }
        }
    }

    #[test]
    fn of_two_with_the_same_version_the_one_told_later_holds_in_any_order() {
        let key = HostKey { tenant: "acme".to_owned(), host_id: "h".to_owned() };
        for told in
            [[("open", 1, 10, 15), ("resolved", 1, 20, 25)], [("resolved", 1, 20, 25), ("open", 1, 10, 15)]]
        {
            assert_eq!(ledger(&told).of(&key)["enc"].status, FindingStatus::Resolved);
        }
    }
}
