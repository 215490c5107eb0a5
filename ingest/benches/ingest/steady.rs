//! Gateway and worker together under a steady load: the memory that they hold, and how old rows are when they can be read.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Result;
use arrow::{array::AsArray as _, datatypes::TimestampMicrosecondType};
use chrono::Utc;
use datafusion::prelude::SessionContext;
use firn_catalog_client::{TenantClient, iceberg::TableIdent};
use firn_ingest::WorkerConfig;
use firn_inventory::tables::BRONZE_INVENTORY;
use firn_runtime::Usage;
use firn_table::{FileIo, Increment, Table, TableError, TableScan, increment};
use tokio_util::sync::CancellationToken;

use crate::{
    cost::{self, Cost},
    gateway,
    house::House,
    records,
    upload::BATCH,
};

const RECORDS_PER_S: f64 = 20_000.0;
const CONNECTIONS: usize = 64;
/// Tenants whose tables are looked at.
const WATCHED: u64 = 4;
/// Between two looks, so freshness is told too old by up to this.
const LOOK: Duration = Duration::from_millis(100);

/// Milliseconds from the gateway's receipt, which is before its acknowledgement, until a row was found in the table.
type Ages = Arc<Mutex<Vec<i64>>>;

/// Prints memory and freshness.
pub(crate) async fn measure(on_kafka: bool, seconds: u64, tenants: u64) -> Result<()> {
    let house = House::start(tenants, on_kafka).await?;
    let config = WorkerConfig::default();
    let spread = Duration::from_secs(tenants) / config.max_commits_per_s;
    let interval = config.commit_interval.max(spread);
    let address = gateway::serve(&house).await?;
    let stop = CancellationToken::new();
    let (worker, stopped) = (house.worker(config), stop.clone());
    let running = tokio::spawn(async move { worker.run(stopped).await });
    let ages = Ages::default();
    let mut watchers = Vec::new();
    for number in 0..tenants.min(WATCHED) {
        let bronze =
            Bronze { client: house.catalog.tenant(&records::tenant(number)), file_io: house.file_io.clone() };
        let looks = bronze.watch(Arc::clone(&ages));
        watchers.push(tokio::spawn(stop.clone().run_until_cancelled_owned(looks)));
    }
    println!("gateway and worker, {tenants} tenants, {RECORDS_PER_S} records/s for {seconds} s");
    cost::print_headings();
    let mut seen = None;
    let cost = Cost::of(async {
        let uploaded =
            gateway::load(&house, address, RECORDS_PER_S / BATCH as f64, CONNECTIONS, seconds).await?;
        let records = uploaded.records;
        seen = Some(uploaded);
        Ok(records)
    });
    cost::print("  firn: gateway, log's client and worker", &cost.await?, None);
    seen.iter().for_each(gateway::print);
    let held = Usage::of_this_process()?;
    // What was uploaded last is seen, too.
    tokio::time::sleep(interval + Duration::from_secs(2)).await;
    stop.cancel();
    running.await??;
    for watcher in watchers {
        // It goes on until it is stopped, unless it fails.
        if let Some(failed) = watcher.await? {
            failed?;
        }
    }
    let mib = |bytes: u64| bytes >> 20;
    println!(
        "    resident: {} MiB at the end, {} MiB at the most",
        mib(held.resident_bytes),
        mib(held.peak_resident_bytes)
    );
    let mut ages = std::mem::take(&mut *ages.lock().unwrap_or_else(PoisonError::into_inner));
    ages.sort_unstable();
    let quantile_ms = |q: f64| ages.get((ages.len() as f64 * q) as usize).copied().unwrap_or_default();
    println!(
        "    from receipt to a row that can be read: p50 {} ms, p99 {} ms of {} rows; the interval is {} ms",
        quantile_ms(0.5),
        quantile_ms(0.99),
        ages.len(),
        interval.as_millis(),
    );
    Ok(())
}

/// A tenant's table.
struct Bronze {
    client: TenantClient,
    file_io: FileIo,
}

impl Bronze {
    /// Looks for new rows again and again, and notes how old they are.
    async fn watch(self, ages: Ages) -> Result<()> {
        let mut read = self.load().await?.current_snapshot().map(|snapshot| snapshot.id);
        loop {
            tokio::time::sleep(LOOK).await;
            let table = self.load().await?;
            let newest = table.current_snapshot().map(|snapshot| snapshot.id);
            if newest == read {
                continue;
            }
            if let Increment::Appended(rows) = increment(&table, read, newest).await? {
                let received = received_at_us(*rows).await?;
                let now_us = Utc::now().timestamp_micros();
                let seen = received.into_iter().map(|received_us| (now_us - received_us) / 1_000);
                ages.lock().unwrap_or_else(PoisonError::into_inner).extend(seen);
            }
            read = newest;
        }
    }

    async fn load(&self) -> Result<Table, TableError> {
        let (namespace, name) = BRONZE_INVENTORY;
        Table::load(&self.client, &self.file_io, "main", &TableIdent::new(namespace, name)).await
    }
}

async fn received_at_us(rows: TableScan) -> Result<Vec<i64>> {
    let session = SessionContext::new();
    session.register_table("added", Arc::new(rows))?;
    let batches = session.sql("SELECT received_at FROM added").await?.collect().await?;
    let columns = batches.iter().map(|batch| batch.column(0).as_primitive::<TimestampMicrosecondType>());
    Ok(columns.flat_map(|column| column.values().iter().copied()).collect())
}
