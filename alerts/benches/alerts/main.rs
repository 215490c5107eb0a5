//! Speed of alerts and what they need, beside limits that are measured in the same run.
//!
//! `cargo bench -p firn-alerts --bench alerts -- [--kafka] [--hosts N] [--records N] [--rounds N] [--seconds N] [--lake FOLDER]
//! [SCENARIO...]`
//!
//! Time is that of the processor, of all threads of this process, so that records per second are those of one core. The embedded
//! log and the catalog are libraries here, and their time counts, the log's for limit and Firn alike; Kafka's broker and the search
//! server are processes of their own. Only the ratio means anything on another machine.

#![allow(clippy::print_stdout)]

mod backtest;
#[path = "../../../benches/measure/cost.rs"]
mod cost;
mod fleet;
mod house;
#[path = "../../../benches/measure/lake.rs"]
#[expect(dead_code, reason = "promotion's benchmark needs more of it")]
mod lake;
mod latency;
#[path = "../../../benches/measure/records.rs"]
#[expect(dead_code, reason = "the benchmark of ingest needs more of it")]
mod records;
mod state;
mod stream;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand, ValueEnum};

/// As the binary `firn` has.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Args {
    /// Which to run; all if none is named
    #[arg(value_enum)]
    scenarios: Vec<Scenario>,
    /// Real Kafka as log instead of the embedded one
    #[arg(long)]
    kafka: bool,
    /// Computers
    #[arg(long, default_value_t = 20_000)]
    hosts: u64,
    /// Records of each round, and of the backlog
    #[arg(long, default_value_t = 200_000)]
    records: u64,
    /// Rounds in which limits and Firn take turns
    #[arg(long, default_value_t = 3)]
    rounds: u64,
    /// Length of what is measured by time
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Where the history of a backtest is kept for the next run
    #[arg(long)]
    lake: Option<PathBuf>,
    /// Said by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// The topic `inventory` through the twelve shipped rules, state kept and changes told
    Stream,
    /// Memory of all computers' state, and the time of a restart with a backlog
    State,
    /// From the log to a document that a search finds, at 1,000 records a second
    Latency,
    /// A month of history, with four records a day of each computer
    Backtest,
}

/// What this program is when it starts itself.
#[derive(Subcommand)]
enum Role {
    #[command(hide = true)]
    Restart { folder: PathBuf, backlog: u64 },
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    ensure!(!cfg!(debug_assertions), "a debug build measures nothing: run 'cargo bench'");
    if let Some(Role::Restart { folder, backlog }) = &args.role {
        return state::restart(folder, *backlog).await;
    }
    let bytes = serde_json::to_vec(&fleet::inventory(1, args.hosts, 0))?.len();
    println!("records of {bytes} bytes, {} computers\n", args.hosts);
    let all = Scenario::value_variants();
    for scenario in if args.scenarios.is_empty() { all } else { args.scenarios.as_slice() } {
        match scenario {
            Scenario::Stream => stream::measure(&args).await?,
            Scenario::State => state::measure(args.hosts).await?,
            Scenario::Latency => latency::measure(args.seconds).await?,
            Scenario::Backtest => backtest::measure(&args).await?,
        }
        println!();
    }
    Ok(())
}
