//! `firn bench`: what tries Firn hard, on the machine where it is to run.

mod soak;

use anyhow::Result;

/// Subcommands of `firn bench`.
#[derive(clap::Subcommand)]
pub(crate) enum BenchCommand {
    /// Send a simulated fleet's inventories for a long time, then compare every row with what was sent
    Soak(soak::SoakArgs),
}

/// Runs `firn bench`.
pub(crate) async fn run(command: &BenchCommand) -> Result<()> {
    match command {
        BenchCommand::Soak(args) => soak::run(args).await,
    }
}
