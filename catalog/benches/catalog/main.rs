//! Speed of the catalog over HTTP on a real PostgreSQL, beside limits that are measured in the same run.
//!
//! `cargo bench -p firn-catalog --bench catalog -- [--seconds N] [--clients N] [SCENARIO...]`
//!
//! A limit is the least that a server of that kind must do (one SELECT, one synced file and one row), as a bare handler of
//! the same HTTP server with the same client. Server, limits and clients share one process and its cores, so that only the
//! ratio means anything.

#![allow(clippy::print_stdout)]

mod client;
mod limits;
mod many;
mod server;

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};
use firn_tests::Postgres;

use client::{Load, Request, Sample};
use limits::Limits;
use many::Many;
use server::Server;

/// As the binary `firn` has.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Tables of the scenarios, and clients that work on them unless a scenario says otherwise.
const TABLES: usize = 64;
/// Measurements of each side where two are close to each other.
const ROUNDS: u32 = 3;

#[derive(Parser)]
struct Args {
    /// Which to run; all if none is named
    #[arg(value_enum)]
    scenarios: Vec<Scenario>,
    /// Length of each measurement
    #[arg(long, default_value_t = 5, value_name = "SECONDS")]
    seconds: u64,
    /// Concurrent clients, one connection each
    #[arg(long, default_value_t = TABLES, value_name = "N")]
    clients: usize,
    /// Said by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// Loads of warm tables
    Load,
    /// Loads that ask once who may do what, beside those that ask twice: what authorization costs
    Authorization,
    /// Loads that answer 304
    NotModified,
    /// Commits, each client to its own table
    Commit,
    /// Commits of one client
    OneClient,
    /// Commits of eight clients to one table
    OneTable,
    /// Transactions over three tables, eight clients
    Transaction,
    /// Nessie commits without files
    Nessie,
    /// Lists, loads, commits, branches and differences with a million tables, beside a thousand; not run unless it is named
    Million,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    ensure!(!cfg!(debug_assertions), "a debug build measures nothing: run 'cargo bench'");
    let postgres = Postgres::start().await?;
    let server = Server::start(&postgres.url(), TABLES).await?;
    let limits = Limits::start(&postgres.url(), server.table_bytes().await?, TABLES).await?;
    println!("{} clients, {} s each, tables of {} bytes\n", args.clients, args.seconds, limits.bytes());
    println!(
        "{:<13} {:<28} {:>9} {:>9} {:>9} {:>9}  answers",
        "scenario", "", "per s", "ratio", "p50 ms", "p99 ms"
    );
    let all: Vec<Scenario> =
        Scenario::value_variants().iter().copied().filter(|one| *one != Scenario::Million).collect();
    for scenario in if args.scenarios.is_empty() { &all } else { &args.scenarios } {
        run(*scenario, &args, &server, &limits).await?;
    }
    Ok(())
}

/// Prints a scenario's limits and then Firn, with its share of each.
async fn run(scenario: Scenario, args: &Args, server: &Server, limits: &Limits) -> Result<()> {
    let load = |clients| Load { clients, duration: Duration::from_secs(args.seconds) };
    let (clients, bare, firn): (usize, Vec<(&str, Request)>, Request) = match scenario {
        Scenario::Load => (
            args.clients,
            vec![("limit: bytes from memory", limits.memory()), ("limit: one SELECT", limits.select())],
            server.load(),
        ),
        Scenario::Million => return million(load(1), server).await,
        Scenario::Authorization => return authorization(load(args.clients), server).await,
        Scenario::NotModified => {
            (args.clients, vec![("limit: one SELECT", limits.select())], server.not_modified().await?)
        }
        Scenario::Commit => {
            (args.clients, vec![("limit: file, then row", limits.put(1))], server.commit(TABLES))
        }
        Scenario::OneClient => (1, vec![("limit: file, then row", limits.put(1))], server.commit(TABLES)),
        Scenario::OneTable => {
            let one = client::measure(load(1), server.address(), server.commit(1)).await?;
            print(scenario, "one client", &one, &[]);
            let all = client::measure(load(8), server.address(), server.commit(1)).await?;
            print(scenario, "firn, eight clients", &all, &[one.rate()]);
            return Ok(());
        }
        Scenario::Transaction => {
            (8, vec![("limit: three files, then row", limits.put(3))], server.transaction(TABLES))
        }
        Scenario::Nessie => {
            (args.clients, vec![("limit: one UPDATE", limits.update())], server.nessie(TABLES))
        }
    };
    let mut rates = Vec::new();
    for (name, request) in bare {
        let sample = client::measure(load(clients), limits.address(), request).await?;
        print(scenario, name, &sample, &[]);
        rates.push(sample.rate());
    }
    let sample = client::measure(load(clients), server.address(), firn).await?;
    print(scenario, "firn", &sample, &rates);
    Ok(())
}

/// In turns, so that what else the machine does meets both.
async fn authorization(load: Load, server: &Server) -> Result<()> {
    let mut rates = [0.0; 2];
    for _ in 0..ROUNDS {
        for (rate, address) in rates.iter_mut().zip(server.asked()) {
            *rate += client::measure(load, address, server.load()).await?.rate() / f64::from(ROUNDS);
        }
    }
    let [once, twice] = rates;
    // The time of a load that asks twice is that of one that asks once, and one asking more.
    let share = (once / twice - 1.0) * 100.0;
    println!("{:<13} {:<28} {once:>9.0}", "authorization", "asked once");
    println!("{:<13} {:<28} {twice:>9.0}  costs {share:.1} % of a load", "authorization", "asked twice");
    Ok(())
}

/// One client, whose rate says what a request costs; the ratio is that of a million tables to a thousand.
async fn million(load: Load, server: &Server) -> Result<()> {
    let few = Many::make(server, "thousand", 1_000).await?;
    let many = Many::make(server, "million", 1_000_000).await?;
    for (name, few, many) in [
        ("list a page", few.list(server).await?, many.list(server).await?),
        ("load", few.load(), many.load()),
        ("commit", few.commit(), many.commit()),
        ("branch", few.branch(server).await?, many.branch(server).await?),
        ("diff of 10 changes", few.diff(), many.diff()),
    ] {
        let limit = client::measure(load, server.address(), few).await?;
        print(Scenario::Million, &format!("{name}, 1,000"), &limit, &[]);
        let sample = client::measure(load, server.address(), many).await?;
        print(Scenario::Million, &format!("{name}, 1,000,000"), &sample, &[limit.rate()]);
    }
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
