//! Decoding a step's records and running each tenant's rules over them, a batch at a time.

use std::collections::{BTreeMap, HashMap};

use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::TimestampMicrosecondType,
};
use firn_inventory::{
    BronzeBuilder, LogPosition, Row, read,
    tables::{RECEIVED_AT_HEADER, SOURCE_HEADER, TENANT_HEADER},
};
use firn_policy::{Verdict, WindowSamples};
use firn_stream::Record;

use super::{Batch, Step};
use crate::{
    host::{HostKey, Order},
    rules::TenantRules,
};

/// Where records come from that don't say it.
const NATIVE: &str = "native";

/// A record that was understood.
pub(super) struct Judged {
    pub(super) key: HostKey,
    pub(super) order: Order,
    pub(super) hostname: Option<String>,
    pub(super) organization_id: Option<String>,
    /// Row in its tenant's batch.
    pub(super) row: usize,
}

/// All records of one tenant in a step, with every rule's verdicts.
pub(super) struct TenantBatch<'a> {
    pub(super) rules: &'a TenantRules,
    pub(super) batch: RecordBatch,
    /// By rule, then by row.
    pub(super) verdicts: Vec<Vec<Verdict>>,
    /// By rule, for those over windows.
    pub(super) samples: Vec<Option<WindowSamples>>,
}

/// A step's records, judged.
pub(super) struct JudgedRecords<'a> {
    partitions: BTreeMap<i32, Vec<Judged>>,
    tenants: HashMap<String, TenantBatch<'a>>,
}

impl<'a> JudgedRecords<'a> {
    /// A partition's records in order.
    pub(super) fn of(&self, partition: i32) -> impl Iterator<Item = &Judged> {
        self.partitions.get(&partition).into_iter().flatten()
    }

    pub(super) fn tenant(&self, record: &Judged) -> &TenantBatch<'a> {
        &self.tenants[&record.key.tenant]
    }
}

pub(super) fn judge<'a>(batch: &'a Batch, step: &mut Step) -> JudgedRecords<'a> {
    let mut builders: HashMap<String, BronzeBuilder> = HashMap::new();
    let mut partitions: BTreeMap<i32, Vec<Judged>> = BTreeMap::new();
    let (topic_id, source) = (batch.topic_id.clone(), NATIVE.to_owned());
    let mut position = LogPosition { topic_id, partition: 0, offset: 0, received_at_us: 0, source };
    for (partition, records) in &batch.records {
        let judged = partitions.entry(*partition).or_default();
        for record in records {
            match understand(record, batch) {
                Some((key, rules, row)) => {
                    if !builders.contains_key(&key.tenant) {
                        let builder = BronzeBuilder::of_columns(records.len(), &rules.columns);
                        builders.insert(key.tenant.clone(), builder);
                    }
                    let Some(builder) = builders.get_mut(&key.tenant) else { continue };
                    locate(&mut position, record);
                    let text = |field| row.text(field).map(ToOwned::to_owned);
                    judged.push(Judged {
                        // The event time is the builder's to compute; it is read back below.
                        order: (0, position.received_at_us, record.partition, record.offset),
                        hostname: text("hostname"),
                        organization_id: text("organization_id"),
                        row: builder.len(),
                        key,
                    });
                    builder.push_row(&row, &position);
                }
                None => step.unreadable += 1,
            }
        }
    }
    let mut tenants = HashMap::new();
    for (tenant, mut builder) in builders {
        if let Some(rules) = batch.rules.get(&tenant) {
            tenants.insert(tenant.clone(), evaluate(&tenant, rules, builder.finish(), step));
        }
    }
    for judged in partitions.values_mut().flatten() {
        let times = tenants[&judged.key.tenant].batch.column_by_name("event_time");
        if let Some(times) = times.and_then(|times| times.as_primitive_opt::<TimestampMicrosecondType>()) {
            judged.order.0 = times.value(judged.row);
        }
    }
    JudgedRecords { partitions, tenants }
}

/// The host and the inventory of a record, and the rules that it is judged by. `None` for what ingest quarantines (no or a
/// contradictory key, no inventory) and for tenants that nobody knows.
fn understand<'a>(record: &'a Record, batch: &'a Batch) -> Option<(HostKey, &'a TenantRules, Row<'a>)> {
    let key = HostKey::parse(record.key.as_deref()?)?;
    if header(record, TENANT_HEADER).is_some_and(|tenant| tenant != key.tenant) {
        return None;
    }
    let rules = batch.rules.get(&key.tenant)?;
    let row = read(record.value.as_deref()?).ok()?;
    (row.host_id() == key.host_id).then_some((key, rules, row))
}

/// Makes a position that of another record of the topic.
fn locate(position: &mut LogPosition, record: &Record) {
    (position.partition, position.offset) = (record.partition, record.offset);
    position.received_at_us = received_us(record);
    header(record, SOURCE_HEADER).unwrap_or(NATIVE).clone_into(&mut position.source);
}

/// When a record was received, microseconds since the epoch: as the gateway says, else when it was appended.
pub(crate) fn received_us(record: &Record) -> i64 {
    header(record, RECEIVED_AT_HEADER)
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| record.timestamp_ms.saturating_mul(1_000))
}

fn header<'a>(record: &'a Record, name: &str) -> Option<&'a str> {
    let (_, value) = record.headers.iter().find(|(key, _)| key == name)?;
    std::str::from_utf8(value).ok()
}

fn evaluate<'a>(
    tenant: &str,
    rules: &'a TenantRules,
    batch: RecordBatch,
    step: &mut Step,
) -> TenantBatch<'a> {
    let mut verdicts = Vec::with_capacity(rules.rules.len());
    let mut samples = Vec::with_capacity(rules.rules.len());
    for rule in &rules.rules {
        let (evaluation, mut error) = rule.evaluate(&batch);
        let (sampled, failed) = rule.samples(&batch).unzip();
        error = error.or(failed.flatten());
        if let Some(error) = error {
            step.rule_errors.entry((tenant.to_owned(), rule.policy.id.clone())).or_insert(error);
        }
        verdicts.push(evaluation.verdicts);
        samples.push(sampled);
    }
    TenantBatch { rules, batch, verdicts, samples }
}
