//! `firn`: the lakehouse in one binary, and the commands that talk to it.
//!
//! `up` runs everything, `SERVICE serve` one service of it; the other commands are clients that speak HTTP to a running
//! server. Exit status: 0 done, 1 failed, 2 wrong usage or configuration.

mod access;
mod alerts;
mod audit;
mod bench;
mod catalog;
mod client;
mod collect;
mod collection;
mod connection;
mod console;
mod data_dir;
mod doctor;
mod duration;
mod env;
mod erase;
mod events;
mod failure;
mod findings;
mod graph;
mod health;
mod hold;
mod host;
mod ingest;
mod lineage;
mod model;
mod openapi;
mod output;
mod policy;
mod promote;
mod references;
mod revision;
mod server;
mod service;
mod settings;
mod simulate;
mod sql;
mod status;
mod table;
mod tenant;
mod tls;
mod token;
mod up;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use alerts::AlertsCommand;
use catalog::CatalogCommand;
use ingest::IngestCommand;
use server::Service;
use service::{CompactorCommand, GatewayCommand};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// An open multi-tenant lakehouse: versioned Iceberg catalog, inventory ingestion, compliance findings.
#[derive(Parser)]
#[command(name = "firn", version, propagate_version = true, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run everything on this machine
    Up(up::UpArgs),
    /// Take uploads in a process of its own
    #[command(subcommand)]
    Gateway(service::GatewayCommand),
    /// Promote and maintain tables in a process of its own
    #[command(subcommand)]
    Compactor(service::CompactorCommand),
    /// Print variables for shells and programs that talk to a running server
    Env(env::EnvArgs),
    /// Query the lake
    Sql(sql::SqlArgs),
    /// Take the inventory of this computer, and print or upload it
    Collect(collect::CollectArgs),
    /// Send inventories of a simulated fleet
    Simulate(simulate::SimulateArgs),
    /// Ask one process whether it is ready, for health checks without a shell
    Health(health::HealthArgs),
    /// Tell how the stages are doing
    Status(status::StatusArgs),
    /// Check configuration, ports, storage, broker and database, and say what to fix
    Doctor(doctor::DoctorArgs),
    /// Serve the catalog in a process of its own, migrate, export and rebuild it, remove what nothing needs any more
    #[command(subcommand)]
    Catalog(CatalogCommand),
    /// Create, change, suspend and delete tenants
    #[command(subcommand)]
    Tenant(tenant::TenantCommand),
    /// Create clients, rotate their secrets, remove them
    #[command(subcommand)]
    Client(client::ClientCommand),
    /// Issue and revoke tokens
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Grant what a role doesn't include, and protect branches
    #[command(subcommand)]
    Access(access::AccessCommand),
    /// Tell who did what, and who was refused
    Audit(audit::AuditArgs),
    /// Tell what happened in the tenant's catalog, and follow what happens
    Events(events::EventsArgs),
    /// Create, list and delete branches
    #[command(subcommand)]
    Branch(references::ReferenceCommand),
    /// Create, list and delete tags
    #[command(subcommand)]
    Tag(references::ReferenceCommand),
    /// Show the newest commits of a branch, or those of `A..B`
    Log(references::LogArgs),
    /// Show what differs between two references, `A..B`
    Diff(references::DiffArgs),
    /// Show one commit and what it changed
    Show(references::ShowArgs),
    /// List tables, views and namespaces of a branch, tag or commit
    Entries(references::EntriesArgs),
    /// Merge a branch into another
    Merge(references::MergeArgs),
    /// Suspend, resume, inspect and repeat the way from the log to bronze, or run it in a process of its own
    #[command(subcommand)]
    Ingest(IngestCommand),
    /// List and acknowledge findings
    #[command(subcommand)]
    Findings(findings::FindingsCommand),
    /// Assign, snooze and comment on findings, or run the rules in a process of their own
    #[command(subcommand)]
    Alerts(AlertsCommand),
    /// Retire computers
    #[command(subcommand)]
    Host(host::HostCommand),
    /// List, check, test, backtest and apply policies
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// List, check, document and change the models that silver and gold are made of
    #[command(subcommand)]
    Model(model::ModelCommand),
    /// List promotion runs, and show what one did or why it failed
    #[command(subcommand)]
    Promote(promote::PromoteCommand),
    /// Trace a table's version to the bronze snapshots and log positions it came from
    Lineage(lineage::LineageArgs),
    /// List, inspect and maintain tables
    #[command(subcommand)]
    Table(table::TableCommand),
    /// Erase a person's or a computer's data from all tables and all history, with a signed receipt
    Erase(erase::EraseArgs),
    /// Place, list and release legal holds, which keep data from erasure, expiry and removal
    #[command(subcommand)]
    Hold(hold::HoldCommand),
    /// Try Firn hard, on the machine where it is to run
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Print the OpenAPI document of Firn's own endpoints
    Openapi,
    /// Print the version
    Version,
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error),
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Up(args) => up::run(&args),
        Command::Catalog(CatalogCommand::Serve(args)) => service::serve(Service::Catalog, &args),
        Command::Gateway(GatewayCommand::Serve(args)) => service::serve(Service::Gateway, &args),
        Command::Ingest(IngestCommand::Serve(args)) => service::serve(Service::Ingest, &args),
        Command::Compactor(CompactorCommand::Serve(args)) => service::serve(Service::Compactor, &args),
        Command::Alerts(AlertsCommand::Serve(args)) => service::serve(Service::Alerts, &args),
        Command::Openapi => openapi::print(),
        Command::Version => output::line(concat!("firn ", env!("CARGO_PKG_VERSION"))),
        Command::Policy(command) => {
            policy::run_offline(&command).unwrap_or_else(|| run_client(Command::Policy(command)))
        }
        other => run_client(other),
    }
}

/// A client has one thread: it waits for one server. Queries and compactions bring their own parallelism.
fn run_client(command: Command) -> Result<()> {
    let runtime = match command {
        Command::Sql(_)
        | Command::Policy(_)
        | Command::Table(_)
        | Command::Model(_)
        | Command::Bench(_)
        | Command::Alerts(AlertsCommand::Rebuild(_) | AlertsCommand::Repartition(_)) => {
            tokio::runtime::Builder::new_multi_thread().enable_all().build()?
        }
        _ => tokio::runtime::Builder::new_current_thread().enable_all().build()?,
    };
    runtime.block_on(async {
        match command {
            Command::Env(args) => env::run(&args).await,
            Command::Sql(args) => sql::run(&args).await,
            Command::Collect(args) => collect::run(&args).await,
            Command::Simulate(args) => simulate::run(args).await,
            Command::Health(args) => health::run(&args).await,
            Command::Status(args) => status::run(&args).await,
            Command::Doctor(args) => doctor::run(&args).await,
            Command::Catalog(command) => catalog::run(&command).await,
            Command::Tenant(command) => tenant::run(&command).await,
            Command::Client(command) => client::run(&command).await,
            Command::Token(command) => token::run(&command).await,
            Command::Access(command) => access::run(&command).await,
            Command::Audit(args) => audit::run(&args).await,
            Command::Events(args) => events::run(&args).await,
            Command::Branch(command) => references::branch(&command).await,
            Command::Tag(command) => references::tag(&command).await,
            Command::Log(args) => references::log(&args).await,
            Command::Diff(args) => references::diff(&args).await,
            Command::Show(args) => references::show(&args).await,
            Command::Entries(args) => references::entries(&args).await,
            Command::Merge(args) => references::merge(&args).await,
            Command::Ingest(command) => ingest::run(&command).await,
            Command::Findings(command) => findings::run(&command).await,
            Command::Alerts(command) => alerts::run(&command).await,
            Command::Host(command) => host::run(&command).await,
            Command::Policy(command) => policy::run(&command).await,
            Command::Table(command) => table::run(&command).await,
            Command::Model(command) => model::run(&command).await,
            Command::Promote(command) => promote::run(&command).await,
            Command::Lineage(args) => lineage::run(&args).await,
            Command::Erase(args) => erase::run(&args).await,
            Command::Hold(command) => hold::run(&command).await,
            Command::Bench(command) => bench::run(&command).await,
            Command::Up(_)
            | Command::Gateway(_)
            | Command::Compactor(_)
            | Command::Openapi
            | Command::Version => Ok(()),
        }
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn arguments_are_consistent() {
        super::Cli::command().debug_assert();
    }
}
