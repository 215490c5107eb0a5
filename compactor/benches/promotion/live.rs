//! How long after a commit to bronze gold shows it, with the compactor as it is by default.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use firn_catalog_client::iceberg::TableIdent;
use firn_compactor::{Compactor, CompactorConfig};
use firn_runtime::StatusBoard;
use firn_table::{Table, TableErrorKind};
use tokio_util::sync::CancellationToken;

use crate::{
    Args,
    lake::{Lake, received_at_us},
};

/// Time between two commits, as ingest has by default.
const COMMITS_EVERY: Duration = Duration::from_secs(5);
/// Time between two looks at gold.
const LOOKS_EVERY: Duration = Duration::from_millis(200);
/// Commits that gold hasn't shown yet.
const MAX_WAITING: usize = 10_000;
/// Longest wait for gold of what bronze has at first.
const FIRST_RUN: Duration = Duration::from_secs(300);
/// Longest wait for the last commits.
const PATIENCE: Duration = Duration::from_secs(120);
/// A table of gold whose rows tell when they were received. A run's models are published in one merge, so the others are as new.
const GOLD: &str = "compliance";
/// What an output says of the newest record that it holds.
const NEWEST: &str = "firn.model.newest-received-us";

/// A commit to bronze: when it was acknowledged, and when its last record was received.
struct Commit {
    at: Instant,
    received_at_us: i64,
}

pub(crate) async fn measure(lake: &Lake, args: &Args, held: u64) -> Result<()> {
    let board = StatusBoard::default();
    let compactor = Compactor::new(
        CompactorConfig::default(),
        lake.catalog.clone(),
        lake.file_io.clone(),
        board.clone(),
    )?;
    let stop = CancellationToken::new();
    let (service, stopped) = (compactor.clone(), stop.clone());
    let service = tokio::spawn(async move { service.run(stopped).await });
    let started = Instant::now();
    while newest_in_gold(lake).await?.is_none() {
        ensure!(started.elapsed() < FIRST_RUN, "no gold came of what bronze had:\n{}", states(&board));
        tokio::time::sleep(LOOKS_EVERY).await;
    }
    let (sender, mut commits) = tokio::sync::mpsc::channel(MAX_WAITING);
    let write = async {
        let (mut offset, per_commit) = (held, args.rate * COMMITS_EVERY.as_secs());
        let mut ticks = tokio::time::interval(COMMITS_EVERY);
        for _ in 0..(args.seconds / COMMITS_EVERY.as_secs()).max(1) {
            ticks.tick().await;
            lake.report(offset, per_commit, args.fleet()).await?;
            offset += per_commit;
            let commit = Commit { at: Instant::now(), received_at_us: received_at_us(offset - 1)? };
            sender.try_send(commit).context("nobody waits for the commits")?;
        }
        drop(sender);
        Ok::<_, anyhow::Error>(())
    };
    let look = async {
        let (mut waiting, mut delays, mut open) = (Vec::new(), Vec::new(), true);
        let mut last_seen = Instant::now();
        while open || !waiting.is_empty() {
            tokio::time::sleep(LOOKS_EVERY).await;
            loop {
                match commits.try_recv() {
                    Ok(commit) => waiting.push(commit),
                    Err(error) => {
                        open = error == tokio::sync::mpsc::error::TryRecvError::Empty;
                        break;
                    }
                }
            }
            let (shown_us, now) = (newest_in_gold(lake).await?, Instant::now());
            let seen = |commit: &Commit| shown_us.is_some_and(|shown_us| commit.received_at_us <= shown_us);
            for commit in waiting.iter().filter(|commit| seen(commit)) {
                delays.push(now - commit.at);
                last_seen = now;
            }
            waiting.retain(|commit| !seen(commit));
            ensure!(
                last_seen.elapsed() < PATIENCE,
                "gold does not follow, {} commits wait:\n{}",
                waiting.len(),
                states(&board)
            );
        }
        Ok(delays)
    };
    let (written, delays) = tokio::join!(write, look);
    written?;
    stop.cancel();
    service.await?;
    print(args, delays?);
    Ok(())
}

/// What the compactor says of itself.
fn states(board: &StatusBoard) -> String {
    let told = board.all().into_iter();
    told.map(|((stage, tenant), status)| {
        format!("{stage} of {tenant}: {:?}, {}\n", status.state, status.message)
    })
    .collect()
}

/// When the newest record was received that gold shows; none before there is gold.
async fn newest_in_gold(lake: &Lake) -> Result<Option<i64>> {
    let ident = TableIdent::new("gold", GOLD);
    match Table::load(&lake.client, &lake.file_io, "main", &ident).await {
        Err(error) if error.kind == TableErrorKind::NotFound => Ok(None),
        loaded => Ok(loaded?.properties().get(NEWEST).and_then(|text| text.parse().ok())),
    }
}

fn print(args: &Args, mut delays: Vec<Duration>) {
    delays.sort();
    let at = |share: f64| {
        let index = (delays.len() as f64 * share).ceil() as usize;
        delays.get(index.saturating_sub(1)).copied().unwrap_or_default().as_secs_f64()
    };
    println!("{} records/s for {} s, {} commits to bronze", args.rate, args.seconds, delays.len());
    println!("until gold shows one: p50 {:.1} s, p95 {:.1} s, at most {:.1} s", at(0.5), at(0.95), at(1.0));
}
