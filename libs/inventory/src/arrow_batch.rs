//! Records as Arrow columns of `bronze.inventory` and `bronze.quarantine`.

use arrow::{array::RecordBatch, datatypes::SchemaRef};

use crate::{Decoded, Rejection};

/// Where a record came from and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPosition {
    /// Id of the topic (not its name).
    pub topic_id: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// When the gateway took it, microseconds since the epoch.
    pub received_at_us: i64,
    /// Adapter that took it (`native` …).
    pub source: String,
}

/// Schema of `bronze.inventory`: first `received_at`, `event_time` (timestamps, microseconds, UTC), `clock_skew_s` (int64),
/// `source`, `log_topic_id`, `log_partition` (int32), `log_offset` (int64); then every field of [`crate::Inventory`] under its
/// own name, the `*_at` fields as timestamps, `host_ip` and `local_admins` as lists of text, `software` as a list of
/// structs; last `extra` (JSON text). Each field's metadata has `doc`, naming unit and class.
#[must_use]
pub fn bronze_schema() -> SchemaRef {
    todo!()
}

/// Schema of `bronze.quarantine`: `received_at`, `reason`, `reason_kind`, `host_id` (if known), `raw` (binary),
/// `source`, `log_topic_id`, `log_partition`, `log_offset`.
#[must_use]
pub fn quarantine_schema() -> SchemaRef {
    todo!()
}

/// Builds bronze batches.
#[derive(Default)]
pub struct BronzeBuilder {}

impl BronzeBuilder {
    /// Adds a record. Event time = received_at - max(0, sent_at - collected_at), at most 30 days back.
    pub fn push(&mut self, _record: &Decoded, _position: &LogPosition) {
        todo!()
    }

    /// Rows so far.
    #[must_use]
    pub fn len(&self) -> usize {
        todo!()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory held, roughly.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        todo!()
    }

    /// The rows so far; the builder is empty afterwards.
    pub fn finish(&mut self) -> RecordBatch {
        todo!()
    }
}

/// Builds quarantine batches.
#[derive(Default)]
pub struct QuarantineBuilder {}

impl QuarantineBuilder {
    /// Adds a rejected record with its raw bytes.
    pub fn push(&mut self, _rejection: &Rejection, _raw: &[u8], _position: &LogPosition) {
        todo!()
    }

    /// Rows so far.
    #[must_use]
    pub fn len(&self) -> usize {
        todo!()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows so far; the builder is empty afterwards.
    pub fn finish(&mut self) -> RecordBatch {
        todo!()
    }
}
