//! What the records say of each host that were judged: those of `silver.inventory`, then those that promotion had not reached.
//!
//! A worker lets time pass for a host before each of its records, up to the record's receipt, and beyond its last one with the
//! partition's time: the largest receipt there, or the wall clock. How far it came with that is kept nowhere. So time passes here
//! with the host's own records alone, and beyond them for each rule as far as the ledger tells: up to the last that time made it
//! tell. Transitions of a finding by time come in their order, so that those told are all up to there, and none behind it. What
//! a worker saw of windows and graces behind it without telling anyone, the next worker sees anew: time passes for it in the same way.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use datafusion::{
    logical_expr::Expr,
    prelude::{col, lit},
};
use firn_inventory::tables::SILVER_INVENTORY;
use firn_policy::{CompiledRule, ReplayedHost};
use firn_stream::{OffsetRange, Record, Topic, TopicPartition};

use super::{
    super::{Worker, backlog::Backlog, restore::States, topics::home},
    ledger::{Ledger, Told},
};
use crate::{
    AlertsError,
    engine::{Batch, Engine, bounded, is_erased},
    history::History,
    host::{FIRST_EPOCH, HostKey, HostState},
    packed::Packed,
    rules::TenantRules,
};

/// Records of one step.
const AT_ONCE: usize = 5_000;

type Rules = HashMap<String, Arc<TenantRules>>;
/// The last offset that silver has, by tenant and partition. It has all of the tenant's records up to it.
type Reached = BTreeMap<String, BTreeMap<i32, i64>>;

/// States after all that was judged, as if nobody had ever said anything about a finding.
pub(super) async fn replay(
    worker: &Worker,
    tenants: &BTreeSet<String>,
    inventory: &Topic,
    judged: &BTreeMap<TopicPartition, OffsetRange>,
    ledger: &Ledger,
) -> Result<States, AlertsError> {
    let (mut rules, mut reached, mut states) = (Rules::new(), Reached::new(), States::new());
    let erased = worker.book.erased();
    for tenant in tenants {
        let Some(present) = worker.book.of(tenant).await? else { continue };
        let (client, file_io) = worker.book.lake(tenant);
        let failed = || AlertsError::lake(tenant, SILVER_INVENTORY);
        let span = (i64::MIN, i64::MAX);
        let only = only_judged(&inventory.id, judged);
        if let Some(history) = History::of(&client, file_io, span, Some(only)).await.map_err(failed())? {
            reached.insert(tenant.clone(), history.last_offsets(&inventory.id).await.map_err(failed())?);
            let keep = |host: ReplayedHost| {
                if !is_erased(&erased, tenant, &host.host_id) {
                    let key = HostKey { tenant: tenant.clone(), host_id: host.host_id.clone() };
                    states.insert(Arc::new(key), Packed::of(&state(host, &present)));
                }
            };
            history.hosts(&present.rules, keep).await.map_err(failed())?;
        }
        rules.insert(tenant.clone(), present);
    }
    let batch =
        Batch { topic_id: inventory.id.clone(), erased, rules, only_records: true, ..Batch::default() };
    let rules = batch.rules.clone();
    let rest = Rest { left: left(judged, &reached, &rules), reached, batch };
    let mut states = judge_rest(worker, inventory.partitions, rest, states).await?;
    for (key, state) in &mut states {
        if let Some(rules) = rules.get(&key.tenant) {
            pass_what_was_told(state, rules, ledger.of(key));
        }
    }
    Ok(states)
}

/// Rows of this topic that lie before the positions, and all of earlier topics.
fn only_judged(topic_id: &str, judged: &BTreeMap<TopicPartition, OffsetRange>) -> Expr {
    let earlier = col("log_topic_id").not_eq(lit(topic_id));
    judged.iter().fold(earlier, |only, (place, range)| {
        let here = col("log_partition").eq(lit(place.partition));
        only.or(here.and(col("log_offset").lt(lit(range.end))))
    })
}

fn state(host: ReplayedHost, rules: &TenantRules) -> HostState {
    let received_us = host.standings.iter().filter_map(|standing| standing.received_us).max();
    let mut state = HostState {
        epoch: FIRST_EPOCH,
        order: host.order,
        hostname: host.hostname,
        organization_id: host.organization_id,
        received_us: received_us.unwrap_or(host.order.1),
        ..HostState::default()
    };
    for (rule, mut standing) in rules.rules.iter().zip(host.standings) {
        standing.evidence = standing.evidence.map(|text| bounded(rule, text));
        state.put(&rule.policy.id, standing);
    }
    state
}

/// Lets time pass beyond the host's last record, as far as it made its worker tell something.
fn pass_what_was_told(state: &mut Packed, rules: &TenantRules, told: &BTreeMap<String, Told>) {
    let noticed = |(rule_id, told): (&String, &Told)| Some((rules.rule(rule_id)?, told.noticed_us?));
    let noticed: Vec<(&CompiledRule, i64)> = told.iter().filter_map(noticed).collect();
    if noticed.is_empty() {
        return;
    }
    let mut host = state.state();
    for (rule, noticed_us) in noticed {
        let mut standing = host.take(&rule.policy.id);
        standing.pass(rule, noticed_us.saturating_add(rule.delay_us()), &mut Vec::new());
        host.put(&rule.policy.id, standing);
    }
    *state = Packed::of(&host);
}

/// What silver has not.
struct Rest {
    left: BTreeMap<TopicPartition, OffsetRange>,
    reached: Reached,
    /// Without records: how they are to be judged.
    batch: Batch,
}

/// Lets an engine judge the rest on top of what silver has; what that would tell is dropped.
async fn judge_rest(
    worker: &Worker,
    partitions: i32,
    rest: Rest,
    states: States,
) -> Result<States, AlertsError> {
    let retire_after_us = worker.config.retire_after.and_then(|after| i64::try_from(after.as_micros()).ok());
    let mut engine = Engine::new(retire_after_us);
    let mut parts: BTreeMap<i32, States> = (0..partitions).map(|at| (at, States::new())).collect();
    for (key, state) in states {
        parts.entry(home(&key, partitions)).or_default().insert(key, state);
    }
    parts.into_iter().for_each(|(number, states)| engine.assign(number, states));
    let Rest { left, reached, mut batch } = rest;
    let mut backlog = Backlog::open(worker.log.as_ref(), left, i64::MAX).await?;
    loop {
        let mut count = 0;
        while count < AT_ONCE
            && let Some((_, record)) = backlog.next().await?
        {
            count += 1;
            if let Some(key) = record.key.as_deref().and_then(HostKey::parse)
                && !has(&reached, &key.tenant, &record)
            {
                batch.records.entry(home(&key, partitions)).or_default().push(record);
            }
        }
        if count == 0 {
            return Ok(engine.states().map(|(_, key, state)| (Arc::clone(key), state.clone())).collect());
        }
        batch.leave_out_erased();
        let judge = move || {
            let step = engine.process(&batch);
            engine.accept(&step, &batch.rules);
            batch.records.clear();
            (engine, batch)
        };
        let judged = tokio::task::spawn_blocking(judge).await;
        (engine, batch) = judged.map_err(|error| AlertsError::Crashed(error.to_string()))?;
    }
}

fn has(reached: &Reached, tenant: &str, record: &Record) -> bool {
    let last = reached.get(tenant).and_then(|reached| reached.get(&record.partition));
    last.is_some_and(|last| record.offset <= *last)
}

/// From where some tenant's records are not all in silver.
fn left(
    judged: &BTreeMap<TopicPartition, OffsetRange>,
    reached: &Reached,
    rules: &Rules,
) -> BTreeMap<TopicPartition, OffsetRange> {
    let from = |(place, range): (&TopicPartition, &OffsetRange)| {
        let next = |tenant: &String| {
            let last = reached.get(tenant).and_then(|reached| reached.get(&place.partition));
            last.map_or(range.start, |last| last + 1)
        };
        let start = rules.keys().map(next).min().unwrap_or(range.end).clamp(range.start, range.end);
        (place.clone(), OffsetRange { start, end: range.end })
    };
    judged.iter().map(from).collect()
}
