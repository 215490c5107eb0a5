//! `kill -9` at any moment: nothing acknowledged is lost, nothing is counted twice.

use std::{process::Stdio, time::Duration};

use anyhow::{Context, Result};
use firn_tests::{FirnProcess, firn_command, free_port};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    ledger::Ledger,
    main_job::{DEADLINE, gold_verdicts},
};

const ROUNDS: u64 = 6;

#[tokio::test(flavor = "multi_thread")]
async fn kill_nine_at_any_moment_loses_and_doubles_nothing() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (data, ledger_file) = (dir.path().join("data"), dir.path().join("ledger.jsonl"));
    let listen = format!("127.0.0.1:{}", free_port()?);
    // Commits and promotions follow each other closely, so that each kill hits one.
    let hurry = [("FIRN_INGEST__COMMIT_INTERVAL", "300ms"), ("FIRN_PROMOTION__INTERVAL", "500ms")];
    let mut random = StdRng::seed_from_u64(20_261_122);
    for round in 0..ROUNDS {
        let firn = FirnProcess::up_at(&data, &listen, &[], &hurry).await?;
        let seed = (100 + round).to_string();
        let mut fleet = firn_command(["simulate", "--devices", "40", "--rate", "300", "--batch", "20"])?
            .args(["--count", "1500", "--malformed", "0.02", "--seed", &seed, "--ledger"])
            .arg(&ledger_file)
            .arg("--data-dir")
            .arg(&data)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        // The moment of the kill is the point of the test, not a wait for something.
        tokio::time::sleep(Duration::from_millis(random.random_range(500..4_000))).await;
        firn.kill()?;
        let ended = tokio::task::spawn_blocking(move || fleet.wait()).await?;
        ended.context("the simulator ends when its server is gone")?;
    }

    let firn = FirnProcess::up_at(&data, &listen, &[], &hurry).await?;
    let ledger = Ledger::read(&ledger_file)?;
    assert!(ledger.bronze.len() > 200, "too little was sent to tell: {}", ledger.bronze.len());
    let least = i64::try_from(ledger.bronze.len())?;
    let count = "select count(*) from bronze.inventory";
    firn.eventually("all acknowledged rows are in bronze", DEADLINE, |firn| Ok(firn.count(count)? >= least))
        .await?;
    let lag = "select count(*) from bronze.quarantine";
    let least = ledger.quarantine;
    firn.eventually("all acknowledged rejects are there", DEADLINE, |firn| Ok(firn.count(lag)? >= least))
        .await?;

    let rows = firn.sql("select event_id, count(*) as n from bronze.inventory group by event_id")?;
    let twice: Vec<_> = rows.iter().filter(|row| row["n"] != 1).collect();
    assert!(twice.is_empty(), "rows that are there twice: {twice:?}");
    let there: std::collections::BTreeSet<_> =
        rows.iter().filter_map(|row| row["event_id"].as_str().map(ToOwned::to_owned)).collect();
    let lost: Vec<_> = ledger.bronze.difference(&there).collect();
    assert!(lost.is_empty(), "acknowledged but lost: {lost:?}");
    let invented: Vec<_> =
        there.iter().filter(|id| !ledger.bronze.contains(*id) && !ledger.unknown.contains(*id)).collect();
    assert!(invented.is_empty(), "there, but never sent: {invented:?}");
    let positions = "select count(*) - count(distinct log_topic_id || '/' || cast(log_partition as varchar) || '/' || \
        cast(log_offset as varchar)) from (select log_topic_id, log_partition, log_offset from bronze.inventory union all \
        select log_topic_id, log_partition, log_offset from bronze.quarantine)";
    assert_eq!(firn.count(positions)?, 0, "a log position stands in two rows");

    let silver = i64::try_from(there.len())?;
    let promoted = "select count(*) from silver.inventory";
    firn.eventually("silver has each row once", DEADLINE, |firn| Ok(firn.count(promoted)? == silver)).await?;
    assert!(!gold_verdicts(&firn)?.is_empty());
    Ok(())
}
