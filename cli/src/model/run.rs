//! `firn model run`: models at once, on main or on a branch, by the run that the service does.

use anyhow::{Result, bail};
use firn_compactor::{CompactorConfig, ModelRuns, RunRequest, RunState};

use super::file_io;
use crate::{connection::ConnectionArgs, output, promote};

/// Arguments of `firn model run`.
#[derive(clap::Args)]
pub(crate) struct RunArgs {
    /// Outputs of the models that run, such as gold.compliance, 'gold.*', +gold.compliance with what it reads, or silver.device+
    /// with what reads it (default: all)
    models: Vec<String>,
    /// Branch to run on: it shows what the models make, and nothing else changes
    #[arg(long = "ref", default_value = "main")]
    reference: String,
    /// Compute everything anew
    #[arg(long)]
    full: bool,
    /// Make tables anew whose columns no longer fit what their models make
    #[arg(long)]
    rebuild: bool,
    /// At most so many models at the same time
    #[arg(long, value_name = "COUNT", default_value_t = CompactorConfig::default().parallel_models)]
    parallel: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Runs, and prints what `firn promote show` would.
pub(super) async fn run(args: &RunArgs) -> Result<()> {
    let client = args.connection.connect().await?.lake_client()?;
    let config = CompactorConfig {
        holder: format!("firn-model-{}", uuid::Uuid::new_v4().simple()),
        parallel_models: args.parallel,
        ..CompactorConfig::default()
    };
    let request = RunRequest {
        reference: args.reference.clone(),
        models: args.models.clone(),
        full: args.full,
        rebuild: args.rebuild,
        early: true,
    };
    let record = ModelRuns::new(config, file_io())?.run(&client, &request).await?;
    if args.json {
        output::json(&record)?;
    } else {
        promote::print(&record)?;
    }
    match record.state {
        RunState::Failed => bail!("run {} failed; {} is as it was", record.run, args.reference),
        _ => Ok(()),
    }
}
