//! What a log can do to ingest, on a real Kafka: records dropped before they were taken, a topic made anew, a worker that
//! comes back from the dead. Afterwards nothing is lost in silence and nothing is there twice.

use std::{process::Stdio, time::Duration};

use anyhow::{Context, Result, ensure};
use firn_tests::{FirnProcess, Kafka, Postgres, firn_command, firn_stdout, free_port, until};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
};
use serde_json::Value;

use crate::{ledger::Ledger, main_job::DEADLINE};

const TOPIC: &str = "inventory";
const GROUP: &str = "firn-ingest";
/// The broker drops a member that is silent for 10 s.
const LONGER_THAN_A_SESSION: Duration = Duration::from_secs(20);

const ROWS: &str =
    "select (select count(*) from bronze.inventory) + (select count(*) from bronze.quarantine)";

pub(crate) fn settings(kafka: &Kafka) -> String {
    let servers = kafka.bootstrap_servers();
    format!("[stream]\nbackend = \"kafka\"\nbootstrap_servers = \"{servers}\"\nreplication = 1\n")
}

fn simulate(firn: &FirnProcess, seed: &str) -> Result<String> {
    let args = ["simulate", "--devices", "20", "--rate", "500", "--count", "100", "--seed", seed];
    firn_stdout(firn.client(args))
}

/// Message of the ingest stage: of a tenant, or of the stage itself (`*`).
fn message(firn: &FirnProcess, tenant: &str) -> Result<String> {
    message_of(firn, "ingest", tenant)
}

/// Message of a stage.
pub(crate) fn message_of(firn: &FirnProcess, stage: &str, tenant: &str) -> Result<String> {
    let status: Value = serde_json::from_str(&firn_stdout(firn.client(["status", "--json"]))?)?;
    let stages = status["server"]["stages"].as_array().context("no stages")?;
    let line = stages.iter().find(|line| line["stage"] == stage && line["tenant"] == tenant);
    Ok(line.and_then(|line| line["message"].as_str()).unwrap_or_default().to_owned())
}

pub(crate) fn admin(kafka: &Kafka) -> Result<AdminClient<DefaultClientContext>> {
    Ok(ClientConfig::new().set("bootstrap.servers", kafka.bootstrap_servers()).create()?)
}

pub(crate) fn observer(kafka: &Kafka) -> Result<BaseConsumer> {
    let mut config = ClientConfig::new();
    Ok(config.set("bootstrap.servers", kafka.bootstrap_servers()).set("group.id", GROUP).create()?)
}

/// Every partition of the topic at its end.
pub(crate) fn ends(kafka: &Kafka) -> Result<TopicPartitionList> {
    let observer = observer(kafka)?;
    let metadata = observer.fetch_metadata(Some(TOPIC), Duration::from_secs(30))?;
    let mut ends = TopicPartitionList::new();
    for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
        let (_, end) = observer.fetch_watermarks(TOPIC, partition.id(), Duration::from_secs(30))?;
        ends.add_partition_offset(TOPIC, partition.id(), Offset::Offset(end))?;
    }
    Ok(ends)
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_retention_dropped_are_missed_aloud_and_given_up_by_hand() -> Result<()> {
    let kafka = Kafka::start().await?;
    let dir = tempfile::tempdir()?;
    let config = dir.path().join("firn.toml");
    std::fs::write(&config, settings(&kafka))?;
    let (config, data) = (config.to_string_lossy().into_owned(), dir.path().join("data"));
    let firn = FirnProcess::up(&data, &["--config", &config]).await?;
    simulate(&firn, "1")?;
    firn.eventually("the first are in", DEADLINE, |firn| Ok(firn.count(ROWS).unwrap_or(0) == 100)).await?;
    firn_stdout(firn.client(["ingest", "suspend"]))?;
    simulate(&firn, "2")?;
    ensure!(firn.stop().await?.success());

    // What retention would do in a week.
    let ends = ends(&kafka)?;
    admin(&kafka)?.delete_records(&ends, &AdminOptions::new()).await?;
    let firn = FirnProcess::up(&data, &["--config", &config]).await?;
    let aloud = firn.eventually("the loss is told with the way out", DEADLINE, |firn| {
        let message = message(firn, "*")?;
        Ok(message.contains("records were dropped before they were taken")
            && message.contains("set the group's offset"))
    });
    aloud.await?;
    let positions = firn_stdout(firn.client(["ingest", "positions"]))?;
    ensure!(positions.contains("PROBLEM") && positions.contains("dropped from the log"), "{positions}");
    ensure!(firn.count(ROWS)? == 100, "nothing is taken meanwhile");

    // The way out.
    firn_stdout(firn.client(["ingest", "resume"])).ok();
    until("the group is empty and takes the offsets", DEADLINE, async || {
        observer(&kafka)?.commit(&ends, CommitMode::Sync)?;
        anyhow::Ok(())
    })
    .await?;
    simulate(&firn, "3")?;
    firn.eventually("it goes on behind the gap", DEADLINE, |firn| Ok(firn.count(ROWS)? == 200)).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn topic_made_anew_stops_its_tenants_until_a_person_decides() -> Result<()> {
    let kafka = Kafka::start().await?;
    let dir = tempfile::tempdir()?;
    let config = dir.path().join("firn.toml");
    std::fs::write(&config, settings(&kafka))?;
    let config = config.to_string_lossy().into_owned();
    let firn = FirnProcess::up(&dir.path().join("data"), &["--config", &config]).await?;
    simulate(&firn, "1")?;
    firn.eventually("the first are in", DEADLINE, |firn| Ok(firn.count(ROWS).unwrap_or(0) == 100)).await?;

    // The running worker must notice, not only the next one.
    let admin = admin(&kafka)?;
    admin.delete_topics(&[TOPIC], &AdminOptions::new()).await?;
    firn.eventually("the topic is there again", DEADLINE, |firn| Ok(simulate(firn, "2").is_ok())).await?;
    let stopped = firn.eventually("the tenant is stopped with the way out", DEADLINE, |firn| {
        Ok(message(firn, "default")?.contains("firn ingest positions --forget "))
    });
    stopped.await?;
    ensure!(firn.count(ROWS)? == 100, "where to go on is not guessed");
    let positions = firn_stdout(firn.client(["ingest", "positions"]))?;
    ensure!(positions.contains("PROBLEM") && positions.contains("it was recreated"), "{positions}");

    let present = positions.split("(id ").nth(1).and_then(|rest| rest.split(')').next()).context("no id")?;
    let refused = firn_tests::firn(firn.client(["ingest", "positions", "--forget", present]))?;
    ensure!(!refused.status.success(), "the present topic's positions stay");
    let told = message(&firn, "default")?;
    let gone =
        told.split("--forget ").nth(1).and_then(|rest| rest.split('\'').next()).context("no way out")?;
    firn_stdout(firn.client(["ingest", "positions", "--forget", gone]))?;
    firn.eventually("the new topic is read from its beginning", DEADLINE, |firn| Ok(firn.count(ROWS)? == 200))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn worker_that_was_stopped_and_comes_back_commits_nothing_twice() -> Result<()> {
    let (postgres, kafka) = (Postgres::start().await?, Kafka::start().await?);
    let dir = tempfile::tempdir()?;
    let config = dir.path().join("firn.toml");
    let warehouse = dir.path().join("warehouse");
    let key = dir.path().join("one/keys/signing.pem");
    // Commits follow each other closely, so that the stop hits one.
    let shared = format!(
        "{}[catalog]\ndatabase_url = \"{}\"\n[storage]\nwarehouse = \"file://{}\"\n[ingest]\ncommit_interval = \"300ms\"\n\
         [promotion]\ninterval = \"1h\"\n",
        settings(&kafka),
        postgres.url(),
        warehouse.display()
    );
    std::fs::write(&config, &shared)?;
    let first = config.to_string_lossy().into_owned();
    let zombie = FirnProcess::up(&dir.path().join("one"), &["--config", &first]).await?;
    let second = dir.path().join("second.toml");
    std::fs::write(&second, format!("{shared}[auth]\nsigning_key = \"file:{}\"\n", key.display()))?;
    let second = second.to_string_lossy().into_owned();
    let listen = format!("127.0.0.1:{}", free_port()?);
    let heir = FirnProcess::up_at(&dir.path().join("two"), &listen, &["--config", &second], &[]).await?;

    let ledger_file = dir.path().join("ledger.jsonl");
    let mut fleet =
        firn_command(["simulate", "--devices", "40", "--rate", "80", "--count", "4000", "--seed", "3"])?
            .args(["--malformed", "0.02", "--ledger"])
            .arg(&ledger_file)
            .arg("--data-dir")
            .arg(dir.path().join("two"))
            .stdout(Stdio::null())
            .spawn()?;
    let started = "select count(*) from bronze.inventory";
    heir.eventually("records flow", DEADLINE, |firn| Ok(firn.count(started).unwrap_or(0) > 200)).await?;
    zombie.signal(rustix::process::Signal::STOP)?;
    // Being silent for this long is what makes it a zombie; there is nothing to wait for.
    tokio::time::sleep(LONGER_THAN_A_SESSION).await;
    zombie.signal(rustix::process::Signal::CONT)?;
    let ended = tokio::task::spawn_blocking(move || fleet.wait()).await??;
    ensure!(ended.success(), "the simulator ended with {ended}");

    let ledger = Ledger::read(&ledger_file)?;
    ensure!(ledger.bronze.len() > 3000 && ledger.unknown.is_empty(), "{} sent", ledger.bronze.len());
    let sent = i64::try_from(ledger.bronze.len())? + ledger.quarantine;
    heir.eventually("all are in", DEADLINE, |firn| Ok(firn.count(ROWS)? >= sent)).await?;
    ensure!(heir.count(ROWS)? == sent, "a record is there twice");
    let ids = "select count(distinct event_id) from bronze.inventory";
    ensure!(heir.count(ids)? == i64::try_from(ledger.bronze.len())?);
    // And it works again: what it says of itself is not that it fails.
    zombie
        .eventually("the one that came back runs", DEADLINE, |firn| Ok(message(firn, "*")?.is_empty()))
        .await
}
