//! What happens in the catalog, as CloudEvents on a real Kafka: each event once and in order, however often the publisher is
//! killed.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use firn_tests::{FirnProcess, Kafka, firn_stdout, free_port, until};
use rand::{Rng, SeedableRng, rngs::StdRng};
use rdkafka::{
    ClientConfig, Message as _,
    consumer::{BaseConsumer, Consumer as _},
    message::Headers as _,
};
use serde_json::Value;

use crate::main_job::DEADLINE;

const TOPIC: &str = "catalog-events";
const ROUNDS: u64 = 3;
const TAGS_PER_ROUND: u64 = 6;

#[tokio::test(flavor = "multi_thread")]
async fn every_event_is_published_once_and_in_order_over_kills() -> Result<()> {
    let kafka = Kafka::start().await?;
    let dir = tempfile::tempdir()?;
    let config = dir.path().join("firn.toml");
    let settings = format!(
        "[catalog]\nevents_topic = \"{TOPIC}\"\n\
         [stream]\nbackend = \"kafka\"\nbootstrap_servers = \"{}\"\nreplication = 1\n",
        kafka.bootstrap_servers()
    );
    std::fs::write(&config, settings)?;
    let (data, config) = (dir.path().join("data"), config.to_string_lossy().into_owned());
    let listen = format!("127.0.0.1:{}", free_port()?);
    let mut random = StdRng::seed_from_u64(7);
    let reader = reader(&kafka)?;
    let mut published = Vec::new();
    for round in 0..ROUNDS {
        let firn = FirnProcess::up_at(&data, &listen, &["--config", &config], &[]).await?;
        for tag in 0..TAGS_PER_ROUND {
            firn.run(["tag", "create", &format!("r{round}-{tag}")])?;
            if tag == 0 {
                // The broker waits for the killed one before it gives its partitions to this.
                until_published(&reader, &mut published, &format!("r{round}-0")).await?;
            }
        }
        // The moment of the kill is the point of the test, not a wait for something.
        tokio::time::sleep(Duration::from_millis(random.random_range(0..1_500))).await;
        firn.kill()?;
    }

    let firn = FirnProcess::up_at(&data, &listen, &["--config", &config], &[]).await?;
    firn.run(["tag", "create", "last"])?;
    until_published(&reader, &mut published, "last").await?;

    let events = events(&firn)?;
    ensure!(events.len() > usize::try_from(ROUNDS * TAGS_PER_ROUND)?, "too few to tell: {events:?}");
    let known: Vec<(String, Value)> =
        events.iter().map(|event| (event["sequence"].to_string(), event["data"].clone())).collect();
    let ours: Vec<(String, Value)> = published
        .iter()
        .filter(|event| event.tenant == "default")
        .map(|event| (event.headers["ce_id"].clone(), event.data.clone()))
        .collect();
    // The pipeline goes on meanwhile: the catalog may know more by now.
    ensure!(known.starts_with(&ours), "published {ours:?}\nbut there are {known:?}");

    let last = published.iter().find(|event| event.data["reference"] == "last").context("the last tag")?;
    let expected = [
        ("ce_specversion", "1.0"),
        ("ce_source", "/v1/tenants/default/events"),
        ("ce_type", "firn.catalog.reference-created"),
        ("ce_subject", "last"),
        ("content-type", "application/json"),
    ];
    for (name, value) in expected {
        ensure!(last.headers.get(name).map(String::as_str) == Some(value), "{name}: {:?}", last.headers);
    }
    ensure!(firn.stop().await?.success());
    Ok(())
}

#[derive(Debug)]
struct Published {
    tenant: String,
    headers: BTreeMap<String, String>,
    data: Value,
}

/// Reads until the event of this tag is there.
async fn until_published(reader: &BaseConsumer, published: &mut Vec<Published>, tag: &str) -> Result<()> {
    until("the event is published", DEADLINE, async || {
        published.extend(read(reader)?);
        let told = published.iter().any(|event| event.data["reference"] == tag);
        ensure!(told, "{} events so far, none of {tag}", published.len());
        Ok(())
    })
    .await
}

fn reader(kafka: &Kafka) -> Result<BaseConsumer> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", kafka.bootstrap_servers())
        .set("group.id", "anyone")
        .set("auto.offset.reset", "earliest")
        .set("isolation.level", "read_committed")
        // The topic is made later.
        .set("topic.metadata.refresh.interval.ms", "1000");
    let reader: BaseConsumer = config.create()?;
    reader.subscribe(&[TOPIC])?;
    Ok(reader)
}

fn read(reader: &BaseConsumer) -> Result<Vec<Published>> {
    let mut read = Vec::new();
    while let Some(message) = reader.poll(Duration::from_millis(500)) {
        // The topic isn't there yet.
        let Ok(message) = message else { break };
        let text = |bytes: Option<&[u8]>| {
            Ok::<_, anyhow::Error>(String::from_utf8(bytes.context("empty")?.to_vec())?)
        };
        let headers = message.headers().context("no headers")?;
        read.push(Published {
            tenant: text(message.key())?,
            headers: headers
                .iter()
                .map(|header| Ok((header.key.to_owned(), text(header.value)?)))
                .collect::<Result<_>>()?,
            data: serde_json::from_str(&text(message.payload())?)?,
        });
    }
    Ok(read)
}

/// All events, as the catalog tells them.
fn events(firn: &FirnProcess) -> Result<Vec<Value>> {
    let lines = firn_stdout(firn.client(["events", "--json", "-n", "100000"]))?;
    lines.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}
