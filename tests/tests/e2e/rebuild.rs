//! All states of alerts are lost: the command makes them anew from the ledger, and findings go on.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use firn_stream::{Contents, EmbeddedConfig, EmbeddedLog, Log as _, ProduceRecord, Record, TopicPartition};
use firn_tests::{FirnProcess, firn, firn_stdout};
use serde_json::Value;

use crate::{
    ledger::Ledger,
    main_job::{DEADLINE, with_status},
};

const LIVE: &str = "open,pending,acknowledged";

#[tokio::test(flavor = "multi_thread")]
async fn lost_states_come_back_from_the_ledger() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let data = dir.path().join("data");
    let server = FirnProcess::up(&data, &[]).await?;
    let ledger_file = dir.path().join("ledger.jsonl");
    let ledger_path = ledger_file.to_string_lossy();
    let simulate = |server: &FirnProcess, seed: &str| {
        let run = ["simulate", "--devices", "40", "--rate", "200", "--count", "300", "--seed", seed];
        firn_stdout(server.client(run.into_iter().chain(["--ledger", &ledger_path])))
    };
    simulate(&server, "5")?;
    let breaches = Ledger::read(&ledger_file)?.breaches();
    server
        .eventually("findings equal the ledger", DEADLINE, |firn| Ok(with_status(firn, LIVE)? == breaches))
        .await?;
    let ls = ["findings", "ls", "--json", "--status", "open", "-n", "1000"];
    let open: Vec<Value> = serde_json::from_str(&firn_stdout(server.client(ls))?)?;
    let mine = open.first().and_then(|finding| finding["id"].as_str()).context("nothing is open")?.to_owned();
    server.run(["findings", "ack", &mine, "-n", "mine"])?;
    let acknowledged = ["findings", "ls", "--json", "--status", "acknowledged"];
    server
        .eventually("it is acknowledged", DEADLINE, |firn| Ok(firn.run(acknowledged)?.contains(&mine)))
        .await?;

    let directory = data.to_string_lossy().into_owned();
    let command = ["alerts", "rebuild", "--data-dir", &directory];
    let error = firn(command)?;
    let text = String::from_utf8_lossy(&error.stderr).into_owned();
    ensure!(!error.status.success() && text.contains("stop it first"), "{text}");
    ensure!(server.stop().await?.success());
    let plan = || -> Result<Value> {
        Ok(serde_json::from_str(&firn_stdout(command.into_iter().chain(["--dry-run", "--json"]))?)?)
    };
    let sound = plan()?;
    ensure!(sound["lost"] == 0 && sound["wrong"] == 0 && sound["hosts"] == 40, "{sound}");

    forget_states(&data.join("log.sqlite")).await?;
    let plan = plan()?;
    ensure!(plan["lost"] == 40 && plan["dry_run"] == true, "{plan}");
    let done = firn_stdout(command)?;
    ensure!(done.contains("40 of 40 states were made anew (40 lost, 0 wrong)"), "{done}");

    let server = FirnProcess::up(&data, &[]).await?;
    simulate(&server, "6")?;
    let breaches = Ledger::read(&ledger_file)?.breaches();
    server.eventually("findings go on", DEADLINE, |firn| Ok(with_status(firn, LIVE)? == breaches)).await?;
    ensure!(server.stop().await?.success());
    Ok(())
}

/// What each computer's state says ends with a record without a value.
async fn forget_states(file: &Path) -> Result<()> {
    const STATES: &str = "alerts-state";
    let log = EmbeddedLog::open(EmbeddedConfig::new(file))?;
    for (range, partition) in log.offsets(STATES).await?.into_iter().zip(0..) {
        let from = TopicPartition { topic: STATES.to_owned(), partition };
        let mut contents = Contents::new(log.as_ref(), from, range);
        while let Some(records) = contents.next().await? {
            let forget = |record: Record| ProduceRecord {
                topic: STATES.to_owned(),
                key: record.key,
                partition: Some(partition),
                value: None,
                headers: record.headers,
            };
            for result in log.append(records.into_iter().map(forget).collect()).await {
                result?;
            }
        }
    }
    Ok(())
}
