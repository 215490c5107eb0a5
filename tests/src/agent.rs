//! Other people's inventory agents, from Debian's packages.

use std::{
    process::{Command, Output},
    time::Duration,
};

use anyhow::{Context, Result, bail};

/// They look at every package and device, on a loaded machine.
const DEADLINE: Duration = Duration::from_secs(300);

/// A command of an agent.
///
/// # Errors
/// If it isn't installed; the error names the command that installs it.
pub fn agent(name: &str) -> Result<Command> {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(name).is_file()));
    if !found {
        bail!("{name} is not installed: apt-get install {name} (scripts/test does it)");
    }
    Ok(Command::new(name))
}

/// Runs an agent to its end.
///
/// # Errors
/// If it can't be started or takes too long.
pub async fn run_agent(command: Command) -> Result<Output> {
    let mut command = tokio::process::Command::from(command);
    command.kill_on_drop(true);
    let ended = tokio::time::timeout(DEADLINE, command.output()).await;
    ended.with_context(|| format!("{command:?} did not end"))?.with_context(|| format!("running {command:?}"))
}
