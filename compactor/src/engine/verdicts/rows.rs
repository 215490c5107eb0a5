//! Rows of the compliance table.

use std::{collections::HashMap, sync::Arc};

use datafusion::{
    arrow::{
        array::{
            ArrayRef, AsArray, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
        },
        compute::cast,
        datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
        error::ArrowError,
    },
    error::Result,
};
use firn_policy::{CompiledRule, Severity, Verdict};

use super::{Evidence, Order, Standing};

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
    texts: [Vec<Option<String>>; 9],
    since_us: Vec<i64>,
    orders: Vec<Order>,
}

impl VerdictRows {
    pub(super) fn len(&self) -> usize {
        self.orders.len()
    }

    pub(super) fn push(
        &mut self,
        host_id: &str,
        facts: &HostFacts,
        rule: &CompiledRule,
        standing: &Standing,
    ) {
        let evidence = match &standing.evidence {
            Evidence::Known(known) => known.clone(),
            Evidence::Row(judged, row) => Some(rule.evidence(&judged.batch, *row).to_string()),
        };
        let revision = standing.outdated.as_ref().unwrap_or(&rule.revision);
        let policy = &rule.policy;
        let values = [
            Some(host_id.to_owned()),
            Some(policy.id.clone()),
            Some(policy.title.clone()),
            Some(severity_name(policy.severity).to_owned()),
            facts.hostname.clone(),
            facts.organization_id.clone(),
            Some(state_name(standing.verdict).to_owned()),
            evidence,
            Some(revision.clone()),
        ];
        for (column, value) in self.texts.iter_mut().zip(values) {
            column.push(value);
        }
        self.since_us.push(standing.since_us);
        self.orders.push(standing.order);
    }

    /// The rows so far; none are left.
    pub(super) fn finish(&mut self) -> Result<RecordBatch> {
        let Self { texts, since_us, orders } = std::mem::take(self);
        let instants = |values: Vec<i64>| -> ArrayRef {
            Arc::new(TimestampMicrosecondArray::from(values).with_timezone("UTC"))
        };
        let mut columns: Vec<ArrayRef> =
            texts.into_iter().map(|column| Arc::new(StringArray::from(column)) as ArrayRef).collect();
        columns.insert(7, instants(since_us));
        columns.push(instants(orders.iter().map(|order| order.0).collect()));
        columns.push(instants(orders.iter().map(|order| order.1).collect()));
        let partitions = orders.iter().map(|order| i32::try_from(order.2).unwrap_or(i32::MAX));
        columns.push(Arc::new(Int32Array::from_iter_values(partitions)));
        columns.push(Arc::new(Int64Array::from_iter_values(orders.iter().map(|order| order.3))));
        Ok(RecordBatch::try_new(verdict_schema(), columns)?)
    }
}
