//! Decoding a step's records and running each tenant's rules over them, a batch at a time.

use std::collections::{BTreeMap, HashMap};

use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::TimestampMicrosecondType,
};
use firn_inventory::{
    BronzeBuilder, LogPosition, decode,
    tables::{RECEIVED_AT_HEADER, SOURCE_HEADER, TENANT_HEADER},
};
use firn_policy::{Verdict, WindowSamples};
use firn_stream::Record;

use super::{Batch, Step};
use crate::{
    host::{HostKey, Order},
    rules::TenantRules,
};

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
    for (partition, records) in &batch.records {
        let judged = partitions.entry(*partition).or_default();
        for record in records {
            match understand(record, batch) {
                Some((key, position, decoded)) => {
                    let builder = builders.entry(key.tenant.clone()).or_default();
                    judged.push(Judged {
                        // The event time is the builder's to compute; it is read back below.
                        order: (0, position.received_at_us, record.partition, record.offset),
                        hostname: decoded.inventory.hostname.clone(),
                        organization_id: decoded.inventory.organization_id.clone(),
                        row: builder.len(),
                        key,
                    });
                    builder.push(&decoded, &position);
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

/// The host and the inventory of a record. `None` for what ingest quarantines (no or a contradictory key, no inventory)
/// and for tenants that nobody knows.
fn understand(record: &Record, batch: &Batch) -> Option<(HostKey, LogPosition, firn_inventory::Decoded)> {
    let key = HostKey::parse(record.key.as_deref()?)?;
    if header(record, TENANT_HEADER).is_some_and(|tenant| tenant != key.tenant)
        || !batch.rules.contains_key(&key.tenant)
    {
        return None;
    }
    let decoded = decode(record.value.as_deref()?).ok()?;
    if decoded.inventory.host_id != key.host_id {
        return None;
    }
    let received_at_us = header(record, RECEIVED_AT_HEADER)
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| record.timestamp_ms.saturating_mul(1_000));
    let position = LogPosition {
        topic_id: batch.topic_id.clone(),
        partition: record.partition,
        offset: record.offset,
        received_at_us,
        source: header(record, SOURCE_HEADER).unwrap_or("native").to_owned(),
    };
    Some((key, position, decoded))
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
