//! Speed of the catalog over HTTP on a real PostgreSQL, beside limits that are measured in the same run.
//!
//! `cargo bench -p firn-catalog --bench catalog -- [--seconds N] [--clients N] [SCENARIO...]`
//!
//! A limit is the least that a server of that kind must do (one SELECT, one synced file and one row), as a bare handler of
//! the same HTTP server with the same client. Server, limits and clients share one process and its cores, so that only the
//! ratio means anything.

#![allow(clippy::print_stdout)]

mod client;
mod files;
mod limits;
mod many;
mod server;

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};
use firn_tests::Postgres;

use client::{Sample, Side};
use files::Files;
use limits::Limits;
use many::Many;
use server::Server;

/// As the binary `firn` has.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Tables of the scenarios, and clients that work on them unless a scenario says otherwise.
const TABLES: usize = 64;

#[derive(Parser)]
struct Args {
    /// Which to run; all if none is named
    #[arg(value_enum)]
    scenarios: Vec<Scenario>,
    /// Length of each measurement, over all its rounds
    #[arg(long, default_value_t = 5, value_name = "SECONDS")]
    seconds: u64,
    /// Concurrent clients, one connection each
    #[arg(long, default_value_t = TABLES, value_name = "N")]
    clients: usize,
    /// Said by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
enum Scenario {
    /// Loads of warm tables
    Load,
    /// What it takes to decide whether a load is allowed, as a share of a load
    Authorization,
    /// Loads that answer 304
    NotModified,
    /// Commits, each client to its own table
    Commit,
    /// Lists of one client: of a branch that stays, and after each of its commits
    List,
    /// Commits of one client
    OneClient,
    /// Commits of eight clients to one table
    OneTable,
    /// Transactions over three tables, eight clients
    Transaction,
    /// Nessie commits without files
    Nessie,
    /// Merges of a branch that changed a thousand tables into one that changed a thousand others
    Merge,
    /// Commits with files on S3, each client to its own table; not run unless it is named
    S3,
    /// Lists, loads, commits, branches and differences with a million tables, beside a thousand; not run unless it is named
    Million,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    ensure!(!cfg!(debug_assertions), "a debug build measures nothing: run 'cargo bench'");
    let postgres = Postgres::start().await?;
    let server = Server::start(&postgres.url(), Files::on_disk()?, TABLES).await?;
    let (loaded, committed) = (server.loaded_bytes().await?, server.committed_bytes().await?);
    println!(
        "{} clients, {} s each; a load answers {} bytes, a commit writes {}\n",
        args.clients,
        args.seconds,
        loaded.len(),
        committed.len()
    );
    let limits = Limits::start(&postgres.url(), None, loaded, committed, TABLES).await?;
    println!(
        "{:<13} {:<28} {:>9} {:>9} {:>9} {:>9}  answers",
        "scenario", "", "per s", "ratio", "p50 ms", "p99 ms"
    );
    let all: Vec<Scenario> =
        Scenario::value_variants().iter().copied().filter(|one| *one < Scenario::S3).collect();
    for scenario in if args.scenarios.is_empty() { &all } else { &args.scenarios } {
        run(*scenario, &args, &server, &limits).await?;
    }
    Ok(())
}

/// Prints what a scenario's limits reach, and then Firn, with its share of each.
async fn run(scenario: Scenario, args: &Args, server: &Server, limits: &Limits) -> Result<()> {
    let limit = |name, clients, request| Side { name, clients, server: limits.address(), request };
    let firn = |name, clients, request| Side { name, clients, server: server.address(), request };
    let many = args.clients;
    let sides = match scenario {
        Scenario::Load => vec![
            limit("limit: bytes from memory", many, limits.memory()),
            limit("limit: one SELECT", many, limits.select()),
            firn("firn", many, server.load()),
        ],
        Scenario::S3 => return on_s3(args).await,
        Scenario::Merge => return merge(server).await,
        Scenario::Million => return million(Duration::from_secs(args.seconds), server).await,
        Scenario::Authorization => vec![firn("loads", many, server.load())],
        Scenario::NotModified => vec![
            limit("limit: one SELECT", many, limits.select()),
            firn("firn", many, server.not_modified().await?),
        ],
        Scenario::List => vec![
            firn("commits", 1, server.commit(1)),
            firn("lists", 1, server.list()),
            firn("in turns", 1, server.commit_and_list()),
        ],
        Scenario::Commit => vec![
            limit("limit: file, then row", many, limits.put(1)),
            firn("firn", many, server.commit(TABLES)),
        ],
        Scenario::OneClient => {
            vec![limit("limit: file, then row", 1, limits.put(1)), firn("firn", 1, server.commit(TABLES))]
        }
        Scenario::OneTable => {
            vec![firn("one client", 1, server.commit(1)), firn("firn, eight clients", 8, server.commit(1))]
        }
        Scenario::Transaction => vec![
            limit("limit: three files, then row", 8, limits.put(3)),
            firn("firn", 8, server.transaction(TABLES)),
        ],
        Scenario::Nessie => {
            vec![limit("limit: one UPDATE", many, limits.update()), firn("firn", many, server.nessie(TABLES))]
        }
    };
    let samples = client::measure(Duration::from_secs(args.seconds), &sides).await?;
    let mut rates = Vec::new();
    for (at, (side, sample)) in sides.iter().zip(&samples).enumerate() {
        // The last side is Firn's.
        print(scenario, side.name, sample, if at + 1 == sides.len() { &rates } else { &[] });
        rates.push(sample.rate());
    }
    if scenario == Scenario::Authorization
        && let [rate] = rates.as_slice()
    {
        let ask = server.time_of_an_ask().await?.as_secs_f64();
        // All cores are busy with the loads.
        let load = std::thread::available_parallelism()?.get() as f64 / rate;
        println!(
            "authorization {:.2} us each, {:.1} % of the {:.0} us of all cores that a load takes",
            ask * 1e6,
            ask / load * 100.0,
            load * 1e6
        );
    }
    Ok(())
}

/// With a server and a database of their own, beside bare PUTs of the same bytes.
async fn on_s3(args: &Args) -> Result<()> {
    let postgres = Postgres::start().await?;
    let files = Files::on_s3().await?;
    let bucket = files.bucket()?;
    let server = Server::start(&postgres.url(), files, TABLES).await?;
    let (loaded, committed) = (server.loaded_bytes().await?, server.committed_bytes().await?);
    let limits = Limits::start(&postgres.url(), bucket, loaded, committed, TABLES).await?;
    let (clients, duration) = (args.clients, Duration::from_secs(args.seconds));
    let sides = [
        Side { name: "limit: one PUT", clients, server: limits.address(), request: limits.object() },
        Side { name: "firn", clients, server: server.address(), request: server.commit(TABLES) },
    ];
    let samples = client::measure(duration, &sides).await?;
    let [limit, firn] = samples.as_slice() else { return Ok(()) };
    print(Scenario::S3, sides[0].name, limit, &[]);
    print(Scenario::S3, sides[1].name, firn, &[limit.rate()]);
    Ok(())
}

/// One client, whose rate says what a request costs; the ratio is that of a million tables to a thousand.
async fn million(duration: Duration, server: &Server) -> Result<()> {
    let few = Many::make(server, "thousand", 1_000).await?;
    let many = Many::make(server, "million", 1_000_000).await?;
    let firn = |name, request| Side { name, clients: 1, server: server.address(), request };
    for sides in [
        [firn("list, 1,000", few.list(server).await?), firn("list, 1,000,000", many.list(server).await?)],
        [firn("load, 1,000", few.load()), firn("load, 1,000,000", many.load())],
        // Before the commits: they differ, too.
        [firn("diff of 10, 1,000", few.diff()), firn("diff of 10, 1,000,000", many.diff())],
        [firn("commit, 1,000", few.commit()), firn("commit, 1,000,000", many.commit())],
        [
            firn("branch, 1,000", few.branch(server).await?),
            firn("branch, 1,000,000", many.branch(server).await?),
        ],
    ] {
        let samples = client::measure(duration, &sides).await?;
        let [of_few, of_many] = samples.as_slice() else { continue };
        print(Scenario::Million, sides[0].name, of_few, &[]);
        print(Scenario::Million, sides[1].name, of_many, &[of_few.rate()]);
    }
    Ok(())
}

/// Each round merges a branch of its own.
async fn merge(server: &Server) -> Result<()> {
    const CHANGED: usize = 1_000;
    const ROUNDS: i64 = 10;
    let many = Many::make(server, "merges", 4 * CHANGED).await?;
    let mut times = Vec::new();
    for round in 1..=ROUNDS {
        times.push(many.merge(server, round, CHANGED).await?);
    }
    times.sort_unstable();
    let (median, most) = (times[times.len() / 2], times[times.len() - 1]);
    println!(
        "merge         {CHANGED} tables into {CHANGED} others: median {median:.0?}, longest {most:.0?} of {ROUNDS}"
    );
    Ok(())
}

fn print(scenario: Scenario, name: &str, sample: &Sample, limits: &[f64]) {
    let ratios: Vec<String> = limits.iter().map(|limit| format!("{:.2}", sample.rate() / limit)).collect();
    println!(
        "{:<13} {name:<28} {:>9.0} {:>9} {:>9.2} {:>9.2}  {}",
        format!("{scenario:?}").to_lowercase(),
        sample.rate(),
        ratios.join("/"),
        sample.quantile_ms(0.5),
        sample.quantile_ms(0.99),
        sample.statuses(),
    );
}
