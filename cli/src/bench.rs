//! `firn bench`: what tries Firn hard, on the machine where it is to run.

mod simulate;
mod soak;

use anyhow::Result;

/// Subcommands of `firn bench`.
#[derive(clap::Subcommand)]
pub(crate) enum BenchCommand {
    /// Let the catalog live through worlds that go wrong, and check what came of it; needs no server
    Simulate(simulate::SimulateArgs),
    /// Send a simulated fleet's inventories for a long time, then compare every row with what was sent
    Soak(Box<soak::SoakArgs>),
}

/// Runs `firn bench`.
pub(crate) async fn run(command: &BenchCommand) -> Result<()> {
    match command {
        BenchCommand::Simulate(args) => simulate::run(args).await,
        BenchCommand::Soak(args) => soak::run(args).await,
    }
}
