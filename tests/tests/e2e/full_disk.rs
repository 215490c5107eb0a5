//! A disk that takes no more, and then does again: what was acknowledged stays, what can't be kept is refused.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result};
use firn_tests::{FirnProcess, firn_command, free_port};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::{ledger::Ledger, main_job::DEADLINE};

/// Every write of the server beyond this many bytes into a file fails from now on, whatever file it is. A full disk answers
/// alike, but can't be had without a privilege.
fn limit_files(firn: &FirnProcess, bytes: Option<u64>) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(firn.pid())?).context("a process id")?;
    prlimit(Some(pid), Resource::Fsize, Rlimit { current: bytes, maximum: None })?;
    Ok(())
}

/// Sends records of a fleet; answers whether all were taken, and what was said.
fn simulate(data: &Path, ledger: &Path, seed: &str) -> Result<(bool, String)> {
    let mut fleet =
        firn_command(["simulate", "--devices", "20", "--count", "200", "--seed", seed, "--ledger"])?;
    let output = fleet.arg(ledger).arg("--data-dir").arg(data).output()?;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_and_then_goes_on() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (data, ledger_file) = (dir.path().join("data"), dir.path().join("ledger.jsonl"));
    let listen = format!("127.0.0.1:{}", free_port()?);
    let hurry = [("FIRN_INGEST__COMMIT_INTERVAL", "300ms")];
    let firn = FirnProcess::up_at(&data, &listen, &[], &hurry).await?;
    let count = "select count(*) from bronze.inventory";
    let equals_ledger = |firn: &FirnProcess| {
        let acknowledged = Ledger::read(&ledger_file)?.bronze.len();
        Ok(firn.count(count)? == i64::try_from(acknowledged)?)
    };

    let (taken, said) = simulate(&data, &ledger_file, "1")?;
    assert!(taken, "{said}");
    // At once, so that part of what was acknowledged is still on its way into files.
    limit_files(&firn, Some(0))?;
    let before = Ledger::read(&ledger_file)?.bronze.len();
    let (taken, said) = simulate(&data, &ledger_file, "2")?;
    assert!(!taken && said.contains("503"), "it says that nothing can be taken now: {said}");
    assert_eq!(
        Ledger::read(&ledger_file)?.bronze.len(),
        before,
        "nothing was acknowledged that can't be kept"
    );
    assert!(firn.sql("select 1 as one").is_ok(), "it still answers: {}", firn.log_tail());

    limit_files(&firn, None)?;
    firn.eventually("what was acknowledged is in bronze", DEADLINE, equals_ledger).await?;
    let (taken, said) = simulate(&data, &ledger_file, "3")?;
    assert!(taken, "there is room again: {said}");
    firn.eventually("what came later, too", DEADLINE, equals_ledger).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(equals_ledger(&firn)?, "nothing arrived twice");
    assert!(firn.stop().await?.success());
    Ok(())
}
