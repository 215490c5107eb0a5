//! Ingest under faults that come one after the other, each under load: workers that die together, that come and go, servers that
//! hang or are restarted, a topic that grows. Afterwards each record of the log stands in one row.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use firn_tests::{ServiceProcess, Services, free_port, until};
use rdkafka::admin::{AdminOptions, NewPartitions};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::process::Child;

use crate::{
    faults::{admin, ends},
    ledger::Ledger,
};

const DEADLINE: Duration = Duration::from_secs(240);
/// Longer than the workers wait for one answer of the object store.
const HANG: Duration = Duration::from_secs(35);
const GROWN: usize = 12;

const ROWS: &str =
    "select (select count(*) from bronze.inventory) + (select count(*) from bronze.quarantine)";
const PLACES: &str = "select count(distinct cast(log_partition as varchar) || '/' || cast(log_offset as varchar)) from \
    (select log_partition, log_offset from bronze.inventory union all select log_partition, log_offset from \
    bronze.quarantine)";

/// Behind the last row of each partition.
const ENDS: &str = "select log_partition, max(log_offset) + 1 as next from (select log_partition, log_offset from \
    bronze.inventory union all select log_partition, log_offset from bronze.quarantine) group by log_partition";

/// Uploads that go on for some seconds.
pub(crate) fn load(servers: &Services, ledger: &Path, seed: &str) -> Result<Child> {
    let mut simulate = servers.command(&["simulate", "--devices", "60", "--rate", "80", "--count", "500"])?;
    simulate.args(["--malformed", "0.05", "--seed", seed, "--ledger"]).arg(ledger).envs(&servers.env);
    Ok(tokio::process::Command::from(simulate).kill_on_drop(true).spawn()?)
}

pub(crate) async fn ready(mut worker: ServiceProcess) -> Result<ServiceProcess> {
    worker.ready().await?;
    Ok(worker)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_record_stands_in_one_row_after_kills_storms_hangs_and_growth() -> Result<()> {
    let (catalog, gateway, ingest) = (free_port()?, free_port()?, free_port()?);
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let (of_catalog, of_ingest) = (url(catalog), url(ingest));
    let urls = [("catalog.url", of_catalog.as_str()), ("ingest.url", of_ingest.as_str())];
    let mut servers = Services::prepare(&urls).await?;
    let mut entry = Vec::new();
    for (name, port) in [("catalog", catalog), ("gateway", gateway)] {
        entry.push(servers.launch(name, port, "0", &[])?);
    }
    for service in &mut entry {
        service.ready().await?;
    }
    servers.open_tenant(&entry[1].url(), "acme")?;
    let ledger = servers.dir().join("ledger.jsonl");

    // Two at once, in the midst of commits.
    let first = servers.launch("ingest", ingest, "0", &[])?;
    let mut workers = [ready(first).await?, servers.start("ingest", "1").await?];
    let mut uploads = load(&servers, &ledger, "1")?;
    servers.until_some("select count(*) from bronze.inventory", DEADLINE).await?;
    for worker in &mut workers {
        worker.kill()?;
    }
    ensure!(uploads.wait().await?.success(), "uploads need no worker");

    // Workers that come and go.
    let mut steady = ready(servers.launch("ingest", ingest, "0", &[])?).await?;
    let mut uploads = load(&servers, &ledger, "2")?;
    for round in 0..4 {
        let mut passing = servers.start("ingest", "1").await?;
        if round % 2 == 0 {
            passing.kill()?;
        } else {
            passing.stop().await?;
        }
    }
    ensure!(uploads.wait().await?.success(), "uploads need no worker");

    // An object store that answers nobody, until requests fail.
    let mut uploads = load(&servers, &ledger, "3")?;
    servers.s3.process().signal(Signal::STOP)?;
    tokio::time::sleep(HANG).await;
    servers.s3.process().signal(Signal::CONT)?;
    ensure!(uploads.wait().await?.success(), "uploads need no object store");

    // A broker that is killed and comes back: what was not acknowledged may be there or not.
    let mut uploads = load(&servers, &ledger, "4")?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    servers.kafka.kill_node(1)?;
    servers.kafka.restart_node(1).await?;
    uploads.wait().await?;

    // A topic that grows: producers and workers learn of it within a minute or so.
    let grown = [NewPartitions::new("inventory", GROWN)];
    for partition in admin(&servers.kafka)?.create_partitions(&grown, &AdminOptions::new()).await? {
        partition.map_err(|(topic, code)| anyhow::anyhow!("{topic}: {code}"))?;
    }
    let mut seed = 5;
    until("records of the new partitions are in bronze", DEADLINE, async || {
        seed += 1;
        load(&servers, &ledger, &seed.to_string())?.wait().await?;
        let rows = servers.sql("select count(*) as n from bronze.inventory where log_partition >= 8")?;
        ensure!(rows[0]["n"].as_i64().is_some_and(|rows| rows > 0), "{rows:?}");
        Ok(())
    })
    .await?;

    each_record_stands_once(&servers, &ledger, 2_000).await?;
    steady.stop().await.context("the steady worker")
}

/// Every record of the log is in one row, all that was acknowledged (more than `least`) is there, and positions equal the data.
pub(crate) async fn each_record_stands_once(servers: &Services, ledger: &Path, least: usize) -> Result<()> {
    let in_the_log: i64 =
        ends(&servers.kafka)?.elements().iter().filter_map(|end| end.offset().to_raw()).sum();
    servers.until_count(ROWS, in_the_log, DEADLINE).await?;
    servers.until_count(PLACES, in_the_log, DEADLINE).await?;
    let ledger = Ledger::read(ledger)?;
    let rows = servers.sql("select distinct event_id from bronze.inventory")?;
    let there: BTreeSet<_> =
        rows.iter().filter_map(|row| row["event_id"].as_str().map(str::to_owned)).collect();
    let lost: Vec<_> = ledger.bronze.difference(&there).collect();
    ensure!(lost.is_empty() && ledger.bronze.len() > least, "acknowledged but lost: {lost:?}");
    let standing: Value = serde_json::from_str(&servers.run(&["ingest", "positions", "--json"])?)?;
    ensure!(standing["problems"] == json!([]), "{standing}");
    let partitions = standing["partitions"].as_array().context("no partitions")?;
    let positions: BTreeMap<_, _> = partitions
        .iter()
        .filter_map(|line| Some((line["partition"].as_i64()?, line["position"].as_i64()?)))
        .collect();
    let data: BTreeMap<_, _> = servers
        .sql(ENDS)?
        .iter()
        .filter_map(|row| Some((row["log_partition"].as_i64()?, row["next"].as_i64()?)))
        .collect();
    ensure!(positions == data, "positions {positions:?}, data {data:?}");
    Ok(())
}
