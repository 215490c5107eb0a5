//! `firn bench simulate`: worlds by seed, as many at a time as there are processors.

use std::{
    io::IsTerminal as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use firn_catalog::simulation::{self, Lived};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::mpsc;

use crate::output;

/// Arguments of `firn bench simulate`.
#[derive(clap::Args)]
pub(crate) struct SimulateArgs {
    /// How many worlds
    #[arg(long, value_name = "N", default_value_t = 200)]
    seeds: u64,
    /// Seed of the first one
    #[arg(long, value_name = "K", default_value_t = 0)]
    seed_from: u64,
    /// One world alone, and all that happened in it
    #[arg(long, value_name = "S", conflicts_with_all = ["seeds", "seed_from"])]
    seed: Option<u64>,
}

/// Runs `firn bench simulate`; fails if in one of the worlds something doesn't fit together.
pub(crate) async fn run(args: &SimulateArgs) -> Result<()> {
    match args.seed {
        Some(seed) => one(seed).await,
        None => many(args.seed_from, args.seeds).await,
    }
}

/// A world has a runtime of its own, so it needs a thread without one.
async fn one(seed: u64) -> Result<()> {
    let lived = tokio::task::spawn_blocking(move || simulation::run(seed)).await??;
    for line in &lived.ledger {
        output::line(line)?;
    }
    output::line(&format!(
        "seed {seed}, ledger {}: {} acknowledged, {} refused, {} unknown, {} reads, {} faults, {} kills",
        lived.digest,
        lived.acknowledged,
        lived.refused,
        lived.unknown,
        lived.reads,
        lived.faults,
        lived.crashes
    ))?;
    for wrong in &lived.wrong {
        output::line(&format!("WRONG: {wrong}"))?;
    }
    if lived.wrong.is_empty() { Ok(()) } else { bail!("what came of seed {seed} doesn't fit together") }
}

async fn many(from: u64, count: u64) -> Result<()> {
    let (began, next) = (Instant::now(), Arc::new(AtomicU64::new(from)));
    let end = from.checked_add(count).context("there are no seeds that large")?;
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let (sender, mut worlds) = mpsc::channel(threads);
    for _ in 0..threads {
        let (next, sender) = (Arc::clone(&next), sender.clone());
        thread::spawn(move || {
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                // Who no longer listens needs no more worlds.
                if seed >= end || sender.blocking_send(simulation::run(seed)).is_err() {
                    return;
                }
            }
        });
    }
    drop(sender);
    let bar = progress_bar(count);
    let mut total = Total::default();
    while let Some(lived) = worlds.recv().await {
        let lived = lived?;
        for wrong in &lived.wrong {
            bar.suspend(|| output::line(&format!("seed {}: {wrong}", lived.seed)))?;
        }
        total.add(&lived);
        bar.inc(1);
    }
    bar.finish_and_clear();
    output::line(&total.text(count, began.elapsed().as_secs_f64()))?;
    match total.first_wrong {
        None => Ok(()),
        Some(seed) => bail!(
            "what came of {} worlds doesn't fit together: 'firn bench simulate --seed {seed}' tells all of one",
            total.wrong
        ),
    }
}

#[derive(Default)]
struct Total {
    acknowledged: u64,
    refused: u64,
    unknown: u64,
    reads: u64,
    faults: u64,
    crashes: u64,
    wrong: u64,
    first_wrong: Option<u64>,
}

impl Total {
    fn add(&mut self, lived: &Lived) {
        self.acknowledged += lived.acknowledged;
        self.refused += lived.refused;
        self.unknown += lived.unknown;
        self.reads += lived.reads;
        self.faults += lived.faults;
        self.crashes += lived.crashes;
        if !lived.wrong.is_empty() {
            self.wrong += 1;
            self.first_wrong = Some(self.first_wrong.map_or(lived.seed, |first| first.min(lived.seed)));
        }
    }

    fn text(&self, worlds: u64, seconds: f64) -> String {
        let Self { acknowledged, refused, unknown, reads, faults, crashes, wrong, .. } = self;
        format!(
            "{worlds} worlds in {seconds:.1} s: {acknowledged} changes acknowledged, {refused} refused, {unknown} unknown; \
             {reads} reads; {faults} faults, {crashes} kills; {wrong} worlds with something wrong"
        )
    }
}

fn progress_bar(count: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} worlds, {per_sec}, {eta} left");
    ProgressBar::new(count).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
