//! Every command of the README, in its order, as a reader would paste it.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use firn_tests::{FirnProcess, firn_binary};

/// Blocks that are marked `<!-- run: NAME -->`.
fn blocks(readme: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = readme;
    while let Some((_, after)) = rest.split_once("<!-- run: ") {
        let Some((name, after)) = after.split_once(" -->") else { break };
        let Some((script, after)) =
            after.split_once("```sh\n").and_then(|(_, body)| body.split_once("\n```"))
        else {
            break;
        };
        found.push((name.to_owned(), script.to_owned()));
        rest = after;
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_the_readme_work() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the repository")?;
    let blocks = blocks(&std::fs::read_to_string(root.join("README.md"))?);
    ensure!(blocks.len() >= 8, "the README's marks were lost: {blocks:?}");

    // A folder like a reader's: the data directory beside the files that the commands name.
    let home = tempfile::tempdir()?;
    std::os::unix::fs::symlink(root.join("tests"), home.path().join("tests"))?;
    let firn = FirnProcess::up(&home.path().join("firn-data"), &[]).await?;
    let binary = firn_binary()?;
    let path = std::env::var("PATH").unwrap_or_default();
    let mut script = String::from("set -euo pipefail\n");
    for (name, block) in &blocks {
        // The reader's build is target/quick; the test's is wherever this binary lies.
        let block: Vec<&str> = block.lines().filter(|line| !line.starts_with("export PATH=")).collect();
        script += &format!("echo '--- {name}' >&2\n{}\n", block.join("\n"));
    }
    let mut command = Command::new("timeout");
    command.args(["900", "bash", "-c", &script]).current_dir(home.path());
    command.env("PATH", format!("{}:{path}", binary.parent().context("the binary's folder")?.display()));
    for name in ["FIRN_URL", "FIRN_TOKEN", "FIRN_TENANT", "FIRN_BIN"] {
        command.env_remove(name);
    }
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ended with {}\n{stdout}\n{stderr}\n{}", output.status, firn.log_tail());
    for expected in ["ada-laptop", "lab.owners", "Ada", "Add owners", "disk-encryption"] {
        ensure!(stdout.contains(expected), "nothing printed '{expected}':\n{stdout}\n{stderr}");
    }
    Ok(())
}
