//! Kafka clients of another language, producing into a tenant's own topic.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use firn_tests::{FirnProcess, Kafka, confluent};
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};

use crate::{
    faults::{admin, settings},
    main_job::DEADLINE,
};

#[tokio::test(flavor = "multi_thread")]
async fn confluent_kafkas_records_reach_bronze_or_quarantine_of_the_topics_tenant() -> Result<()> {
    let kafka = Kafka::start().await?;
    let dir = tempfile::tempdir()?;
    let config = dir.path().join("firn.toml");
    std::fs::write(&config, settings(&kafka))?;
    let config = config.to_string_lossy().into_owned();
    let firn = FirnProcess::up(&dir.path().join("data"), &["--config", &config]).await?;
    let topic = NewTopic::new("inventory.default", 4, TopicReplication::Fixed(1));
    for made in admin(&kafka)?.create_topics(&[topic], &AdminOptions::new()).await? {
        made.map_err(|(topic, code)| anyhow::anyhow!("{topic}: {code}"))?;
    }
    let servers = kafka.bootstrap_servers();
    let said = confluent("confluent_produces.py", &[&servers, "inventory.default"])?;
    ensure!(said["failures"].as_array().is_some_and(Vec::is_empty), "{said}");

    let count = |table: &str| format!("select count(*) from bronze.{table}");
    firn.eventually("all are taken", DEADLINE, |firn| {
        Ok(firn.count(&count("inventory"))? == said["well_formed"].as_i64().unwrap_or_default()
            && firn.count(&count("quarantine"))? == said["quarantined"].as_i64().unwrap_or_default())
    })
    .await?;
    let rows = firn.sql("select source, count(*) as n, count(distinct host_id) as hosts from bronze.inventory group by source")?;
    ensure!(rows.len() == 1 && rows[0]["source"] == "kafka" && rows[0]["hosts"] == 10, "{rows:?}");
    let kept = "select count(*) from bronze.inventory where extra like '%rack%' and received_at > '2020-01-01T00:00:00Z'";
    ensure!(firn.count(kept)? == 50, "unknown fields are kept, and the time of receipt is Firn's");
    let reasons: BTreeMap<String, i64> = firn
        .sql("select reason_kind as kind, count(*) as n from bronze.quarantine group by reason_kind")?
        .into_iter()
        .map(|row| {
            (row["kind"].as_str().unwrap_or_default().to_owned(), row["n"].as_i64().unwrap_or_default())
        })
        .collect();
    let expected = [
        ("misaddressed", 2),
        ("missing_field", 1),
        ("not_an_object", 1),
        ("not_json", 2),
        ("tombstone", 1),
        ("wrong_type", 1),
    ];
    let expected = expected.into_iter().map(|(kind, n)| (kind.to_owned(), n)).collect::<BTreeMap<_, _>>();
    ensure!(reasons == expected, "{reasons:?}");
    Ok(())
}
