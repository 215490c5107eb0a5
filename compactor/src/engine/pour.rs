//! From a stream of rows to data files of a table.

use datafusion::{
    arrow::array::RecordBatch,
    error::{DataFusionError, Result},
    physical_plan::SendableRecordBatchStream,
};
use firn_table::{DataFileWriter, Table, WriteOptions, WrittenFile};
use futures::StreamExt;

use super::{
    checks::Checks,
    columns::{conform, micros},
};
use crate::CompactorError;

/// Column whose largest value says how fresh an output is.
const RECEIVED_AT: &str = "received_at";

/// What was written.
#[derive(Debug, Default)]
pub(crate) struct Poured {
    /// Files, not yet committed.
    pub(crate) files: Vec<WrittenFile>,
    /// Rows written.
    pub(crate) rows: u64,
    /// Rows that checks dropped.
    pub(crate) dropped: u64,
    /// Largest `received_at`, microseconds since the epoch, where there is such a column.
    pub(crate) newest_received_us: Option<i64>,
}

/// Writes all rows that pass the checks. On an error nothing is left behind.
pub(crate) async fn pour(
    table: &Table,
    options: WriteOptions,
    rows: SendableRecordBatchStream,
    checks: Option<&mut Checks>,
) -> Result<Poured, CompactorError> {
    let mut writer = DataFileWriter::new(table, options)?;
    match pour_into(&mut writer, table, rows, checks).await {
        Ok(mut poured) => {
            poured.files = writer.close().await?;
            Ok(poured)
        }
        Err(error) => {
            writer.abort().await;
            Err(error)
        }
    }
}

async fn pour_into(
    writer: &mut DataFileWriter,
    table: &Table,
    mut rows: SendableRecordBatchStream,
    mut checks: Option<&mut Checks>,
) -> Result<Poured, CompactorError> {
    let failed = |error: DataFusionError| CompactorError::query(table.ident(), &error);
    let schema = table.arrow_schema()?;
    let mut poured = Poured::default();
    while let Some(batch) = rows.next().await {
        let batch = batch.and_then(|batch| Ok(conform(&batch, &schema)?)).map_err(failed)?;
        let before = batch.num_rows();
        let kept = match checks.as_deref_mut() {
            Some(checks) => checks.apply(batch).map_err(failed)?,
            None => batch,
        };
        poured.rows += kept.num_rows() as u64;
        poured.dropped += (before - kept.num_rows()) as u64;
        poured.newest_received_us = poured.newest_received_us.max(newest_received(&kept).map_err(failed)?);
        if kept.num_rows() > 0 {
            writer.write(&kept).await?;
        }
    }
    Ok(poured)
}

fn newest_received(batch: &RecordBatch) -> Result<Option<i64>> {
    match batch.column_by_name(RECEIVED_AT) {
        Some(column) => Ok(datafusion::arrow::compute::max(&micros(column)?)),
        None => Ok(None),
    }
}
