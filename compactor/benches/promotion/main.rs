//! Speed of promotion, beside its limit in the same run: DataFusion that runs the same SQL over the same Parquet files, with as many
//! threads and as much memory, and writes Parquet.
//!
//! `cargo bench -p firn-compactor --bench promotion -- [--rows N] [--hosts N] [--threads N] [--memory-mb N]`
//!
//! The catalog runs in the same process, and its time counts as Firn's. Time is that of the processor, so that rows per second are
//! those of one core. Only the ratio means anything on another machine.

#![allow(clippy::print_stdout)]

mod lake;
mod limit;

use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Parser;
use firn_compactor::{CompactorConfig, ModelRuns, RunRequest, RunState};
use firn_runtime::Usage;

use lake::Lake;
use limit::Limit;

/// As the binary `firn` has.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
/// What the clock of processor time tells apart.
const TICK_S: f64 = 0.01;

#[derive(Clone, Debug, Parser)]
struct Args {
    /// Inventories in bronze
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// Computers that they are of
    #[arg(long, default_value_t = 20_000)]
    hosts: u64,
    /// Threads of both sides
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Memory of both sides; what does not fit spills
    #[arg(long, default_value_t = 1_024)]
    memory_mb: usize,
    /// Said by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

/// What something took.
#[derive(Clone, Copy, Debug)]
struct Cost {
    cpu_s: f64,
    wall_s: f64,
}

fn main() -> Result<()> {
    let args = Args::parse();
    ensure!(!cfg!(debug_assertions), "a debug build measures nothing: run 'cargo bench'");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(args.threads).enable_all().build()?;
    runtime.block_on(run(&args))
}

async fn run(args: &Args) -> Result<()> {
    let lake = Lake::start().await?;
    lake.report(0, args.rows, args.hosts).await?;
    println!("{} rows of {} hosts, {} threads\n", args.rows, args.hosts, args.threads);
    println!("{:<34} {:>10} {:>10} {:>12} {:>7}", "", "cpu s", "wall s", "rows/s core", "share");

    let limit = Limit::new(args.threads, args.memory_mb << 20, &lake.bronze_files().await?)?;
    for name in PLAIN {
        let bare = measured(limit.run(name)).await?;
        print(&format!("{name}: limit"), args.rows, bare, None);
        let firn = measured(promote(&lake, args, &[name], false)).await?;
        print(&format!("{name}: firn"), args.rows, firn, Some(bare));
    }
    for name in JUDGING {
        let firn = measured(promote(&lake, args, &[name], false)).await?;
        print(&format!("{name}: firn"), args.rows, firn, None);
    }
    let full = measured(promote(&lake, args, &[], true)).await?;
    print("all models, in full", args.rows, full, None);

    let hundredth = (args.rows / 100).max(1);
    lake.report(args.rows, hundredth, args.hosts).await?;
    let increment = measured(promote(&lake, args, &[], false)).await?;
    print("all models, increment of 1 %", hundredth, increment, None);
    println!("{:<34} {:>9.1}%", "  its share of a full computation", increment.cpu_s / full.cpu_s * 100.0);
    lake.report(args.rows + hundredth, INCREMENT, args.hosts).await?;
    promote(&lake, args, &["silver.inventory"], false).await?;
    let increment = measured(promote(&lake, args, &["silver.device"], false)).await?;
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

/// What work takes, of all threads of this process.
async fn measured(work: impl Future<Output = Result<()>>) -> Result<Cost> {
    let (before, started) = (cpu_s()?, Instant::now());
    work.await?;
    Ok(Cost { cpu_s: cpu_s()? - before, wall_s: started.elapsed().as_secs_f64() })
}

/// Processor time of this process, user and system.
fn cpu_s() -> Result<f64> {
    Ok(Usage::of_this_process()?.cpu.as_secs_f64())
}

fn print(what: &str, rows: u64, cost: Cost, limit: Option<Cost>) {
    let share = limit.map(|limit| format!("{:.2}", limit.cpu_s / cost.cpu_s)).unwrap_or_default();
    let rate = rows as f64 / cost.cpu_s.max(TICK_S);
    println!("{what:<34} {:>10.2} {:>10.2} {rate:>12.0} {share:>7}", cost.cpu_s, cost.wall_s);
}
