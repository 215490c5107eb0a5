//! Partitions are added to `inventory` under load: alerts stop and say so, and go on after `firn alerts repartition`.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use firn_tests::{FirnProcess, Kafka, firn_command, firn_stdout, until};
use rdkafka::admin::{AdminOptions, NewPartitions};
use serde_json::Value;

use crate::{
    faults::{admin, message_of, settings},
    ledger::Ledger,
    main_job::{DEADLINE, findings},
};

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_added_and_a_killed_repartition_is_completed_by_the_next() -> Result<()> {
    let kafka = Kafka::start().await?;
    let dir = tempfile::tempdir()?;
    let (config, data) = (dir.path().join("firn.toml"), dir.path().join("data"));
    let shared = format!(
        "{}[storage]\nwarehouse = \"file://{}\"\n",
        settings(&kafka),
        dir.path().join("warehouse").display()
    );
    std::fs::write(&config, &shared)?;
    let firn = FirnProcess::up(&data, &["--config", &config.to_string_lossy()]).await?;
    let ledger_file = dir.path().join("ledger.jsonl");
    let ledger_path = ledger_file.to_string_lossy();
    let simulate = |seed: &str| {
        let run = ["simulate", "--devices", "40", "--rate", "200", "--count", "300", "--seed", seed];
        firn_stdout(firn.client(run.into_iter().chain(["--ledger", &ledger_path])))
    };
    simulate("5")?;
    let told = "select count(*) from gold.transitions";
    firn.eventually("findings are told", DEADLINE, |firn| Ok(firn.count(told).unwrap_or(0) > 0)).await?;

    admin(&kafka)?.create_partitions(&[NewPartitions::new("inventory", 12)], &AdminOptions::new()).await?;
    simulate("6")?;
    // Its client learns within a minute that there are more.
    let stopped = firn.eventually("alerts stop with the way out", Duration::from_secs(150), |firn| {
        Ok(message_of(firn, "alerts", "*")?.contains("run 'firn alerts repartition'"))
    });
    stopped.await?;
    simulate("7")?;

    let alone = dir.path().join("alone.toml");
    let key = data.join("keys/signing.pem");
    std::fs::write(
        &alone,
        format!(
            "{shared}[catalog]\nurl = \"{}\"\n[auth]\nsigning_key = \"file:{}\"\n",
            firn.url(),
            key.display()
        ),
    )?;
    let alone = alone.to_string_lossy().into_owned();
    let command = ["alerts", "repartition", "--config", &alone];
    let plan: Value =
        serde_json::from_str(&firn_stdout(command.into_iter().chain(["--dry-run", "--json"]))?)?;
    ensure!(plan["partitions_before"] == 8 && plan["partitions"] == 12, "{plan}");
    ensure!(plan["hosts"].as_u64() > Some(0) && plan["records"].as_u64() > Some(0), "{plan}");

    // Killed wherever it is by then; what it had begun ends with it.
    let mut killed = firn_command(command.into_iter().chain(["--settle", "1s"]))?.spawn()?;
    let begun = until("it has begun", DEADLINE, async || {
        let count = kafka_partitions(&kafka, "alerts-state")?;
        ensure!(count == 12, "{count} partitions");
        anyhow::Ok(())
    });
    begun.await?;
    killed.kill()?;
    killed.wait()?;
    let done: Value = serde_json::from_str(&firn_stdout(command.into_iter().chain(["--json"]))?)?;
    ensure!(done["partitions"] == 12 && done["hosts"].as_u64() > Some(0), "{done}");

    let ledger = Ledger::read(&ledger_file)?;
    ensure!(ledger.unknown.is_empty(), "{ledger:?}");
    let breaches = ledger.breaches();
    firn.eventually("findings equal the ledger", DEADLINE, |firn| Ok(findings(firn)? == breaches)).await?;
    simulate("8")?;
    let breaches = Ledger::read(&ledger_file)?.breaches();
    firn.eventually("and go on so", DEADLINE, |firn| Ok(findings(firn)? == breaches)).await?;
    // A finding's transitions follow each other: it doesn't open or end twice in a row.
    let ls = ["findings", "ls", "--json", "--status", "open", "-n", "1000"];
    let open: Vec<Value> = serde_json::from_str(&firn_stdout(firn.client(ls))?)?;
    let newest = "select count(*) from (select finding_id, to_status, row_number() over (partition by finding_id order by \
                  version desc) as newest from gold.transitions) where newest = 1 and to_status = 'open'";
    let all = i64::try_from(open.len())?;
    firn.eventually("gold.transitions has all", DEADLINE, |firn| Ok(firn.count(newest)? == all)).await?;
    let twice = "select count(*) from (select to_status, lag(to_status) over (partition by finding_id order by version) as \
                 before from gold.transitions) where to_status = before";
    ensure!(firn.count(twice)? == 0, "something was told twice in a row");
    ensure!(firn.stop().await?.success());
    Ok(())
}

fn kafka_partitions(kafka: &Kafka, topic: &str) -> Result<usize> {
    let metadata = crate::faults::observer(kafka)?;
    let metadata =
        rdkafka::consumer::Consumer::fetch_metadata(&metadata, Some(topic), Duration::from_secs(30))?;
    Ok(metadata.topics().first().context("no such topic")?.partitions().len())
}
