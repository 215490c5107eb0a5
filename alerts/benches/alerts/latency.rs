//! How long after it was appended to the log a record's finding is found by a search.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use chrono::Utc;
use firn_alerts::AlertsConfig;
use firn_inventory::Inventory;
use firn_runtime::reload::Live;
use firn_tests::OpenSearch;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{fleet, house::House};

const RECORDS_PER_S: u64 = 1_000;
/// Records of one append, so many times a second as that takes.
const BATCH: u64 = 20;
/// Of so many records one is of a computer that breaks a rule.
const BREACHES: u64 = 20;
/// Between two looks, so latency is told too long by up to this.
const LOOK: Duration = Duration::from_millis(50);
/// The longest that a document may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Hits of one look.
const HITS: u64 = 2_000;

/// Prints the quantiles.
pub(crate) async fn measure(seconds: u64) -> Result<()> {
    let folder = TempDir::with_prefix("firn-bench-")?;
    let (house, server) = (House::open(folder.path(), false).await?, OpenSearch::start().await?);
    let url = Live::new(server.url().parse()?);
    let running = house.start(AlertsConfig { elasticsearch_url: Some(url), ..AlertsConfig::default() });
    // Topics, rules, templates and the first document are there before anything is measured.
    let mut awaited = HashMap::new();
    append(&house, 0, &mut awaited).await?;
    let mut seen = Vec::new();
    until_found(&server, &mut awaited, &mut seen).await?;
    seen.clear();
    let (begun, mut appended) = (Instant::now(), 0);
    let pause = Duration::from_secs(1) * u32::try_from(BATCH)? / u32::try_from(RECORDS_PER_S)?;
    let mut ticks = tokio::time::interval(pause);
    let mut looked = Instant::now();
    while begun.elapsed() < Duration::from_secs(seconds) {
        ticks.tick().await;
        appended += BATCH;
        append(&house, appended, &mut awaited).await?;
        if looked.elapsed() >= LOOK {
            looked = Instant::now();
            look(&server, &mut awaited, &mut seen).await?;
        }
    }
    let per_s = appended as f64 / begun.elapsed().as_secs_f64();
    until_found(&server, &mut awaited, &mut seen).await?;
    running.end().await?;
    seen.sort_unstable();
    let quantile =
        |q: f64| seen.get((seen.len() as f64 * q) as usize).copied().unwrap_or_default().as_millis();
    println!("latency, {per_s:.0} records/s, refresh at 1 s, {} findings", seen.len());
    let longest = seen.last().copied().unwrap_or_default().as_millis();
    println!(
        "  from append to search: p50 {} ms, p99 {} ms, longest {longest} ms",
        quantile(0.5),
        quantile(0.99)
    );
    Ok(())
}

/// Appends a batch, and notes who breaks a rule, and when that was appended.
async fn append(house: &House, first: u64, awaited: &mut HashMap<String, Instant>) -> Result<()> {
    let now_us = Utc::now().timestamp_micros();
    let (mut batch, mut hosts) = (Vec::new(), Vec::new());
    for number in first..first + BATCH {
        let broken = number.is_multiple_of(BREACHES);
        let inventory = Inventory {
            host_id: if broken { format!("broken-{number}") } else { format!("sound-{}", number % 1_000) },
            firewall_enabled: Some(!broken),
            ..Inventory::default()
        };
        hosts.extend(broken.then(|| inventory.host_id.clone()));
        batch.push(fleet::produce(&inventory, now_us));
    }
    let now = Instant::now();
    house.log.append(batch).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    awaited.extend(hosts.into_iter().map(|host| (host, now)));
    Ok(())
}

async fn until_found(
    server: &OpenSearch,
    awaited: &mut HashMap<String, Instant>,
    seen: &mut Vec<Duration>,
) -> Result<()> {
    let begun = Instant::now();
    while !awaited.is_empty() {
        ensure!(begun.elapsed() < PATIENCE, "{} findings are not found", awaited.len());
        tokio::time::sleep(LOOK).await;
        look(server, awaited, seen).await?;
    }
    Ok(())
}

/// Looks for the newest findings.
async fn look(
    server: &OpenSearch,
    awaited: &mut HashMap<String, Instant>,
    seen: &mut Vec<Duration>,
) -> Result<()> {
    let query = json!({
        "size": HITS, "_source": ["host.id"], "sort": [{ "@timestamp": "desc" }],
        "query": { "term": { "rule.id": "firewall" } },
    });
    let search = reqwest::Client::new()
        .post(format!("{}/firn-findings/_search", server.url()))
        .header("content-type", "application/json")
        .body(query.to_string());
    let answer = search.send().await?;
    let now = Instant::now();
    // Before the first document the index, or its shards, may not be there.
    if [StatusCode::NOT_FOUND, StatusCode::SERVICE_UNAVAILABLE].contains(&answer.status()) {
        return Ok(());
    }
    let found: Value = serde_json::from_str(&answer.error_for_status()?.text().await?)?;
    for hit in found["hits"]["hits"].as_array().context("no hits")? {
        let host = hit["_source"]["host"]["id"].as_str().unwrap_or_default();
        seen.extend(awaited.remove(host).map(|appended| now - appended));
    }
    Ok(())
}
