//! How long it takes to replay a month of history with the shipped rules.

use std::{collections::BTreeSet, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use arrow::record_batch::RecordBatch;
use datafusion::prelude::SessionContext;
use firn_alerts::History;
use firn_catalog_client::iceberg::TableIdent;
use firn_inventory::{BronzeBuilder, Decoded, LogPosition, bronze_schema, tables::SILVER_INVENTORY};
use firn_policy::{CompiledRule, RECORD_COLUMNS, compile, shipped};
use firn_table::{DataFileWriter, NewTable, Operation, Table, TableScan, WriteOptions, ensure_table};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tempfile::TempDir;

use crate::{
    Args,
    cost::{Cost, measured, print},
    fleet,
    house::PARTITIONS,
    lake::Lake,
};

const DAYS: u64 = 30;
const REPORTS_A_DAY: u64 = 4;
/// Microseconds between two reports of a computer.
const PAUSE_US: u64 = 86_400_000_000 / REPORTS_A_DAY;
/// When history begins: 2026-10-01T00:00:00Z.
const START_US: u64 = 1_790_812_800_000_000;
/// Rows of one file, at the most.
const ROWS: u64 = 100_000;

/// Prints limit and Firn, in turns over several rounds.
pub(crate) async fn measure(args: &Args) -> Result<()> {
    let temporary = TempDir::with_prefix("firn-bench-")?;
    let lake = Lake::open(Some(args.lake.as_deref().unwrap_or(temporary.path()))).await?;
    let rows = args.hosts * DAYS * REPORTS_A_DAY;
    let table = fill(&lake, args.hosts).await?;
    let policies = shipped();
    let rules = policies.iter().map(|policy| compile(policy, &bronze_schema()));
    let rules = rules.collect::<Result<Vec<_>, _>>()?;
    let (mut scan, mut firn, mut opened) = (Cost::default(), Cost::default(), 0);
    for _ in 0..args.rounds {
        scan = scan + measured(read(&table, &rules)).await?;
        let replay = async {
            let span = (i64::MIN, i64::MAX);
            let history =
                History::of(&lake.client, &lake.file_io, span, None).await?.context("no history")?;
            let end_us = i64::try_from(START_US + DAYS * REPORTS_A_DAY * PAUSE_US)?;
            let found = history.replay(std::slice::from_ref(&rules), end_us).await?.pop().unwrap_or_default();
            ensure!(found.records == rows, "{} records of {rows} were replayed", found.records);
            opened = found.episodes.len();
            Ok(())
        };
        firn = firn + measured(replay).await?;
    }
    println!("backtest, {} computers, {DAYS} days, {} rounds, {opened} findings", args.hosts, args.rounds);
    println!("{:<36} {:>9} {:>9} {:>12} {:>6} {:>8}", "", "cpu s", "wall s", "records/s", "share", "peak MB");
    print("  limit: columns read and dropped", rows * args.rounds, scan, None);
    print("  firn: replay", rows * args.rounds, firn, Some(scan));
    println!("  one replay: {:.1} s", firn.wall_s / args.rounds as f64);
    Ok(())
}

/// The history of so many computers, unless it is there.
async fn fill(lake: &Lake, hosts: u64) -> Result<Table> {
    let ident = TableIdent::new(SILVER_INVENTORY.0, SILVER_INVENTORY.1);
    let wanted = NewTable {
        ident: ident.clone(),
        schema: bronze_schema(),
        partitioning: Vec::new(),
        properties: [].into(),
    };
    let table = ensure_table(&lake.client, &lake.file_io, "main", &wanted).await?;
    if table.current_snapshot().is_none() {
        let files = (0..DAYS * REPORTS_A_DAY).flat_map(|round| {
            (0..hosts).step_by(ROWS as usize).map(move |first| (round, first, hosts.min(first + ROWS)))
        });
        let write = |(round, first, end): (u64, u64, u64)| {
            let table = &table;
            async move {
                let build = move || rows(round, first, end, hosts);
                let rows = tokio::task::spawn_blocking(build).await??;
                let mut writer = DataFileWriter::new(table, WriteOptions::default())?;
                writer.write(&rows).await?;
                Ok::<_, anyhow::Error>(writer.close().await?)
            }
        };
        let files: Vec<_> = stream::iter(files).map(write).buffer_unordered(4).try_collect().await?;
        let files = files.into_iter().flatten().collect();
        lake.commit(&ident, Operation::Append { files }, &[]).await?;
    }
    lake.load(&ident).await
}

/// What computers reported in one round.
fn rows(round: u64, first: u64, end: u64, hosts: u64) -> Result<RecordBatch> {
    let mut builder = BronzeBuilder::with_capacity(usize::try_from(end - first)?);
    let received_at_us = i64::try_from(START_US + round * PAUSE_US)?;
    for host in first..end {
        let inventory = fleet::inventory(round * hosts + host, hosts, received_at_us);
        let position = LogPosition {
            topic_id: "bench".to_owned(),
            partition: i32::try_from(host % PARTITIONS.unsigned_abs() as u64)?,
            offset: i64::try_from(round * hosts + host)?,
            received_at_us,
            source: "native".to_owned(),
        };
        builder.push(&Decoded { inventory, extra: None }, &position);
    }
    Ok(builder.finish())
}

/// The least that there is to do: all columns that rules read, in no order.
async fn read(table: &Table, rules: &[CompiledRule]) -> Result<()> {
    let columns: BTreeSet<&str> =
        rules.iter().flat_map(|rule| rule.columns.iter().map(String::as_str)).chain(RECORD_COLUMNS).collect();
    let scan = Arc::new(TableScan::new(table, None).await?);
    let rows = SessionContext::new().read_table(scan)?;
    let parts = rows.select_columns(&columns.into_iter().collect::<Vec<_>>())?;
    let parts = parts.execute_stream_partitioned().await?.into_iter().map(|mut part| {
        tokio::spawn(async move {
            while let Some(batch) = part.next().await {
                std::hint::black_box(batch?.num_rows());
            }
            Ok::<_, anyhow::Error>(())
        })
    });
    for part in parts.collect::<Vec<_>>() {
        part.await??;
    }
    Ok(())
}
