//! Transitions as rows of the tenant's table `gold.transitions`.

use std::sync::{Arc, LazyLock};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, Int32Builder, Int64Array, Int64Builder, RecordBatch, StringBuilder,
        TimestampMicrosecondBuilder,
    },
    compute::cast,
    datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit},
};
use serde_json::{Value, json};

use crate::{PolicyError, TransitionRecord};

/// Text columns in order: name, whether null, documentation, value.
type Text = (&'static str, bool, &'static str, fn(&TransitionRecord) -> Option<String>);

const TEXTS: [Text; 17] = [
    ("finding_id", false, "Hash of tenant, computer and rule", |t| Some(t.finding_id.clone())),
    ("host_id", false, "Computer (host.id in ECS)", |t| Some(t.host_id.clone())),
    ("hostname", true, "Its name, as last reported", |t| t.hostname.clone()),
    ("organization_id", true, "Its organisation, as last reported", |t| t.organization_id.clone()),
    ("rule_id", false, "Rule, as in policies.rules (rule.id in ECS)", |t| Some(t.rule_id.clone())),
    ("title", false, "The rule in one line", |t| Some(t.title.clone())),
    ("severity", false, "low, medium, high or critical", |t| Some(t.severity.as_str().to_owned())),
    ("from_status", false, "Status before", |t| Some(t.from.as_str().to_owned())),
    ("to_status", false, "Status after; the same for a comment", |t| Some(t.to.as_str().to_owned())),
    ("cause", false, "What made it: record, window, time, command, rules or retirement", |t| {
        Some(t.cause.as_str().to_owned())
    }),
    ("reason", false, "Why, in words", |t| Some(t.reason.clone())),
    ("actor", true, "Who, if a person", |t| t.by.clone()),
    ("assignee", true, "Whose it is from then on", |t| t.assignee.clone()),
    ("evidence", true, "The values that decided, JSON", |t| {
        (!t.evidence.is_null()).then(|| t.evidence.to_string())
    }),
    ("revision", false, "Revision of the rule that judged; empty for one that is gone", |t| {
        Some(t.revision.clone())
    }),
    ("catalog_commit", false, "Commit of main that the rules were read from", |t| {
        Some(t.catalog_commit.clone())
    }),
    ("record_topic", false, "Topic of the record that decided last", |t| Some(t.topic.clone())),
];

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let instant = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let mut fields = vec![
        field(
            "at",
            instant.clone(),
            false,
            "When: it follows from records and rules, not from when it was noticed",
        ),
        field(
            "version",
            DataType::Int64,
            false,
            "Rises with each transition of the finding, also over a rebuild",
        ),
    ];
    fields.extend(TEXTS.iter().map(|(name, nullable, doc, _)| field(name, DataType::Utf8, *nullable, doc)));
    fields.extend([
        field("record_partition", DataType::Int32, false, "Its partition"),
        field("record_offset", DataType::Int64, false, "Its offset"),
        field("published_at", instant.clone(), false, "When the log took the transition"),
        field("log_topic_id", DataType::Utf8, false, "Id of the topic compliance"),
        field("log_partition", DataType::Int32, false, "The transition's partition in it"),
        field("log_offset", DataType::Int64, false, "The transition's offset in it"),
        field("snoozed_until", instant, true, "Quiet until, of one that begins a snooze"),
    ]);
    Arc::new(Schema::new(fields))
});

fn field(name: &str, data_type: DataType, nullable: bool, doc: &str) -> Field {
    Field::new(name, data_type, nullable).with_metadata([("doc".to_owned(), doc.to_owned())].into())
}

/// Schema of `gold.transitions`. (`log_topic_id`, `log_partition`, `log_offset`) is unique.
#[must_use]
pub fn transitions_schema() -> SchemaRef {
    SCHEMA.clone()
}

/// Builds batches of `gold.transitions`.
pub struct TransitionsBuilder {
    at: TimestampMicrosecondBuilder,
    version: Int64Builder,
    texts: Vec<StringBuilder>,
    record_partition: Int32Builder,
    record_offset: Int64Builder,
    published_at: TimestampMicrosecondBuilder,
    log_topic_id: StringBuilder,
    log_partition: Int32Builder,
    log_offset: Int64Builder,
    snoozed_until: TimestampMicrosecondBuilder,
}

impl Default for TransitionsBuilder {
    fn default() -> Self {
        let instants = || TimestampMicrosecondBuilder::new().with_timezone("UTC");
        Self {
            at: instants(),
            version: Int64Builder::new(),
            texts: TEXTS.iter().map(|_| StringBuilder::new()).collect(),
            record_partition: Int32Builder::new(),
            record_offset: Int64Builder::new(),
            published_at: instants(),
            log_topic_id: StringBuilder::new(),
            log_partition: Int32Builder::new(),
            log_offset: Int64Builder::new(),
            snoozed_until: instants(),
        }
    }
}

impl TransitionsBuilder {
    /// Adds a transition with its own place in the log: topic id, partition, offset, and when it was taken.
    pub fn push(
        &mut self,
        transition: &TransitionRecord,
        topic_id: &str,
        (partition, offset): (i32, i64),
        published_at_us: i64,
    ) {
        self.at.append_value(transition.at_us);
        self.version.append_value(transition.version.cast_signed());
        for (builder, (.., value)) in self.texts.iter_mut().zip(&TEXTS) {
            builder.append_option(value(transition));
        }
        self.record_partition.append_value(transition.partition);
        self.record_offset.append_value(transition.offset);
        self.published_at.append_value(published_at_us);
        self.log_topic_id.append_value(topic_id);
        self.log_partition.append_value(partition);
        self.log_offset.append_value(offset);
        self.snoozed_until.append_option(transition.snoozed_until_us);
    }

    /// The rows so far; the builder is empty afterwards.
    ///
    /// # Panics
    /// Never: the columns are built for the schema and are of one length.
    pub fn finish(&mut self) -> RecordBatch {
        let mut columns: Vec<ArrayRef> = vec![Arc::new(self.at.finish()), Arc::new(self.version.finish())];
        columns.extend(self.texts.iter_mut().map(|builder| Arc::new(builder.finish()) as ArrayRef));
        let place: [ArrayRef; 7] = [
            Arc::new(self.record_partition.finish()),
            Arc::new(self.record_offset.finish()),
            Arc::new(self.published_at.finish()),
            Arc::new(self.log_topic_id.finish()),
            Arc::new(self.log_partition.finish()),
            Arc::new(self.log_offset.finish()),
            Arc::new(self.snoozed_until.finish()),
        ];
        columns.extend(place);
        RecordBatch::try_new(transitions_schema(), columns)
            .expect("the columns fit the schema of transitions")
    }
}

/// Rows of `gold.transitions` as transitions of `tenant`, each with when it was published (microseconds since the epoch).
pub fn transitions_from_batch(
    batch: &RecordBatch,
    tenant: &str,
) -> Result<Vec<(TransitionRecord, i64)>, PolicyError> {
    let fail = |message: String| PolicyError::new("gold.transitions", message);
    let column = |name: &str, data_type: &DataType| {
        let column = batch.column_by_name(name).ok_or_else(|| fail(format!("column '{name}' is missing")))?;
        cast(column, data_type).map_err(|error| fail(format!("column '{name}': {error}")))
    };
    let whole = |name: &str| {
        Ok::<Int64Array, PolicyError>(column(name, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
    };
    let instant = |name: &str| {
        let micros = column(name, &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())))?;
        let whole = cast(&micros, &DataType::Int64).map_err(|error| fail(error.to_string()))?;
        Ok::<_, PolicyError>(whole.as_primitive::<Int64Type>().clone())
    };
    let mut texts = Vec::new();
    for (name, ..) in &TEXTS {
        texts.push((*name, column(name, &DataType::Utf8)?.as_string::<i32>().clone()));
    }
    let (at, published) = (instant("at")?, instant("published_at")?);
    // A table that no ingest worker of this version has written to lacks it.
    let snoozed = batch.column_by_name("snoozed_until").map(|_| instant("snoozed_until")).transpose()?;
    let (version, partition, offset) =
        (whole("version")?, whole("record_partition")?, whole("record_offset")?);
    let mut rows = Vec::with_capacity(batch.num_rows());
    for row in 0..batch.num_rows() {
        let text = |name: &str| {
            let (_, column) = texts.iter().find(|(known, _)| *known == name)?;
            column.is_valid(row).then(|| column.value(row))
        };
        let evidence =
            text("evidence").and_then(|json| serde_json::from_str(json).ok()).unwrap_or(Value::Null);
        let value = json!({
            "finding_id": text("finding_id"), "tenant": tenant, "host_id": text("host_id"), "hostname": text("hostname"),
            "organization_id": text("organization_id"), "rule_id": text("rule_id"), "title": text("title"),
            "severity": text("severity"), "from": text("from_status"), "to": text("to_status"), "at_us": at.value(row),
            "version": version.value(row), "cause": text("cause"), "reason": text("reason"), "by": text("actor"),
            "assignee": text("assignee"), "evidence": evidence, "revision": text("revision"),
            "topic": text("record_topic"), "partition": partition.value(row), "offset": offset.value(row),
            "catalog_commit": text("catalog_commit"),
            "snoozed_until_us": snoozed.as_ref().filter(|until| until.is_valid(row)).map(|until| until.value(row)),
        });
        let transition =
            serde_json::from_value(value).map_err(|error| fail(format!("row {row}: {error}")))?;
        rows.push((transition, published.value(row)));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn transition_becomes_a_row_with_its_whole_story() {
        let transition: TransitionRecord = serde_json::from_value(json!({
            "finding_id": "f", "tenant": "acme", "host_id": "h", "rule_id": "enc", "title": "T", "severity": "high",
            "from": "open", "to": "acknowledged", "at_us": 5, "snoozed_until_us": 6, "version": (1_u64 << 40) + 2, "cause": "command",
            "reason": "mine", "by": "alice", "evidence": { "a": 1 }, "revision": "r", "topic": "inventory",
            "partition": 3, "offset": 9, "catalog_commit": "c",
        }))
        .unwrap();
        let mut builder = TransitionsBuilder::default();
        builder.push(&transition, "topic-id", (3, 7), 11);
        let batch = builder.finish();
        let text = |name: &str| batch.column_by_name(name).unwrap().as_string::<i32>().value(0).to_owned();
        let told =
            ["from_status", "to_status", "cause", "actor", "evidence", "catalog_commit", "log_topic_id"]
                .map(text);
        assert_eq!(told, ["open", "acknowledged", "command", "alice", r#"{"a":1}"#, "c", "topic-id"]);
        let whole = |name: &str| batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().value(0);
        assert_eq!((whole("version"), whole("record_offset"), whole("log_offset")), ((1 << 40) + 2, 9, 7));
        assert_eq!(builder.finish().num_rows(), 0);
        assert_eq!(transitions_from_batch(&batch, "acme").unwrap(), [(transition, 11)]);
    }
}
