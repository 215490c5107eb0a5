//! From streams of rows to data files of a table.

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

/// What came of one stream.
#[derive(Debug, Default)]
pub(crate) struct Poured {
    /// Rows written.
    pub(crate) rows: u64,
    /// Rows that checks dropped.
    pub(crate) dropped: u64,
    /// Largest `received_at`, microseconds since the epoch, where there is such a column.
    pub(crate) newest_received_us: Option<i64>,
}

/// Files of a table in the making.
pub(crate) struct Pour {
    table: Table,
    writer: DataFileWriter,
}

impl Pour {
    /// Begins.
    pub(crate) fn new(table: &Table, options: WriteOptions) -> Result<Self, CompactorError> {
        Ok(Self { table: table.clone(), writer: DataFileWriter::new(table, options)? })
    }

    /// Writes all rows that pass the checks. On an error nothing is left behind.
    pub(crate) async fn add(
        mut self,
        rows: SendableRecordBatchStream,
        checks: Option<&mut Checks>,
    ) -> Result<(Self, Poured), CompactorError> {
        match self.write(rows, checks).await {
            Ok(poured) => Ok((self, poured)),
            Err(error) => {
                self.writer.abort().await;
                Err(error)
            }
        }
    }

    /// The files, not yet committed.
    pub(crate) async fn close(self) -> Result<Vec<WrittenFile>, CompactorError> {
        Ok(self.writer.close().await?)
    }

    async fn write(
        &mut self,
        mut rows: SendableRecordBatchStream,
        mut checks: Option<&mut Checks>,
    ) -> Result<Poured, CompactorError> {
        let table = self.table.clone();
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
            poured.newest_received_us =
                poured.newest_received_us.max(newest_received(&kept).map_err(failed)?);
            if kept.num_rows() > 0 {
                self.writer.write(&kept).await?;
            }
        }
        Ok(poured)
    }
}

fn newest_received(batch: &RecordBatch) -> Result<Option<i64>> {
    match batch.column_by_name(RECEIVED_AT) {
        Some(column) => Ok(datafusion::arrow::compute::max(&micros(column)?)),
        None => Ok(None),
    }
}
