//! Rows of `bronze.quarantine`, typed.

use arrow::{
    array::{Array, ArrayRef, AsArray, BinaryArray, PrimitiveArray, RecordBatch, StringArray},
    compute::cast,
    datatypes::{DataType, Int32Type, Int64Type},
    error::ArrowError,
};
use firn_inventory::LogPosition;

/// The columns that a replay needs.
pub(super) struct QuarantinedRows {
    received_at_us: PrimitiveArray<Int64Type>,
    reason_kind: StringArray,
    raw: BinaryArray,
    source: StringArray,
    log_topic_id: StringArray,
    log_partition: PrimitiveArray<Int32Type>,
    log_offset: PrimitiveArray<Int64Type>,
}

impl QuarantinedRows {
    pub(super) fn of(batch: &RecordBatch) -> Result<Self, ArrowError> {
        // However the reader chose to hold them (as views, with large offsets).
        let column = |name: &str, wanted: &DataType| -> Result<ArrayRef, ArrowError> {
            let missing = || ArrowError::SchemaError(format!("bronze.quarantine has no column {name}"));
            cast(batch.column_by_name(name).ok_or_else(missing)?, wanted)
        };
        Ok(Self {
            received_at_us: column("received_at", &DataType::Int64)?.as_primitive().clone(),
            reason_kind: column("reason_kind", &DataType::Utf8)?.as_string().clone(),
            raw: column("raw", &DataType::Binary)?.as_binary().clone(),
            source: column("source", &DataType::Utf8)?.as_string().clone(),
            log_topic_id: column("log_topic_id", &DataType::Utf8)?.as_string().clone(),
            log_partition: column("log_partition", &DataType::Int32)?.as_primitive().clone(),
            log_offset: column("log_offset", &DataType::Int64)?.as_primitive().clone(),
        })
    }

    pub(super) fn kind(&self, row: usize) -> &str {
        self.reason_kind.value(row)
    }

    /// None for a tombstone.
    pub(super) fn raw(&self, row: usize) -> Option<&[u8]> {
        self.raw.is_valid(row).then(|| self.raw.value(row))
    }

    pub(super) fn source(&self, row: usize) -> &str {
        self.source.value(row)
    }

    pub(super) fn position(&self, row: usize) -> LogPosition {
        LogPosition {
            topic_id: self.log_topic_id.value(row).to_owned(),
            partition: self.log_partition.value(row),
            offset: self.log_offset.value(row),
            received_at_us: self.received_at_us.value(row),
            source: self.source.value(row).to_owned(),
        }
    }
}
