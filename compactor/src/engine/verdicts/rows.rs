//! Rows of the compliance table.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use datafusion::{
    arrow::{
        array::{
            ArrayRef, AsArray, Int32Array, Int64Array, RecordBatch, StringArray, StringBuilder,
            TimestampMicrosecondArray,
        },
        compute::cast,
        datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
        error::ArrowError,
    },
    error::Result,
};
use firn_policy::{CompiledRule, Severity, Verdict};

use super::{Evidence, JudgedBatch, Order, RuleSet, Standing};

/// What is told of a host beside its verdicts: from its newest record.
#[derive(Clone, Debug, Default)]
pub(super) struct HostFacts {
    pub(super) hostname: Option<String>,
    pub(super) organization_id: Option<String>,
}

/// Name, type, whether required, documentation.
fn columns() -> [(&'static str, DataType, bool, &'static str); 14] {
    let instant = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    [
        ("host_id", DataType::Utf8, true, "Computer (host.id in ECS)."),
        ("rule_id", DataType::Utf8, true, "Rule, as in policies.rules (rule.id in ECS)."),
        ("title", DataType::Utf8, false, "The rule in one line."),
        ("severity", DataType::Utf8, false, "low, medium, high or critical."),
        ("hostname", DataType::Utf8, false, "Name of the computer in its newest inventory."),
        ("organization_id", DataType::Utf8, false, "Organisation of the computer in its newest inventory."),
        ("state", DataType::Utf8, true, "pass, fail, or no_result where the rule can't tell."),
        (
            "since",
            instant(),
            true,
            "Event time of the first inventory of the present run of equal states, UTC.",
        ),
        ("evidence", DataType::Utf8, false, "The columns that decided and their values, as a JSON object."),
        ("revision", DataType::Utf8, true, "Revision of the rule that judged."),
        ("event_time", instant(), true, "Event time of the inventory that was judged last, UTC."),
        ("received_at", instant(), true, "When the gateway took that inventory, UTC."),
        ("log_partition", DataType::Int32, true, "Partition of that inventory in the log."),
        ("log_offset", DataType::Int64, true, "Offset of that inventory in its partition."),
    ]
}

/// Schema of the compliance table.
pub(crate) fn verdict_schema() -> SchemaRef {
    let fields = columns().map(|(name, data_type, required, doc)| {
        let metadata = HashMap::from([("doc".to_owned(), doc.to_owned())]);
        Field::new(name, data_type, !required).with_metadata(metadata)
    });
    Arc::new(Schema::new(fields.to_vec()))
}

/// A column as text.
pub(super) fn text(column: &ArrayRef) -> Result<StringArray, ArrowError> {
    Ok(cast(column, &DataType::Utf8)?.as_string::<i32>().clone())
}

pub(crate) fn state_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "fail",
        Verdict::NoResult => "no_result",
    }
}

pub(super) fn verdict_of(state: &str) -> Verdict {
    match state {
        "pass" => Verdict::Pass,
        "fail" => Verdict::Fail,
        _ => Verdict::NoResult,
    }
}

fn severity_name(severity: Severity) -> &'static str {
    match severity {
        Severity::Low => "low",
        Severity::Medium => "medium",
        Severity::High => "high",
        Severity::Critical => "critical",
    }
}

/// Rows on their way to a batch, in columns.
#[derive(Default)]
pub(super) struct VerdictRows {
    /// All texts but the evidence.
    texts: [StringBuilder; 8],
    evidence: Vec<Option<String>>,
    /// By the places of the rules: rows whose evidence is still to be written out of the records.
    unwritten: BTreeMap<usize, Vec<Unwritten>>,
    since_us: Vec<i64>,
    orders: Vec<Order>,
}

/// A row without its evidence yet, and the record that has it.
struct Unwritten {
    row: usize,
    judged: Arc<JudgedBatch>,
    record: usize,
}

impl VerdictRows {
    pub(super) fn len(&self) -> usize {
        self.orders.len()
    }

    pub(super) fn push(
        &mut self,
        host_id: &str,
        facts: &HostFacts,
        (place, rule): (usize, &CompiledRule),
        standing: &Standing,
    ) {
        let policy = &rule.policy;
        let values = [
            Some(host_id),
            Some(policy.id.as_str()),
            Some(policy.title.as_str()),
            Some(severity_name(policy.severity)),
            facts.hostname.as_deref(),
            facts.organization_id.as_deref(),
            Some(state_name(standing.verdict)),
            Some(standing.outdated.as_ref().unwrap_or(&rule.revision).as_str()),
        ];
        for (column, value) in self.texts.iter_mut().zip(values) {
            column.append_option(value);
        }
        self.evidence.push(match &standing.evidence {
            Evidence::Known(known) => known.clone(),
            Evidence::Row(judged, record) => {
                let (row, judged) = (self.evidence.len(), Arc::clone(judged));
                self.unwritten.entry(place).or_default().push(Unwritten { row, judged, record: *record });
                None
            }
        });
        self.since_us.push(standing.since_us);
        self.orders.push(standing.order);
    }

    /// Writes out all evidence so far, so that no records are held for it any longer.
    pub(super) fn write_evidence(&mut self, rules: &RuleSet) {
        for (place, unwritten) in std::mem::take(&mut self.unwritten) {
            for rows in unwritten.chunk_by(|one, next| Arc::ptr_eq(&one.judged, &next.judged)) {
                let records: Vec<_> = rows.iter().map(|row| row.record).collect();
                let values = rules.rules[place].evidence_of(&rows[0].judged.batch, &records);
                for (row, value) in rows.iter().zip(values) {
                    self.evidence[row.row] = Some(value.to_string());
                }
            }
        }
    }

    /// The rows so far; none are left.
    pub(super) fn finish(&mut self, rules: &RuleSet) -> Result<RecordBatch> {
        self.write_evidence(rules);
        let Self { mut texts, evidence, since_us, orders, .. } = std::mem::take(self);
        let instants = |values: Vec<i64>| -> ArrayRef {
            Arc::new(TimestampMicrosecondArray::from(values).with_timezone("UTC"))
        };
        let mut columns: Vec<ArrayRef> =
            texts.iter_mut().map(|column| Arc::new(column.finish()) as ArrayRef).collect();
        columns.insert(7, instants(since_us));
        columns.insert(8, Arc::new(StringArray::from(evidence)));
        columns.push(instants(orders.iter().map(|order| order.0).collect()));
        columns.push(instants(orders.iter().map(|order| order.1).collect()));
        let partitions = orders.iter().map(|order| i32::try_from(order.2).unwrap_or(i32::MAX));
        columns.push(Arc::new(Int32Array::from_iter_values(partitions)));
        columns.push(Arc::new(Int64Array::from_iter_values(orders.iter().map(|order| order.3))));
        Ok(RecordBatch::try_new(verdict_schema(), columns)?)
    }
}
