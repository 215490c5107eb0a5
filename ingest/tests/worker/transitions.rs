//! Transitions of findings reach `gold.transitions` once, whatever happens to the worker.

use std::{collections::BTreeMap, sync::atomic::Ordering, time::Duration};

use arrow::array::AsArray;
use bytes::Bytes;
use firn_inventory::{
    record_key,
    tables::{COMPLIANCE_TOPIC, INVENTORY_TOPIC, TENANT_HEADER},
};
use firn_stream::{Log, ProduceRecord, TopicSpec};
use serde_json::json;

use crate::{
    house::{House, Place, Running},
    replay::{QUARANTINE, replay},
};

fn transition(tenant: &str, number: u32) -> ProduceRecord {
    let host = format!("host-{}", number % 20);
    let value = json!({
        "finding_id": format!("{tenant}-{host}"), "tenant": tenant, "host_id": host, "rule_id": "firewall",
        "title": "The firewall is on", "severity": "high", "from": "compliant", "to": "open", "at_us": number,
        "version": number, "cause": "record", "reason": "in breach", "evidence": { "firewall_enabled": false },
        "revision": "r", "topic": INVENTORY_TOPIC, "partition": 0, "offset": number, "catalog_commit": "c",
    });
    produce(tenant, &host, value.to_string())
}

fn produce(tenant: &str, host: &str, value: String) -> ProduceRecord {
    ProduceRecord {
        topic: COMPLIANCE_TOPIC.to_owned(),
        key: Some(record_key(tenant, host).into()),
        partition: None,
        value: Some(value.into()),
        headers: vec![(TENANT_HEADER.to_owned(), Bytes::copy_from_slice(tenant.as_bytes()))],
    }
}

async fn house(tenants: &[&str]) -> House {
    let house = House::new(tenants).await;
    let partitions = house.log.topic(INVENTORY_TOPIC).await.unwrap().unwrap().partitions;
    let spec = TopicSpec { name: COMPLIANCE_TOPIC.to_owned(), partitions, compacted: false, retention: None };
    house.log.ensure_topic(&spec).await.unwrap();
    house
}

async fn send(house: &House, tenant: &str, numbers: std::ops::Range<u32>) -> Vec<Place> {
    house.append(numbers.map(|number| transition(tenant, number)).collect()).await
}

/// Waits until the table holds as many rows, then compares their places with what was sent.
async fn holds(house: &House, tenant: &str, sent: &[Place]) {
    house
        .until(&format!("{tenant} has {} transitions", sent.len()), async || {
            house.places_of(tenant, ("gold", "transitions")).await.len() >= sent.len()
        })
        .await;
    let mut sent = sent.to_vec();
    sent.sort_unstable();
    assert_eq!(house.places_of(tenant, ("gold", "transitions")).await, sent, "{tenant}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_workers_and_lost_answers_lose_and_double_no_transition() {
    let house = house(&["acme", "other"]).await;
    let (mut acme, mut other) = (Vec::new(), Vec::new());
    for round in 0..5_u32 {
        acme.extend(send(&house, "acme", round * 40..round * 40 + 40).await);
        other.extend(send(&house, "other", round * 10..round * 10 + 10).await);
        house.faults.answers_to_lose.store(usize::try_from(round % 3).unwrap(), Ordering::SeqCst);
        let running = Running::start(house.worker().of_transitions());
        tokio::time::sleep(Duration::from_millis(u64::from(200 + 150 * round))).await;
        running.kill().await;
    }
    let running = Running::start(house.worker().of_transitions());
    holds(&house, "acme", &acme).await;
    holds(&house, "other", &other).await;
    running.drain().await;
    let mut ends: BTreeMap<i32, i64> = BTreeMap::new();
    for (partition, offset) in &acme {
        let end = ends.entry(*partition).or_default();
        *end = (offset + 1).max(*end);
    }
    let topic_id = house.log.topic(COMPLIANCE_TOPIC).await.unwrap().unwrap().id;
    let table = house.table_of("acme", ("gold", "transitions")).await.unwrap();
    for (partition, end) in ends {
        assert_eq!(table.properties()[&format!("firn.position.{topic_id}.{partition}")], end.to_string());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_transition_is_quarantined_and_the_rest_goes_on() {
    let house = house(&["acme"]).await;
    let strange = vec![
        // As an inventory it would do.
        produce("acme", "h", "{\"finding_id\": 1, \"host_id\": \"h\"}".to_owned()),
        produce("acme", "h", String::from_utf8_lossy(&transition("other", 1).value.unwrap()).into_owned()),
    ];
    let strange = house.append(strange).await;
    let good = send(&house, "acme", 0..5).await;
    let running = Running::start(house.worker().of_transitions());
    holds(&house, "acme", &good).await;
    house.until("both are in quarantine", async || house.places("acme", "quarantine").await.len() == 2).await;
    let mut strange = strange;
    strange.sort_unstable();
    assert_eq!(house.places("acme", "quarantine").await, strange);
    let reasons: Vec<String> = house
        .rows("acme", "quarantine", "reason")
        .await
        .iter()
        .flat_map(|batch| {
            let text = arrow::compute::cast(batch.column(0), &arrow::datatypes::DataType::Utf8).unwrap();
            text.as_string::<i32>().iter().flatten().map(ToOwned::to_owned).collect::<Vec<_>>()
        })
        .collect();
    assert!(reasons.iter().any(|reason| reason.contains("no transition of a finding")), "{reasons:?}");
    assert!(reasons.iter().any(|reason| reason.contains("tenant 'other'")), "{reasons:?}");
    assert_eq!(replay(&house, "main", QUARANTINE).await, (0, 2, 0), "a transition is no inventory");
    assert_eq!(house.places("acme", "quarantine").await, strange);
    running.drain().await;
}
