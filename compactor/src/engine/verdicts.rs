//! Compliance: the tenant's rules over a stream of records.
//!
//! A host's records are judged in the order of their receipt, and those older (by event time, received_at, partition, offset) than one
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
use firn_policy::{ByReceipt, CompiledRule, Policy, RECORD_COLUMNS, Verdict};
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
    /// By id.
    rules: Arc<Vec<CompiledRule>>,
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
        Self { rules: Arc::new(rules.into_values().collect()), broken }
    }

    /// Identifies the rules and their revisions.
    pub(crate) fn hash(&self) -> String {
        let mut hasher = Sha256::new();
        for rule in self.rules.iter() {
            hasher.update(format!("{}={}\n", rule.policy.id, rule.revision));
        }
        hex::encode(&hasher.finalize()[..8])
    }

    /// What each rule says of each row, in the order of the rules' ids.
    fn verdicts(&self, batch: &RecordBatch) -> Vec<Vec<Verdict>> {
        let evaluate = |rule: &CompiledRule| {
            let (evaluation, error) = rule.evaluate(batch);
            if let Some(error) = error {
                tracing::warn!(rule = %rule.policy.id, %error, "a rule could not be evaluated: its records have no result");
            }
            evaluation.verdicts
        };
        self.rules.iter().map(evaluate).collect()
    }

    /// What each rule says of each row, with the rule's id.
    pub(super) fn verdicts_by_id(&self, batch: &RecordBatch) -> impl Iterator<Item = (&str, Vec<Verdict>)> {
        self.rules.iter().map(|rule| rule.policy.id.as_str()).zip(self.verdicts(batch))
    }

    /// Place of a rule among those in force.
    fn place(&self, id: &str) -> Option<usize> {
        self.rules.binary_search_by(|rule| rule.policy.id.as_str().cmp(id)).ok()
    }

    /// The columns to read of the records, in the order of `schema`.
    pub(crate) fn columns(&self, schema: &Schema) -> Vec<String> {
        let wanted = |name: &str| {
            RECORD_COLUMNS.contains(&name)
                || self.rules.iter().any(|rule| rule.columns.iter().any(|column| column == name))
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
    /// The revision that judged, if it is no longer that of the rule.
    outdated: Option<String>,
    evidence: Evidence,
}

/// The values that decided; only written out for the record that stays.
#[derive(Clone, Debug)]
enum Evidence {
    Known(Option<String>),
    Row(Arc<JudgedBatch>, usize),
}

/// What is told of a host beside its verdicts, from its newest record.
#[derive(Clone, Debug)]
enum Facts {
    Known(HostFacts),
    Row(Arc<JudgedBatch>, usize),
}

/// All that is known of the host at hand.
#[derive(Default)]
struct Host {
    id: String,
    /// Order of the record that the facts come from.
    newest: Option<Order>,
    facts: Option<Facts>,
    /// By the places of the rules.
    standings: Vec<Option<Standing>>,
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
        let (mut host, mut order) = (None, ByReceipt::default());
        while let Some(batch) = records.next().await {
            for batch in order.push(&batch?)? {
                host = self.observe(host, batch).await?;
            }
        }
        if let Some(batch) = order.finish()? {
            host = self.observe(host, batch).await?;
        }
        if let Some(last) = host {
            self.finish(last).await?;
        }
        while let Some(untouched) = self.prior.next_host(&self.rules, None).await? {
            self.finish(untouched).await?;
        }
        self.send(true).await
    }

    /// Takes records of the host at hand and of those behind it.
    async fn observe(&mut self, mut host: Option<Host>, batch: RecordBatch) -> Result<Option<Host>> {
        let judged = Arc::new(JudgedBatch::new(&self.rules, batch)?);
        for row in 0..judged.batch.num_rows() {
            let id = judged.host_id.value(row);
            let known = match host.take() {
                Some(known) if known.id == id => known,
                other => {
                    if let Some(before) = other {
                        self.finish(before).await?;
                    }
                    self.begin(id).await?
                }
            };
            host.insert(known).observe(&self.rules, &judged, row);
        }
        // Else every batch with a record that decided would be held until there are enough rows.
        self.out.write_evidence(&self.rules);
        Ok(host)
    }

    /// Lets hosts before `id` pass unchanged, and answers what is known of `id`.
    async fn begin(&mut self, id: &str) -> Result<Host> {
        while let Some(before) = self.prior.next_host(&self.rules, Some(id)).await? {
            if before.id == id {
                return Ok(before);
            }
            self.finish(before).await?;
        }
        Ok(Host::new(id, &self.rules))
    }

    async fn finish(&mut self, host: Host) -> Result<()> {
        let facts = match host.facts {
            None => HostFacts::default(),
            Some(Facts::Known(facts)) => facts,
            Some(Facts::Row(judged, row)) => judged.facts(row),
        };
        for (rule, standing) in self.rules.rules.iter().enumerate().zip(&host.standings) {
            if let Some(standing) = standing {
                self.out.push(&host.id, &facts, rule, standing);
            }
        }
        self.send(false).await
    }

    async fn send(&mut self, all: bool) -> Result<()> {
        if self.out.len() >= 8_192 || (all && self.out.len() > 0) {
            let batch = self.out.finish(&self.rules)?;
            // A closed channel means that the reader gave up: its own error says why.
            _ = self.sender.send(Ok(batch)).await;
        }
        Ok(())
    }
}

/// A batch of records with all rules' verdicts.
#[derive(Debug)]
struct JudgedBatch {
    batch: RecordBatch,
    /// By the places of the rules.
    verdicts: Vec<Vec<Verdict>>,
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
            batch,
        })
    }

    fn order(&self, row: usize) -> Order {
        let [event_time, received_at, partition, offset] = &self.order;
        (event_time.value(row), received_at.value(row), partition.value(row), offset.value(row))
    }

    fn facts(&self, row: usize) -> HostFacts {
        let value = |column: &StringArray| column.is_valid(row).then(|| column.value(row).to_owned());
        HostFacts { hostname: value(&self.hostname), organization_id: value(&self.organization_id) }
    }
}

impl Host {
    fn new(id: &str, rules: &RuleSet) -> Self {
        Self { id: id.to_owned(), standings: vec![None; rules.rules.len()], ..Self::default() }
    }

    fn observe(&mut self, rules: &RuleSet, judged: &Arc<JudgedBatch>, row: usize) {
        let order = judged.order(row);
        if self.newest.is_none_or(|newest| order > newest) {
            self.newest = Some(order);
            self.facts = Some(Facts::Row(Arc::clone(judged), row));
        }
        for (place, known) in self.standings.iter_mut().enumerate().take(rules.rules.len()) {
            let verdict = judged.verdicts[place].get(row).copied().unwrap_or(Verdict::NoResult);
            let newer = known.as_ref().is_none_or(|known| {
                order > known.order || (order == known.order && known.outdated.is_some())
            });
            if !newer {
                continue;
            }
            let since_us = match known {
                Some(known) if known.verdict == verdict => known.since_us,
                _ => order.0,
            };
            let evidence = Evidence::Row(Arc::clone(judged), row);
            *known = Some(Standing { verdict, since_us, order, outdated: None, evidence });
        }
    }
}

#[cfg(test)]
mod tests;
