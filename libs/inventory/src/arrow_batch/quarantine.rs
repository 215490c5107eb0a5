//! `bronze.quarantine`: records that could not be taken, as they came.

use std::sync::{Arc, LazyLock};

use arrow::{
    array::{
        ArrayRef, BinaryBuilder, Int32Builder, Int64Builder, RecordBatch, StringBuilder,
        TimestampMicrosecondBuilder,
    },
    datatypes::{DataType, Schema, SchemaRef},
};

use super::{LogPosition, documented, instant_type, position_columns};
use crate::{Rejection, decode};

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let mut columns = vec![
        documented("received_at", instant_type(), false, "When the gateway took the record", None),
        documented("reason", DataType::Utf8, false, "What is wrong and where, for a person", None),
        documented("reason_kind", DataType::Utf8, false, "Kind of the reason, for counting", None),
        documented("host_id", DataType::Utf8, true, "Stable id of the computer, if it could be read", None),
        documented("raw", DataType::Binary, true, "The record as it came; null for a tombstone", None),
    ];
    columns.extend(position_columns());
    Arc::new(Schema::new(columns))
});

/// Schema of `bronze.quarantine`: `received_at`, `reason`, `reason_kind`, `host_id` (if known), `raw` (binary),
/// `source`, `log_topic_id`, `log_partition`, `log_offset`.
#[must_use]
pub fn quarantine_schema() -> SchemaRef {
    SCHEMA.clone()
}

/// Builds quarantine batches.
pub struct QuarantineBuilder {
    received_at: TimestampMicrosecondBuilder,
    reason: StringBuilder,
    reason_kind: StringBuilder,
    host_id: StringBuilder,
    raw: BinaryBuilder,
    source: StringBuilder,
    log_topic_id: StringBuilder,
    log_partition: Int32Builder,
    log_offset: Int64Builder,
    rows: usize,
    bytes: usize,
}

impl Default for QuarantineBuilder {
    fn default() -> Self {
        Self {
            received_at: TimestampMicrosecondBuilder::new().with_data_type(instant_type()),
            reason: StringBuilder::new(),
            reason_kind: StringBuilder::new(),
            host_id: StringBuilder::new(),
            raw: BinaryBuilder::new(),
            source: StringBuilder::new(),
            log_topic_id: StringBuilder::new(),
            log_partition: Int32Builder::new(),
            log_offset: Int64Builder::new(),
            rows: 0,
            bytes: 0,
        }
    }
}

impl QuarantineBuilder {
    /// Adds a rejected record with its raw bytes (none for a tombstone).
    pub fn push(&mut self, rejection: &Rejection, raw: &[u8], position: &LogPosition) {
        self.received_at.append_value(position.received_at_us);
        self.reason.append_value(&rejection.reason);
        self.reason_kind.append_value(rejection.kind.as_str());
        self.host_id.append_option(decode::host_id(raw).ok());
        self.raw.append_option((rejection.kind != crate::RejectionKind::Tombstone).then_some(raw));
        self.source.append_value(&position.source);
        self.log_topic_id.append_value(&position.topic_id);
        self.log_partition.append_value(position.partition);
        self.log_offset.append_value(position.offset);
        self.bytes +=
            100 + rejection.reason.len() + raw.len() + position.topic_id.len() + position.source.len();
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

    /// The rows so far; the builder is empty afterwards.
    ///
    /// # Panics
    /// Never: the columns are built for the schema and are of one length.
    pub fn finish(&mut self) -> RecordBatch {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.received_at.finish()),
            Arc::new(self.reason.finish()),
            Arc::new(self.reason_kind.finish()),
            Arc::new(self.host_id.finish()),
            Arc::new(self.raw.finish()),
            Arc::new(self.source.finish()),
            Arc::new(self.log_topic_id.finish()),
            Arc::new(self.log_partition.finish()),
            Arc::new(self.log_offset.finish()),
        ];
        self.rows = 0;
        self.bytes = 0;
        RecordBatch::try_new(quarantine_schema(), columns).expect("the columns fit the quarantine schema")
    }
}
