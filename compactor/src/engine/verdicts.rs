//! Compliance: the tenant's rules over a stream of records.
//!
//! A host's records are judged in log order, and those older (by event time, received_at, partition, offset) than one
//! already judged are dropped, as the alerts stream does. What was known before comes sorted by host beside the records,
//! so that memory holds one host at a time.

mod prior;
mod rows;

use std::{collections::BTreeMap, sync::Arc};

use datafusion::{
    arrow::{
        array::{Array, Int64Array, RecordBatch, StringArray},
        datatypes::{Schema, SchemaRef},
    },
    error::Result,
    physical_plan::{SendableRecordBatchStream, stream::RecordBatchReceiverStreamBuilder},
};
use firn_policy::{CompiledRule, Policy, RECORD_COLUMNS, Verdict};
use futures::StreamExt;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc::Sender;

use super::columns::{integers, micros};
use prior::PriorRows;
pub(super) use rows::state_name;
pub(crate) use rows::verdict_schema;
use rows::{HostFacts, VerdictRows, text};

/// Event time, received_at, partition, offset.
type Order = (i64, i64, i64, i64);

/// The rules that a run judges by.
#[derive(Clone, Debug)]
pub(crate) struct RuleSet {
    rules: BTreeMap<String, CompiledRule>,
    /// What is wrong with the rules that can't be used.
    pub(crate) broken: Vec<String>,
}

impl RuleSet {
    /// Compiles policies against the records' schema; one that doesn't compile is left out and named in `broken`. Rules over
    /// windows and about silence have no verdict on a record: their findings are in `gold.transitions` alone.
    pub(crate) fn compile(policies: &[Policy], mut broken: Vec<String>, schema: &SchemaRef) -> Self {
        let mut rules = BTreeMap::new();
        for policy in policies.iter().filter(|policy| policy.is_per_record()) {
            match firn_policy::compile(policy, schema) {
                Ok(rule) => _ = rules.insert(policy.id.clone(), rule),
                Err(error) => broken.push(error.to_string()),
            }
        }
        Self { rules, broken }
    }

    /// Identifies the rules and their revisions.
    pub(crate) fn hash(&self) -> String {
        let mut hasher = Sha256::new();
        for (id, rule) in &self.rules {
            hasher.update(format!("{id}={}\n", rule.revision));
        }
        hex::encode(&hasher.finalize()[..8])
    }

    /// What each rule says of each row, by the rule's id.
    pub(super) fn verdicts(&self, batch: &RecordBatch) -> BTreeMap<String, Vec<Verdict>> {
        let mut verdicts = BTreeMap::new();
        for (id, rule) in &self.rules {
            let (evaluation, error) = rule.evaluate(batch);
            if let Some(error) = error {
                tracing::warn!(rule = %id, %error, "a rule could not be evaluated: its records have no result");
            }
            verdicts.insert(id.clone(), evaluation.verdicts);
        }
        verdicts
    }

    /// The columns to read of the records, in the order of `schema`.
    pub(crate) fn columns(&self, schema: &Schema) -> Vec<String> {
        let wanted = |name: &str| {
            RECORD_COLUMNS.contains(&name)
                || self.rules.values().any(|rule| rule.columns.iter().any(|column| column == name))
        };
        schema.fields().iter().map(|field| field.name().clone()).filter(|name| wanted(name)).collect()
    }
}

/// What is known of one host and rule.
#[derive(Clone, Debug)]
struct Standing {
    verdict: Verdict,
    since_us: i64,
    order: Order,
    revision: String,
    evidence: Evidence,
}

/// The values that decided; only written out for the record that stays.
#[derive(Clone, Debug)]
enum Evidence {
    Known(Option<String>),
    Row(Arc<RecordBatch>, usize),
}

/// All that is known of the host at hand.
#[derive(Default)]
struct Host {
    id: Option<String>,
    facts: HostFacts,
    standings: BTreeMap<String, Standing>,
}

/// Judges `records` (sorted by host_id, log_partition, log_offset) on top of `prior` (rows of the output, sorted by
/// host_id) and answers the whole new output.
pub(crate) fn judge(
    rules: RuleSet,
    records: SendableRecordBatchStream,
    prior: Option<SendableRecordBatchStream>,
) -> SendableRecordBatchStream {
    let mut builder = RecordBatchReceiverStreamBuilder::new(verdict_schema(), 2);
    let sender = builder.tx();
    builder.spawn(async move {
        let judge = Judge { rules, prior: PriorRows::new(prior), out: VerdictRows::default(), sender };
        judge.run(records).await
    });
    builder.build()
}

struct Judge {
    rules: RuleSet,
    prior: PriorRows,
    out: VerdictRows,
    sender: Sender<Result<RecordBatch>>,
}

impl Judge {
    async fn run(mut self, mut records: SendableRecordBatchStream) -> Result<()> {
        let mut host = Host::default();
        while let Some(batch) = records.next().await {
            let judged = JudgedBatch::new(&self.rules, batch?)?;
            for row in 0..judged.batch.num_rows() {
                let id = judged.host_id.value(row);
                if host.id.as_deref() != Some(id) {
                    self.finish(std::mem::take(&mut host)).await?;
                    host = self.begin(id).await?;
                }
                host.observe(&self.rules, &judged, row);
            }
        }
        self.finish(host).await?;
        while let Some(untouched) = self.prior.next_host(&self.rules, None).await? {
            self.finish(untouched).await?;
        }
        self.send(true).await
    }

    /// Lets hosts before `id` pass unchanged, and answers what is known of `id`.
    async fn begin(&mut self, id: &str) -> Result<Host> {
        while let Some(before) = self.prior.next_host(&self.rules, Some(id)).await? {
            if before.id.as_deref() == Some(id) {
                return Ok(before);
            }
            self.finish(before).await?;
        }
        Ok(Host { id: Some(id.to_owned()), ..Host::default() })
    }

    async fn finish(&mut self, host: Host) -> Result<()> {
        let Some(id) = host.id else { return Ok(()) };
        for (rule_id, standing) in &host.standings {
            if let Some(rule) = self.rules.rules.get(rule_id) {
                self.out.push(&id, &host.facts, rule, standing);
            }
        }
        self.send(false).await
    }

    async fn send(&mut self, all: bool) -> Result<()> {
        if self.out.len() >= 8_192 || (all && self.out.len() > 0) {
            let batch = self.out.finish()?;
            // A closed channel means that the reader gave up: its own error says why.
            _ = self.sender.send(Ok(batch)).await;
        }
        Ok(())
    }
}

/// A batch of records with all rules' verdicts.
struct JudgedBatch {
    batch: Arc<RecordBatch>,
    verdicts: BTreeMap<String, Vec<Verdict>>,
    host_id: StringArray,
    hostname: StringArray,
    organization_id: StringArray,
    order: [Int64Array; 4],
}

impl JudgedBatch {
    fn new(rules: &RuleSet, batch: RecordBatch) -> Result<Self> {
        let verdicts = rules.verdicts(&batch);
        let column = |name: &str| {
            Ok::<_, datafusion::error::DataFusionError>(Arc::clone(
                batch.column(batch.schema().index_of(name)?),
            ))
        };
        let order = [
            micros(&column("event_time")?)?,
            micros(&column("received_at")?)?,
            integers(&column("log_partition")?)?,
            integers(&column("log_offset")?)?,
        ];
        Ok(Self {
            host_id: text(&column("host_id")?)?,
            hostname: text(&column("hostname")?)?,
            organization_id: text(&column("organization_id")?)?,
            order,
            verdicts,
            batch: Arc::new(batch),
        })
    }

    fn order(&self, row: usize) -> Order {
        let [event_time, received_at, partition, offset] = &self.order;
        (event_time.value(row), received_at.value(row), partition.value(row), offset.value(row))
    }

    fn facts(&self, row: usize) -> HostFacts {
        let value = |column: &StringArray| column.is_valid(row).then(|| column.value(row).to_owned());
        HostFacts {
            hostname: value(&self.hostname),
            organization_id: value(&self.organization_id),
            order: Some(self.order(row)),
        }
    }
}

impl Host {
    fn observe(&mut self, rules: &RuleSet, judged: &JudgedBatch, row: usize) {
        let order = judged.order(row);
        if self.facts.order.is_none_or(|newest| order > newest) {
            self.facts = judged.facts(row);
        }
        for (id, rule) in &rules.rules {
            let verdict = judged.verdicts[id].get(row).copied().unwrap_or(Verdict::NoResult);
            let known = self.standings.get(id);
            let newer = known.is_none_or(|known| {
                order > known.order || (order == known.order && known.revision != rule.revision)
            });
            if !newer {
                continue;
            }
            let since_us = match known {
                Some(known) if known.verdict == verdict => known.since_us,
                _ => order.0,
            };
            let evidence = Evidence::Row(Arc::clone(&judged.batch), row);
            let standing = Standing { verdict, since_us, order, revision: rule.revision.clone(), evidence };
            self.standings.insert(id.clone(), standing);
        }
    }
}

#[cfg(test)]
mod tests;
