//! What rules would have told over the lake's history: records of `silver.inventory`, replayed computer by computer.

use std::{collections::BTreeSet, num::NonZero, sync::Arc};

use arrow::{compute::SortOptions, record_batch::RecordBatch};
use datafusion::{
    common::ScalarValue,
    error::{DataFusionError, Result as DataFusionResult},
    execution::SendableRecordBatchStream,
    logical_expr::Expr,
    physical_expr::{LexOrdering, PhysicalSortExpr, expressions::col as column},
    physical_plan::{
        Partitioning, execute_stream_partitioned, repartition::RepartitionExec, sorts::sort::SortExec,
    },
    prelude::{DataFrame, col, lit},
};
use firn_catalog_client::{ClientErrorKind, TenantClient, iceberg::TableIdent};
use firn_inventory::tables::SILVER_INVENTORY;
use firn_policy::{Backtest, CompiledRule, Findings};
use firn_table::{FileIo, ReferenceSpec, TableError, TableErrorKind, lake_session};
use futures::{StreamExt as _, future::try_join_all};

/// What sorting may hold in memory; more goes to disk.
const MEMORY_BYTES: usize = 1 << 30;
/// A computer's records count in the log's order.
const ORDER: [&str; 3] = ["host_id", "log_partition", "log_offset"];

/// Records that were received within a stretch of time, of all computers of a tenant.
pub struct History {
    rows: DataFrame,
}

impl History {
    /// From an instant up to another, microseconds since the epoch; `wanted` leaves records out. `None` if nothing was promoted yet.
    ///
    /// # Errors
    /// If the catalog or the table can't be read.
    pub async fn of(
        client: &TenantClient,
        file_io: &FileIo,
        (from_us, to_us): (i64, i64),
        wanted: Option<Expr>,
    ) -> Result<Option<Self>, TableError> {
        let (namespace, name) = SILVER_INVENTORY;
        match client.load_table("main", &TableIdent::new(namespace, name)).await {
            Ok(_) => {}
            Err(error) if error.kind == ClientErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let main = ReferenceSpec { reference: "main".to_owned() };
        let session = lake_session(client, file_io, &main, MEMORY_BYTES).await?;
        let instant = |us: i64| lit(ScalarValue::TimestampMicrosecond(Some(us), Some("UTC".into())));
        let received = col("received_at").gt_eq(instant(from_us)).and(col("received_at").lt(instant(to_us)));
        let rows = async { session.table(format!("{namespace}.{name}")).await?.filter(received) };
        let rows = rows.await.map_err(unreadable)?;
        let rows = match wanted {
            Some(wanted) => rows.filter(wanted).map_err(unreadable)?,
            None => rows,
        };
        Ok(Some(Self { rows }))
    }

    /// Replays sets of rules beside each other until an end of time, on all cores; what each set would have told.
    ///
    /// # Errors
    /// If records can't be read.
    pub async fn replay(self, rules: &[Vec<CompiledRule>], end_us: i64) -> Result<Vec<Findings>, TableError> {
        let replays = || rules.iter().map(|rules| Backtest::new(rules.clone(), end_us)).collect::<Vec<_>>();
        let columns = replays().iter().flat_map(Backtest::columns).collect();
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let parts = self.by_host(&columns, cores).await.map_err(unreadable)?;
        let replay = |mut records: SendableRecordBatchStream| {
            let mut replays = replays();
            tokio::spawn(async move {
                while let Some(batch) = records.next().await {
                    let batch = batch?;
                    replays.iter_mut().try_for_each(|replay| replay.add(&batch))?;
                }
                Ok::<_, DataFusionError>(replays.into_iter().map(Backtest::finish).collect::<Vec<_>>())
            })
        };
        let parts = try_join_all(parts.into_iter().map(replay)).await;
        let parts = parts.map_err(|error| unreadable(DataFusionError::External(error.into())))?;
        let mut found: Vec<Findings> = rules.iter().map(|_| Findings::default()).collect();
        for part in parts {
            for (found, part) in found.iter_mut().zip(part.map_err(unreadable)?) {
                found.add(part);
            }
        }
        found.iter_mut().for_each(Findings::sort);
        Ok(found)
    }

    /// The records of these columns, in order.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn records(self, columns: &BTreeSet<String>) -> Result<Vec<RecordBatch>, TableError> {
        let mut records = Vec::new();
        for mut part in self.by_host(columns, 1).await.map_err(unreadable)? {
            while let Some(batch) = part.next().await {
                records.push(batch.map_err(unreadable)?);
            }
        }
        Ok(records)
    }

    /// In so many parts, each with all records of its computers, in order.
    async fn by_host(
        self,
        columns: &BTreeSet<String>,
        parts: usize,
    ) -> DataFusionResult<Vec<SendableRecordBatchStream>> {
        let names: Vec<&str> = columns.iter().map(String::as_str).collect();
        let rows = self.rows.select_columns(&names)?;
        let context = Arc::new(rows.task_ctx());
        let scan = rows.create_physical_plan().await?;
        let schema = scan.schema();
        let ascending = SortOptions { descending: false, nulls_first: false };
        let order = ORDER.map(|name| Ok(PhysicalSortExpr::new(column(name, &schema)?, ascending)));
        let order = order.into_iter().collect::<DataFusionResult<Vec<_>>>()?;
        let order =
            LexOrdering::new(order).ok_or_else(|| DataFusionError::Internal("no order".to_owned()))?;
        let by_host = Partitioning::Hash(vec![column(ORDER[0], &schema)?], parts);
        let by_host = Arc::new(RepartitionExec::try_new(scan, by_host)?);
        let sorted = SortExec::new(order, by_host).with_preserve_partitioning(true);
        execute_stream_partitioned(Arc::new(sorted), context)
    }
}

fn unreadable(error: DataFusionError) -> TableError {
    let (namespace, name) = SILVER_INVENTORY;
    TableError {
        kind: TableErrorKind::Storage,
        context: format!("reading {namespace}.{name}"),
        source: Some(Box::new(error)),
    }
}
