//! What rules would have told over the lake's history: records of `silver.inventory`, replayed computer by computer.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZero,
    sync::Arc,
};

use arrow::{
    array::AsArray as _,
    compute::{SortOptions, cast},
    datatypes::{DataType, Int64Type},
    error::ArrowError,
    record_batch::RecordBatch,
};
use datafusion::{
    common::ScalarValue,
    error::{DataFusionError, Result as DataFusionResult},
    execution::SendableRecordBatchStream,
    functions_aggregate::expr_fn::max,
    logical_expr::Expr,
    physical_expr::{LexOrdering, PhysicalSortExpr, expressions::col as column},
    physical_plan::{
        Partitioning, execute_stream_partitioned, repartition::RepartitionExec, sorts::sort::SortExec,
    },
    prelude::{DataFrame, col, lit},
};
use firn_catalog_client::{ClientErrorKind, TenantClient, iceberg::TableIdent};
use firn_inventory::tables::SILVER_INVENTORY;
use firn_policy::{Backtest, ByReceipt, CompiledRule, Findings, ReplayedHost};
use firn_table::{FileIo, ReferenceSpec, TableError, TableErrorKind, lake_session};
use futures::{Stream, StreamExt as _, TryStreamExt as _, future::try_join_all, stream};

/// What sorting may hold in memory; more goes to disk.
const MEMORY_BYTES: usize = 1 << 30;
/// What [`ByReceipt`] wants.
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

    /// The last offset of each partition of a topic that the records have; of the same commit as they are.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn last_offsets(&self, topic_id: &str) -> Result<BTreeMap<i32, i64>, TableError> {
        let topic = lit(ScalarValue::Utf8(Some(topic_id.to_owned())));
        let last = max(col("log_offset")).alias("last");
        let rows = self.rows.clone().filter(col("log_topic_id").eq(topic));
        let rows = rows.and_then(|rows| rows.aggregate(vec![col("log_partition")], vec![last]));
        let batches = rows.map_err(unreadable)?.collect().await.map_err(unreadable)?;
        let mut offsets = BTreeMap::new();
        for batch in &batches {
            let whole = |at: usize| {
                cast(batch.column(at), &DataType::Int64).map_err(|error| unreadable(error.into()))
            };
            let (partitions, last) = (whole(0)?, whole(1)?);
            let rows = partitions.as_primitive::<Int64Type>().values().iter();
            let rows = rows.zip(last.as_primitive::<Int64Type>().values());
            offsets.extend(rows.map(|(partition, offset)| (*partition as i32, *offset)));
        }
        Ok(offsets)
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
        let replay = |records: SendableRecordBatchStream| {
            let (mut records, mut replays) = (Box::pin(by_receipt(records)), replays());
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

    /// Replays the records; tells `each` how a computer stands after its last one.
    ///
    /// # Errors
    /// If records can't be read.
    pub async fn hosts(
        self,
        rules: &[CompiledRule],
        mut each: impl FnMut(ReplayedHost),
    ) -> Result<(), TableError> {
        let mut replay = Backtest::of_hosts(rules.to_vec());
        for part in self.by_host(&replay.columns(), 1).await.map_err(unreadable)? {
            let mut records = Box::pin(by_receipt(part));
            while let Some(batch) = records.next().await {
                replay.add(&batch.map_err(unreadable)?).map_err(|error| unreadable(error.into()))?;
                replay.take_hosts().into_iter().for_each(&mut each);
            }
        }
        replay.end_host();
        replay.take_hosts().into_iter().for_each(each);
        Ok(())
    }

    /// The records of these columns, in order.
    ///
    /// # Errors
    /// If they can't be read.
    pub async fn records(self, columns: &BTreeSet<String>) -> Result<Vec<RecordBatch>, TableError> {
        let mut records = Vec::new();
        for part in self.by_host(columns, 1).await.map_err(unreadable)? {
            let mut part = Box::pin(by_receipt(part));
            while let Some(batch) = part.next().await {
                records.push(batch.map_err(unreadable)?);
            }
        }
        Ok(records)
    }

    /// In so many parts, each with all records of its computers, as [`ByReceipt`] wants them.
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

/// Sorted records in the order of their receipt.
fn by_receipt(records: SendableRecordBatchStream) -> impl Stream<Item = DataFusionResult<RecordBatch>> {
    let records = records.map(Some).chain(stream::once(async { None }));
    let ready = records.scan(ByReceipt::default(), |order, batch| {
        let ready = match batch {
            Some(Ok(batch)) => order.push(&batch).map_err(arrow),
            Some(Err(error)) => Err(error),
            None => order.finish().map(Vec::from_iter).map_err(arrow),
        };
        std::future::ready(Some(ready))
    });
    ready.map_ok(|batches| stream::iter(batches.into_iter().map(Ok))).try_flatten()
}

fn arrow(error: ArrowError) -> DataFusionError {
    error.into()
}

fn unreadable(error: DataFusionError) -> TableError {
    let (namespace, name) = SILVER_INVENTORY;
    TableError {
        kind: TableErrorKind::Storage,
        context: format!("reading {namespace}.{name}"),
        source: Some(Box::new(error)),
    }
}

#[cfg(test)]
mod tests;
