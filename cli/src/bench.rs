//! `firn bench`: what tries Firn hard, on the machine where it is to run.

mod simulate;

use anyhow::Result;

/// Subcommands of `firn bench`.
#[derive(clap::Subcommand)]
pub(crate) enum BenchCommand {
    /// Let the catalog live through worlds that go wrong, and check what came of it; needs no server
    Simulate(simulate::SimulateArgs),
}

/// Runs `firn bench`.
pub(crate) async fn run(command: &BenchCommand) -> Result<()> {
    match command {
        BenchCommand::Simulate(args) => simulate::run(args).await,
    }
}
