//! An S3 server that refuses, forgets, resets and dawdles at each step of a commit. Afterwards each record of the log stands in one
//! row, and nobody had to do anything.

use std::{path::Path, time::Duration};

use anyhow::{Result, ensure};
use firn_tests::{Fault, FaultProxy, Services, free_port, until};
use rand::{Rng, SeedableRng, rngs::StdRng};
use reqwest::Method;

use crate::storms::{each_record_stands_once, load, ready};

const DEADLINE: Duration = Duration::from_secs(240);
const SLOW: Duration = Duration::from_secs(3);
const SEED: u64 = 11;

/// What a commit writes, by the end of its name: rows, manifests and their list by the worker, metadata by the catalog.
const STEPS: [fn(&str) -> bool; 4] = [
    |path| path.ends_with(".parquet"),
    |path| path.ends_with(".avro") && !path.contains("/snap-"),
    |path| path.ends_with(".avro") && path.contains("/snap-"),
    |path| path.ends_with(".metadata.json"),
];

const FAULTS: [Fault; 6] = [
    Fault::Refuse(500),
    Fault::Refuse(503),
    Fault::Refuse(403),
    Fault::Reset,
    Fault::Lose,
    Fault::Delay(SLOW),
];

/// A few records, acknowledged by the log.
fn upload(servers: &Services, ledger: &Path, seed: usize) -> Result<()> {
    let (seed, ledger) = (seed.to_string(), ledger.display().to_string());
    let args = ["simulate", "--devices", "20", "--rate", "500", "--count", "30", "--malformed", "0.1"];
    servers.run(&[&args[..], &["--seed", &seed, "--ledger", &ledger]].concat()).map(drop)
}

/// Batches that the worker could not commit so far.
async fn failures(worker: &str) -> Result<f64> {
    let metrics = reqwest::get(format!("{worker}/metrics")).await?.text().await?;
    let counted = metrics.lines().filter(|line| line.starts_with("firn_ingest_failures_total"));
    Ok(counted.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_record_stands_in_one_row_whatever_s3_does_at_each_step_of_a_commit() -> Result<()> {
    let (catalog, gateway, ingest) = (free_port()?, free_port()?, free_port()?);
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let (of_catalog, of_ingest) = (url(catalog), url(ingest));
    let urls = [("catalog.url", of_catalog.as_str()), ("ingest.url", of_ingest.as_str())];
    let mut servers = Services::prepare(&urls).await?;
    let s3 = FaultProxy::start(&servers.s3.endpoint()).await?;
    servers.reach_s3_at(&s3.url())?;
    let _catalog = ready(servers.launch("catalog", catalog, "0", &[])?).await?;
    let gateway = ready(servers.launch("gateway", gateway, "0", &[])?).await?;
    servers.open_tenant(&gateway.url(), "acme")?;
    let ledger = servers.dir().join("ledger.jsonl");
    let mut worker = ready(servers.launch("ingest", ingest, "0", &[])?).await?;
    upload(&servers, &ledger, 0)?;
    servers.until_some("select count(*) from bronze.inventory", DEADLINE).await?;

    for (number, fault) in FAULTS.into_iter().enumerate() {
        let step = number % STEPS.len();
        let befalls = move |method: &Method, path: &str| method == Method::PUT && STEPS[step](path);
        s3.decide(move |method, path| if befalls(method, path) { fault } else { Fault::None });
        upload(&servers, &ledger, 100 + number)?;
        until(&format!("{fault:?} at step {step} of a commit, twice"), DEADLINE, async || {
            if s3.met() > 1 { Ok(()) } else { Err(s3.met()) }
        })
        .await?;
        s3.heal();
    }
    let so_far = failures(&of_ingest).await?;
    ensure!(so_far > 0.0, "no batch had to be taken again, so nothing was tried");

    // Longer than requests are tried again: the batch itself fails.
    s3.decide(|method, path| {
        if method == Method::PUT && path.ends_with(".parquet") { Fault::Refuse(503) } else { Fault::None }
    });
    upload(&servers, &ledger, 200)?;
    until("the batch is given up for now", DEADLINE, async || match failures(&of_ingest).await {
        Ok(count) if count > so_far => Ok(()),
        other => Err(other.map_err(|error| error.to_string())),
    })
    .await?;
    s3.heal();

    // Everything at once, any request, while the worker is killed.
    let mut random = StdRng::seed_from_u64(SEED);
    s3.decide(move |_, _| match random.random_range(0..12_usize) {
        number @ 0..6 => FAULTS[number],
        _ => Fault::None,
    });
    for round in 1..=3 {
        let mut uploads = load(&servers, &ledger, &(300 + round).to_string())?;
        let before = s3.met();
        until("requests of each round meet faults", DEADLINE, async || {
            if s3.met() > before { Ok(()) } else { Err(s3.met()) }
        })
        .await?;
        worker.kill()?;
        worker = ready(servers.launch("ingest", ingest, "0", &[])?).await?;
        ensure!(uploads.wait().await?.success(), "uploads need no object store");
    }
    s3.heal();
    each_record_stands_once(&servers, &ledger, 800).await?;
    worker.stop().await
}
