#![allow(clippy::unwrap_used)]

use firn_inventory::{BronzeBuilder, LogPosition, bronze_schema, decode};
use firn_policy::{Verdict, compile, parse};
use serde_json::json;

use super::*;
use crate::lake::Lake;

/// Topic, partition, offset, second of receipt, whether the disk is encrypted.
async fn filled(records: &[(&str, i32, i64, i64, bool)]) -> Lake {
    let lake = Lake::open(&["acme"]).await;
    let mut builder = BronzeBuilder::default();
    for (topic_id, partition, offset, second, encrypted) in records {
        let record = json!({ "host_id": "a", "disk_encrypted": encrypted });
        let position = LogPosition {
            topic_id: (*topic_id).to_owned(),
            partition: *partition,
            offset: *offset,
            received_at_us: second * 1_000_000,
            source: "native".to_owned(),
        };
        builder.push(&decode(record.to_string().as_bytes()).unwrap(), &position);
    }
    lake.append("acme", SILVER_INVENTORY, &builder.finish()).await;
    lake
}

#[tokio::test(flavor = "multi_thread")]
async fn records_from_before_partitions_were_added_or_the_topic_was_made_anew_are_replayed_as_received() {
    // Partition 4 of once 5 gave way to partition 1 of now 7; the topic made anew has 5 again.
    let lake = filled(&[
        ("t", 4, 0, 10, false),
        ("t", 4, 1, 20, true),
        ("t", 4, 2, 30, false),
        ("t", 1, 0, 40, true),
        ("t", 1, 1, 50, false),
        ("made-anew", 4, 0, 60, true),
        ("made-anew", 4, 1, 70, false),
    ])
    .await;
    let policy = "id='enc'\ntitle='E'\nseverity='low'\nrule='disk_encrypted'";
    let rules = vec![compile(&parse(policy, "t.toml").unwrap(), &bronze_schema()).unwrap()];
    let history = async || {
        let span = (i64::MIN, i64::MAX);
        History::of(&lake.catalog.tenant("acme"), &lake.file_io, span, None).await.unwrap().unwrap()
    };
    let found = history().await.replay(std::slice::from_ref(&rules), 80_000_000).await.unwrap().remove(0);
    let second = |at_us: i64| at_us / 1_000_000;
    let told: Vec<_> = found
        .episodes
        .iter()
        .map(|episode| (second(episode.opened_us), episode.resolved_us.map(second)))
        .collect();
    assert_eq!(told, [(10, Some(20)), (30, Some(40)), (50, Some(60)), (70, None)]);

    let records = history().await.records(&Backtest::new(rules.clone(), 0).columns()).await.unwrap();
    let verdicts: Vec<_> = records.iter().flat_map(|batch| rules[0].evaluate(batch).0.verdicts).collect();
    let (pass, fail) = (Verdict::Pass, Verdict::Fail);
    assert_eq!(verdicts, [fail, pass, fail, pass, fail, pass, fail]);

    let mut hosts = Vec::new();
    history().await.hosts(&rules, |host| hosts.push(host)).await.unwrap();
    assert_eq!((hosts.len(), hosts[0].order), (1, (70_000_000, 70_000_000, 4, 1)));
    let finding = hosts[0].standings[0].finding.clone().unwrap();
    assert_eq!((finding.since_us, finding.version), (70_000_000, 7));
}
