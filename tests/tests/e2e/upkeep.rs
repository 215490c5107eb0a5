//! Tables by an operator's hand: what writers left behind goes, and a table goes back.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, ensure};
use firn_tests::{FirnProcess, firn_stdout};
use serde_json::Value;

use crate::main_job::DEADLINE;

const DAY: Duration = Duration::from_secs(86_400);

fn json(firn: &FirnProcess, args: &[&str]) -> Result<Value> {
    let text = firn_stdout(firn.client(args.iter().copied().chain(["--json"])))?;
    serde_json::from_str(&text).with_context(|| format!("{args:?}: {text}"))
}

/// Sends inventories, and waits until the model's table has another snapshot than before.
async fn promote(firn: &FirnProcess, seed: &str) -> Result<()> {
    let snapshots = |firn: &FirnProcess| {
        let listed = json(firn, &["table", "snapshots", "silver.inventory"]);
        listed.map_or(0, |listed| listed.as_array().map_or(0, Vec::len))
    };
    let before = snapshots(firn);
    firn_stdout(firn.client([
        "simulate",
        "--devices",
        "9",
        "--rate",
        "100",
        "--count",
        "30",
        "--seed",
        seed,
    ]))?;
    firn.eventually("silver has more rows", DEADLINE, |firn| Ok(snapshots(firn) > before)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans_go_and_a_table_goes_back_on_a_branch() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let firn = FirnProcess::up(&dir.path().join("data"), &[]).await?;
    promote(&firn, "1").await?;
    promote(&firn, "2").await?;

    let location = json(&firn, &["table", "show", "silver.inventory"])?["location"].clone();
    let folder =
        PathBuf::from(location.as_str().and_then(|text| text.strip_prefix("file://")).context("local")?);
    let (old, young) = (folder.join("data/old.parquet"), folder.join("data/young.parquet"));
    for file in [&old, &young] {
        fs::write(file, "rows")?;
    }
    fs::File::options().write(true).open(&old)?.set_modified(SystemTime::now() - 8 * DAY)?;
    let found = json(&firn, &["table", "orphans", "silver.inventory"])?;
    ensure!(found["dry_run"] == true && found["files_removed"] == 1 && found["files_young"] == 1, "{found}");
    ensure!(
        found["removed"][0]["location"].as_str().is_some_and(|text| text.ends_with("old.parquet")),
        "{found}"
    );
    ensure!(old.exists(), "listing removes nothing");
    let said = firn_stdout(firn.client(["table", "orphans", "silver.inventory", "--remove"]))?;
    ensure!(said.contains("removed 1 files (4 B)"), "{said}");
    ensure!(!old.exists() && young.exists());

    firn_stdout(firn.client(["branch", "create", "dev"]))?;
    let listed = json(&firn, &["table", "snapshots", "silver.inventory", "--ref", "dev"])?;
    let first = listed.as_array().and_then(|all| all.last()).context("no snapshots")?["id"].clone();
    let current = |reference: &str| {
        let shown = json(&firn, &["table", "show", "silver.inventory", "--ref", reference])?;
        Ok::<_, anyhow::Error>(shown["current_snapshot_id"].clone())
    };
    let id = first.to_string();
    let back = ["table", "rollback", "silver.inventory", "--ref", "dev", "--to-snapshot", &id];
    let plan = json(&firn, &[&back[..], &["--dry-run"]].concat())?;
    ensure!(
        plan["dry_run"] == true && plan["made_by_model"] == true && plan["to_snapshot"] == first,
        "{plan}"
    );
    ensure!(current("dev")? != first, "a dry run changes nothing");
    ensure!(firn_stdout(firn.client(back))?.contains("on dev: went from snapshot"));
    ensure!(current("dev")? == first && current("main")? != first);

    let refused =
        firn_tests::firn(firn.client(["table", "rollback", "bronze.inventory", "--to-commit", "main~1"]))?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(!refused.status.success() && said.contains("firn branch create"), "{said}");
    Ok(())
}
