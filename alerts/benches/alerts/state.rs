//! Memory of the state of all computers, and how long a restart takes until a backlog is caught up.

use std::{path::Path, process::Command, time::Instant};

use anyhow::{Context as _, Result, ensure};
use firn_alerts::AlertsConfig;
use firn_catalog_client::iceberg::TableIdent;
use firn_inventory::{
    BronzeBuilder, LogPosition, bronze_schema, read,
    tables::{RECEIVED_AT_HEADER, SILVER_DEVICE},
};
use firn_runtime::Usage;
use firn_stream::Record;
use firn_table::{DataFileWriter, NewTable, Operation, WriteOptions, ensure_table};
use tempfile::TempDir;

use crate::{
    cost::{measured, print},
    house::{House, total},
};

/// Records that came while nobody judged.
const BACKLOG: u64 = 60_000;
/// Rows of one file.
const ROWS: usize = 100_000;

/// Lets every computer report once, then another process restart with a backlog.
pub(crate) async fn measure(hosts: u64) -> Result<()> {
    let folder = TempDir::with_prefix("firn-bench-")?;
    let house = House::open(folder.path(), false).await?;
    println!("state of {hosts} computers, and a restart with a backlog of {BACKLOG}");
    house.fill(0, hosts, hosts).await?;
    print("  first records of all", hosts, measured(house.judge(hosts)).await?, None);
    println!("  {} findings are open", total(&house.board, "findings_open"));
    write_devices(&house, hosts).await?;
    house.fill(hosts, BACKLOG, hosts).await?;
    drop(house);
    let mut again = Command::new(std::env::current_exe()?);
    again.arg("restart").arg(folder.path()).arg(BACKLOG.to_string());
    let ended = tokio::task::spawn_blocking(move || again.status()).await??;
    ensure!(ended.success(), "the restarted process failed: {ended}");
    Ok(())
}

/// The role of the process that restarts.
pub(crate) async fn restart(folder: &Path, backlog: u64) -> Result<()> {
    let begun = Instant::now();
    let house = House::open(folder, false).await?;
    let before = Usage::of_this_process()?;
    let running = house.start(AlertsConfig::default());
    running.until_judged(backlog).await?;
    let (caught_up, after) = (begun.elapsed(), Usage::of_this_process()?);
    println!("  backlog judged {:.1} s after the process began", caught_up.as_secs_f64());
    let mib = |bytes: u64| bytes >> 20;
    let (held, first) = (mib(after.resident_bytes), mib(before.resident_bytes));
    println!(
        "  resident: {held} MiB, of which {first} MiB before alerts began; peak {}",
        mib(after.peak_resident_bytes)
    );
    running.end().await
}

/// Writes `silver.device` as promotion does: the newest record of each computer, which a worker looks through at its start.
async fn write_devices(house: &House, hosts: u64) -> Result<()> {
    let lake = &house.lake;
    let ident = TableIdent::new(SILVER_DEVICE.0, SILVER_DEVICE.1);
    let wanted = NewTable {
        ident: ident.clone(),
        schema: bronze_schema(),
        partitioning: Vec::new(),
        properties: [].into(),
    };
    let table = ensure_table(&lake.client, &lake.file_io, "main", &wanted).await?;
    let mut builder = BronzeBuilder::default();
    let mut batches = Vec::new();
    house
        .read("devices", hosts, |records| {
            records.iter().try_for_each(|record| push(&mut builder, record))?;
            if builder.len() >= ROWS {
                batches.push(builder.finish());
            }
            Ok(())
        })
        .await?;
    batches.push(builder.finish());
    for rows in batches {
        let mut writer = DataFileWriter::new(&table, WriteOptions::default())?;
        writer.write(&rows).await?;
        lake.commit(&ident, Operation::Append { files: writer.close().await? }, &[]).await?;
    }
    Ok(())
}

fn push(builder: &mut BronzeBuilder, record: &Record) -> Result<()> {
    let received = record.headers.iter().find(|(name, _)| name == RECEIVED_AT_HEADER);
    let (_, received) = received.context("a record without time of receipt")?;
    let position = LogPosition {
        topic_id: "bench".to_owned(),
        partition: record.partition,
        offset: record.offset,
        received_at_us: std::str::from_utf8(received)?.parse()?,
        source: "native".to_owned(),
    };
    builder.push_row(&read(record.value.as_deref().context("a record without payload")?)?, &position);
    Ok(())
}
