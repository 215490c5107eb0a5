//! Speed of ingest and what it needs, beside limits that are measured in the same run.
//!
//! `cargo bench -p firn-ingest --bench ingest -- [--kafka] [--records N] [--rounds N] [--seconds N] [SCENARIO...]`
//!
//! Time is that of the processor, of all threads of the process that does the work, so that records per second are those of one
//! core. The catalog, the broker and who uploads are processes of their own, and their time doesn't count; the embedded log is a
//! library, and its time does, for limit and Firn alike. Only the ratio means anything on another machine.

#![allow(clippy::print_stdout)]

mod cost;
mod gateway;
mod house;
mod limits;
#[path = "../../../benches/measure/records.rs"]
mod records;
mod steady;
mod upload;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand, ValueEnum};
use firn_ingest::WorkerConfig;
use firn_inventory::{BronzeBuilder, LogPosition, read};

use cost::Cost;
use house::House;
use limits::{Work, consume};
use upload::UploadArgs;

/// As the binary `firn` has.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Tenants where there are many.
const MANY: u64 = 1_000;
/// Records that are decoded from memory.
const IN_MEMORY: u64 = 50_000;
/// Rows of a batch, as the worker makes them.
const ROWS: usize = 1_024;

#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Args {
    /// Which to run; all if none is named
    #[arg(value_enum)]
    scenarios: Vec<Scenario>,
    /// Real Kafka as log instead of the embedded one
    #[arg(long)]
    kafka: bool,
    /// Records of each round
    #[arg(long, default_value_t = 500_000)]
    records: u64,
    /// Rounds in which limits and Firn take turns
    #[arg(long, default_value_t = 3)]
    rounds: u64,
    /// Length of what is measured by time
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Said by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// Bytes into columns, from memory
    Decoder,
    /// From the log into the tables of one tenant
    OneTenant,
    /// The same of a thousand tenants
    ManyTenants,
    /// Uploads of 100 records into the log
    Gateway,
    /// 20,000 records a second of a thousand tenants, through gateway and worker: memory, and how old rows are when they can be read
    Steady,
    /// The same of one tenant
    SteadyOneTenant,
}

/// What this program is when it starts itself.
#[derive(Subcommand)]
enum Role {
    #[command(hide = true)]
    ServeCatalog { folder: PathBuf, port: u16 },
    #[command(hide = true)]
    Upload(UploadArgs),
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    ensure!(!cfg!(debug_assertions), "a debug build measures nothing: run 'cargo bench'");
    match &args.role {
        Some(Role::ServeCatalog { folder, port }) => return house::serve_catalog(folder, *port).await,
        Some(Role::Upload(upload)) => return upload::run(upload).await,
        None => {}
    }
    let log = if args.kafka { "Kafka" } else { "the embedded log" };
    println!("records of {} bytes, {log}\n", records::json(1).len());
    let all = Scenario::value_variants();
    for scenario in if args.scenarios.is_empty() { all } else { args.scenarios.as_slice() } {
        match scenario {
            Scenario::Decoder => decoder(args.rounds).await?,
            Scenario::OneTenant => worker(&args, 1).await?,
            Scenario::ManyTenants => worker(&args, MANY).await?,
            Scenario::Gateway => gateway::measure(args.kafka, args.seconds).await?,
            Scenario::Steady => steady::measure(args.kafka, args.seconds, MANY).await?,
            Scenario::SteadyOneTenant => steady::measure(args.kafka, args.seconds, 1).await?,
        }
        println!();
    }
    Ok(())
}

/// Bytes in memory into columns.
async fn decoder(rounds: u64) -> Result<()> {
    let records: Vec<Vec<u8>> = (0..IN_MEMORY).map(records::json).collect();
    let (mut limit, mut firn) = (Cost::default(), Cost::default());
    // A round is short, so there are more of them.
    for _ in 0..rounds * 4 {
        limit.add(Cost::of(async { arrow_json(&records) }).await?);
        firn.add(Cost::of(async { firn_columns(&records) }).await?);
    }
    println!("decoder, from memory, one thread");
    cost::print_headings();
    cost::print("  arrow-json", &limit, None);
    cost::print("  firn: decoder and builders", &firn, Some(&limit));
    Ok(())
}

fn arrow_json(records: &[Vec<u8>]) -> Result<u64> {
    let mut work = Work::columns()?;
    records.iter().try_for_each(|record| work.take(record))?;
    work.finish()?;
    Ok(records.len() as u64)
}

fn firn_columns(records: &[Vec<u8>]) -> Result<u64> {
    let mut rows = 0;
    for batch in records.chunks(ROWS) {
        let mut builder = BronzeBuilder::with_capacity(batch.len());
        let (topic_id, source) = ("bench".to_owned(), "native".to_owned());
        let mut position = LogPosition { topic_id, partition: 0, offset: 0, received_at_us: 0, source };
        for record in batch {
            position.offset += 1;
            builder.push_row(&read(record)?, &position);
        }
        rows += builder.finish().num_rows() as u64;
    }
    Ok(rows)
}

/// What is in the log into tables. Each round appends as many records again; that isn't measured.
async fn worker(args: &Args, tenants: u64) -> Result<()> {
    let house = House::start(tenants, args.kafka).await?;
    let [mut read, mut columns, mut limit, mut firn] = [Cost::default(); 4];
    for round in 0..args.rounds {
        let part = house.fill(tenants + round * args.records, args.records).await?;
        read.add(Cost::of(consume(&house, &part, Work::Read)).await?);
        columns.add(Cost::of(consume(&house, &part, Work::columns()?)).await?);
        limit.add(Cost::of(consume(&house, &part, Work::parquet(house.folder.path())?)).await?);
        firn.add(Cost::of(house.work(WorkerConfig::default(), args.records)).await?);
    }
    println!("worker, {tenants} tenants, {} rounds of {} records", args.rounds, args.records);
    cost::print_headings();
    cost::print("  consumer", &read, None);
    cost::print("  consumer, arrow-json", &columns, None);
    cost::print("  limit: consumer, arrow-json, Parquet zstd-1", &limit, None);
    cost::print("  firn: worker", &firn, Some(&limit));
    Ok(())
}
