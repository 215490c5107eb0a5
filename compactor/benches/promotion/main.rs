//! Speed of promotion, beside its limit in the same run: DataFusion that runs the same SQL over the same Parquet files, with as many
//! threads and four times the memory, and writes Parquet.
//!
//! `cargo bench -p firn-compactor --bench promotion -- [--part PART] [--rows N] [--hosts N] [--ordered-ids] [--threads N]
//! [--memory-mb N]`
//!
//! The catalog runs in the same process, and its time counts as Firn's. Time is that of the processor, so that rows per second are
//! those of one core; peaks are of the resident memory of all the process. Only the ratio means anything on another machine.
//!
//! With `--lake FOLDER` what was filled and made stays for the next run, so that ten million rows can be measured part by part.

#![allow(clippy::print_stdout)]

#[path = "../../../benches/measure/cost.rs"]
mod cost;
#[path = "../../../benches/measure/lake.rs"]
mod lake;
mod limit;
mod live;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};
use firn_compactor::{CompactorConfig, ModelRuns, RunRequest, RunState};

use cost::{Cost, measured, print};
use lake::{Fleet, Lake};
use limit::Limit;

/// As the binary `firn` has.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Models whose SQL DataFusion can run as it is, or nearly: the others judge by rules.
const PLAIN: [&str; 6] = [
    "silver.inventory",
    "silver.device",
    "silver.device_daily",
    "silver.software",
    "gold.org_metrics",
    "gold.device_health",
];
/// Models that judge, which have no limit in SQL.
const JUDGING: [&str; 2] = ["gold.compliance", "gold.compliance_daily"];
/// Rows of the increment whose time is told as it is.
const INCREMENT: u64 = 100_000;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Models and increments
    All,
    /// Nothing: only fills bronze
    Fill,
    /// Each model in full, beside its limit
    Models,
    /// All models in full, then increments
    Increments,
    /// How long after a commit to bronze gold shows it
    Live,
}

#[derive(Clone, Debug, Parser)]
struct Args {
    /// What to measure
    #[arg(long, value_enum, default_value_t = Part::All)]
    part: Part,
    /// Only these models, beside their limits; may be given several times
    #[arg(long = "model", value_name = "TABLE")]
    models: Vec<String>,
    /// Inventories in bronze
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// Computers that they are of
    #[arg(long, default_value_t = 20_000)]
    hosts: u64,
    /// Event ids that grow with time, as version 7 of UUIDs has them and the collector of Firn makes them; else they are random
    #[arg(long)]
    ordered_ids: bool,
    /// Threads of both sides
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Memory of Firn, of which the limit has four times as much; what does not fit spills
    #[arg(long, default_value_t = 1_024)]
    memory_mb: usize,
    /// Times that limit and Firn are measured in turns
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// Of the part live: inventories per second, and for how many seconds
    #[arg(long, default_value_t = 1_000)]
    rate: u64,
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// Folder that keeps the lake between runs (default: a temporary one)
    #[arg(long, value_name = "FOLDER")]
    lake: Option<PathBuf>,
    /// Said by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

impl Args {
    fn fleet(&self) -> Fleet {
        Fleet { hosts: self.hosts, ordered_ids: self.ordered_ids }
    }

    fn wants(&self, part: Part) -> bool {
        self.part == part || (self.part == Part::All && part != Part::Live)
    }

    fn chosen<'a>(&'a self, models: &'a [&'static str]) -> impl Iterator<Item = &'static str> {
        let wanted = |name: &&str| self.models.is_empty() || self.models.iter().any(|model| model == name);
        models.iter().copied().filter(wanted)
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    ensure!(!cfg!(debug_assertions), "a debug build measures nothing: run 'cargo bench'");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(args.threads).enable_all().build()?;
    runtime.block_on(run(&args))
}

async fn run(args: &Args) -> Result<()> {
    let lake = Lake::open(args.lake.as_deref()).await?;
    let held = lake.fill(args.rows, args.fleet()).await?;
    println!("{held} rows of {} hosts, {} threads, {} MB\n", args.hosts, args.threads, args.memory_mb);
    if args.part == Part::Live {
        return live::measure(&lake, args, held).await;
    }
    println!(
        "{:<36} {:>9} {:>9} {:>12} {:>6} {:>8}",
        "", "cpu s", "wall s", "rows/s core", "share", "peak MB"
    );
    if args.wants(Part::Models) {
        models(&lake, args, held).await?;
    }
    if args.wants(Part::Increments) {
        increments(&lake, args, held).await?;
    }
    Ok(())
}

/// Each model in full, beside its limit.
async fn models(lake: &Lake, args: &Args, rows: u64) -> Result<()> {
    let limit = Limit::new(args, &lake.bronze_files().await?).await?;
    let (mut bare, mut firn) = (Cost::default(), Cost::default());
    for _ in 0..args.rounds {
        for name in args.chosen(&PLAIN) {
            let least = measured(limit.run(name)).await?;
            print(&format!("{name}: limit"), rows, least, None);
            let cost = measured(promote(lake, args, &[name], true)).await?;
            print(&format!("{name}: firn"), rows, cost, Some(least));
            (bare, firn) = (bare + least, firn + cost);
        }
    }
    if args.rounds * args.chosen(&PLAIN).count() > 1 {
        let rows = rows * args.rounds as u64;
        print("these models: limit", rows, bare, None);
        print("these models: firn", rows, firn, Some(bare));
    }
    for name in args.chosen(&JUDGING) {
        let cost = measured(promote(lake, args, &[name], true)).await?;
        print(&format!("{name}: firn"), rows, cost, None);
    }
    Ok(())
}

/// All models in full, and what increments cost beside that.
async fn increments(lake: &Lake, args: &Args, rows: u64) -> Result<()> {
    let full = measured(promote(lake, args, &[], true)).await?;
    print("all models, in full", rows, full, None);
    let hundredth = (rows / 100).max(1);
    lake.report(rows, hundredth, args.fleet()).await?;
    let increment = measured(promote(lake, args, &[], false)).await?;
    print("all models, increment of 1 %", hundredth, increment, None);
    println!("{:<36} {:>8.1}%", "  its share of a full computation", increment.cpu_s / full.cpu_s * 100.0);
    lake.report(rows + hundredth, hundredth, args.fleet()).await?;
    for model in firn_compactor::models()?.models() {
        let name = model.table.to_string();
        let increment = measured(promote(lake, args, &[&name], false)).await?;
        print(&format!("  {name}: again 1 %"), hundredth, increment, None);
    }
    lake.report(rows + 2 * hundredth, INCREMENT, args.fleet()).await?;
    promote(lake, args, &["silver.inventory"], false).await?;
    let increment = measured(promote(lake, args, &["silver.device"], false)).await?;
    print("silver.device, 100,000 newer rows", INCREMENT, increment, None);
    Ok(())
}

async fn promote(lake: &Lake, args: &Args, models: &[&str], full: bool) -> Result<()> {
    let config = CompactorConfig {
        threads: args.threads,
        memory_bytes: args.memory_mb << 20,
        ..CompactorConfig::default()
    };
    let request = RunRequest {
        models: models.iter().map(|name| (*name).to_owned()).collect(),
        full,
        early: true,
        ..RunRequest::default()
    };
    let record = ModelRuns::new(config, lake.file_io.clone())?.run(&lake.client, &request).await?;
    ensure!(record.state == RunState::Succeeded, "the run failed: {record:?}");
    Ok(())
}
