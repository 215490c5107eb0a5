//! `bronze.inventory`: envelope columns, the record's fields, what was unknown.

use std::{
    collections::BTreeSet,
    sync::{Arc, LazyLock},
};

use arrow::{
    array::{ArrayRef, Int32Builder, Int64Builder, RecordBatch, StringBuilder, TimestampMicrosecondBuilder},
    datatypes::{DataType, Schema, SchemaRef},
};

use super::{
    LogPosition, added,
    column::{self, Column},
    documented, instant_type, position_columns,
};
use crate::{
    Decoded, Row,
    decode::Value,
    fields::{FIELDS, Field, position},
    json_schema,
};

/// A host's own delay between collecting and sending is believed up to this.
const MAX_DELAY_US: i64 = 30 * 24 * 3600 * 1_000_000;

/// Columns before the record's own fields.
const ENVELOPE: usize = 7;

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(build_schema);

/// Schema of `bronze.inventory`: first `received_at`, `event_time` (timestamps, microseconds, UTC), `clock_skew_s` (int64),
/// `source`, `log_topic_id`, `log_partition` (int32), `log_offset` (int64); then every field of [`crate::Inventory`] under its
/// own name, the `*_at` fields as timestamps, `host_ip` and `local_admins` as lists of text, `software` as a list of
/// structs; then what follows from them: `platform`, `platform_version` and [`crate::ORGANIZATION_COLUMNS`], all text; last
/// `extra` (JSON text). Each field's metadata has `doc`, naming unit and class.
#[must_use]
pub fn bronze_schema() -> SchemaRef {
    SCHEMA.clone()
}

fn build_schema() -> SchemaRef {
    let published = json_schema();
    let mut columns = vec![
        documented("received_at", instant_type(), false, "When the gateway took the record", None),
        documented(
            "event_time",
            instant_type(),
            false,
            "When the facts were true, on the gateway's clock",
            None,
        ),
        documented(
            "clock_skew_s",
            DataType::Int64,
            true,
            "How far the host's clock is ahead",
            Some("seconds"),
        ),
    ];
    columns.extend(position_columns());
    for field in &FIELDS {
        let required = field.name == "host_id";
        let description = published["properties"][field.name]["description"].as_str().unwrap_or_default();
        // Doc comments wrap; a column's documentation is one line.
        let description = description.split_whitespace().collect::<Vec<_>>().join(" ");
        columns.push(documented(
            field.name,
            column::data_type(&field.slot),
            !required,
            &description,
            field.unit,
        ));
    }
    columns.extend(added::columns());
    columns.push(documented("extra", DataType::Utf8, true, "Unknown fields as one JSON object", None));
    Arc::new(Schema::new(columns))
}

/// Builds bronze batches.
pub struct BronzeBuilder {
    received_at: TimestampMicrosecondBuilder,
    event_time: TimestampMicrosecondBuilder,
    clock_skew_s: Int64Builder,
    source: StringBuilder,
    log_topic_id: StringBuilder,
    log_partition: Int32Builder,
    log_offset: Int64Builder,
    /// Invariant: one column per entry of [`FIELDS`], in its order; none for those that nobody reads.
    fields: Vec<Option<Column>>,
    extra: StringBuilder,
    /// Whether a column is in the rows, by its place in the schema of bronze.
    wanted: Vec<bool>,
    /// Whether any is that follows from others.
    wants_added: bool,
    /// Invariant: the wanted columns.
    schema: SchemaRef,
    /// Of the fields that durations and clocks are told by.
    collected_at: Option<usize>,
    sent_at: Option<usize>,
    rows: usize,
    bytes: usize,
}

impl Default for BronzeBuilder {
    fn default() -> Self {
        Self::with_capacity(0)
    }
}

impl BronzeBuilder {
    /// With room for so many rows, so that columns need not grow step by step.
    #[must_use]
    pub fn with_capacity(rows: usize) -> Self {
        Self::new(rows, |_| true)
    }

    /// Rows that have, of all columns, only those of the envelope and the named ones: for whoever reads no others.
    #[must_use]
    pub fn of_columns(rows: usize, names: &BTreeSet<String>) -> Self {
        Self::new(rows, |name| names.contains(name))
    }

    fn new(rows: usize, wants: impl Fn(&str) -> bool) -> Self {
        let all = bronze_schema();
        let wanted: Vec<bool> = all
            .fields()
            .iter()
            .enumerate()
            .map(|(at, column)| at < ENVELOPE || wants(column.name()))
            .collect();
        let wants_added = added::columns().iter().any(|column| wants(column.name()));
        let is_read =
            |field: &Field| wants(field.name) || (wants_added && added::SOURCES.contains(&field.name));
        let columns = all.fields().iter().zip(&wanted).filter(|(_, wanted)| **wanted);
        let schema = Arc::new(Schema::new(columns.map(|(column, _)| Arc::clone(column)).collect::<Vec<_>>()));
        let instants = || TimestampMicrosecondBuilder::with_capacity(rows).with_data_type(instant_type());
        Self {
            received_at: instants(),
            event_time: instants(),
            clock_skew_s: Int64Builder::with_capacity(rows),
            source: StringBuilder::with_capacity(rows, rows * 8),
            log_topic_id: StringBuilder::with_capacity(rows, rows * 24),
            log_partition: Int32Builder::with_capacity(rows),
            log_offset: Int64Builder::with_capacity(rows),
            fields: FIELDS
                .iter()
                .map(|field| is_read(field).then(|| Column::new(&field.slot, rows)))
                .collect(),
            extra: StringBuilder::new(),
            wanted,
            wants_added,
            schema,
            collected_at: position("collected_at"),
            sent_at: position("sent_at"),
            rows: 0,
            bytes: 0,
        }
    }

    /// Adds a record. Event time = received_at - max(0, sent_at - collected_at), at most 30 days back.
    pub fn push(&mut self, record: &Decoded, position: &LogPosition) {
        self.push_row(&Row::of(record), position);
    }

    /// The same of a record that was only read.
    pub fn push_row(&mut self, row: &Row<'_>, position: &LogPosition) {
        let instant = |index: Option<usize>| match row.values.get(index?)? {
            Value::Instant(_, us) => Some(*us),
            _ => None,
        };
        let (collected_us, sent_us) = (instant(self.collected_at), instant(self.sent_at));
        self.received_at.append_value(position.received_at_us);
        self.event_time.append_value(event_time_us(collected_us, sent_us, position.received_at_us));
        self.clock_skew_s.append_option(sent_us.map(|sent_us| skew_s(sent_us, position.received_at_us)));
        self.source.append_value(&position.source);
        self.log_topic_id.append_value(&position.topic_id);
        self.log_partition.append_value(position.partition);
        self.log_offset.append_value(position.offset);
        let mut bytes = 60 + position.source.len() + position.topic_id.len();
        for (column, value) in self.fields.iter_mut().zip(&row.values) {
            bytes += column.as_mut().map_or(0, |column| column.push(value));
        }
        self.extra.append_option(row.extra.as_deref());
        self.bytes += bytes + row.extra.as_ref().map_or(0, |extra| extra.len());
        self.rows += 1;
    }

    /// Rows so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Bytes of memory held, roughly.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.bytes
    }

    /// The rows so far; the builder is empty afterwards. The columns of the organisation are null: they follow from a table, not
    /// from the record.
    ///
    /// # Panics
    /// Never: the columns are built for the schema and are of one length.
    pub fn finish(&mut self) -> RecordBatch {
        let envelope: [ArrayRef; ENVELOPE] = [
            Arc::new(self.received_at.finish()),
            Arc::new(self.event_time.finish()),
            Arc::new(self.clock_skew_s.finish()),
            Arc::new(self.source.finish()),
            Arc::new(self.log_topic_id.finish()),
            Arc::new(self.log_partition.finish()),
            Arc::new(self.log_offset.finish()),
        ];
        let fields: Vec<Option<ArrayRef>> =
            self.fields.iter_mut().map(|column| column.as_mut().map(Column::finish)).collect();
        let added = if self.wants_added {
            added::arrays(&fields, self.rows).map(Some)
        } else {
            [const { None }; added::COUNT]
        };
        let extra: ArrayRef = Arc::new(self.extra.finish());
        let all = envelope.into_iter().map(Some).chain(fields).chain(added).chain([Some(extra)]);
        let columns = all.zip(&self.wanted).filter_map(|(column, wanted)| column.filter(|_| *wanted));
        self.rows = 0;
        self.bytes = 0;
        RecordBatch::try_new(Arc::clone(&self.schema), columns.collect())
            .expect("the columns fit the bronze schema")
    }
}

/// Believes the host's clock for a duration, never for an instant: clocks of hosts are wrong.
fn event_time_us(collected_us: Option<i64>, sent_us: Option<i64>, received_us: i64) -> i64 {
    match (collected_us, sent_us) {
        (Some(collected_us), Some(sent_us)) => {
            received_us.saturating_sub((sent_us - collected_us).clamp(0, MAX_DELAY_US))
        }
        _ => received_us,
    }
}

/// How far the host's clock is ahead.
fn skew_s(sent_us: i64, received_us: i64) -> i64 {
    sent_us.saturating_sub(received_us) / 1_000_000
}
