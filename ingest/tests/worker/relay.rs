//! Records of other producers, through the relay and the worker.

use arrow::array::RecordBatch;
use bytes::Bytes;
use firn_ingest::Relay;
use firn_inventory::tables::{TENANT_HEADER, producers_topic};
use firn_stream::{Log, ProduceRecord, TopicSpec};
use tokio_util::sync::CancellationToken;

use crate::house::{House, Running};

async fn open(house: &House, tenant: &str) {
    let spec = TopicSpec { name: producers_topic(tenant), partitions: 3, compacted: false, retention: None };
    house.log.ensure_topic(&spec).await.unwrap();
}

async fn produce(house: &House, tenant: &str, headers: &[(&str, &str)], values: &[String]) {
    let record = |value: &String| ProduceRecord {
        topic: producers_topic(tenant),
        key: None,
        partition: None,
        value: Some(Bytes::from(value.clone())),
        headers: headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Bytes::from((*value).to_owned())))
            .collect(),
    };
    for appended in house.log.append(values.iter().map(record).collect()).await {
        appended.unwrap();
    }
}

fn inventories(numbers: std::ops::Range<u32>) -> Vec<String> {
    numbers.map(|number| format!(r#"{{"host_id":"pc-{}","seq":{number}}}"#, number % 20)).collect()
}

fn text(rows: &[RecordBatch]) -> String {
    arrow::util::pretty::pretty_format_batches(rows).unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_other_producers_are_copied_once_over_kills_and_contradictions_are_quarantined() {
    let house = House::new(&["acme", "other"]).await;
    open(&house, "acme").await;
    open(&house, "nobody").await;
    produce(&house, "acme", &[], &inventories(0..100)).await;
    produce(&house, "nobody", &[], &inventories(0..5)).await;
    let relay = || Relay::new(house.log.clone(), house.catalog.clone(), house.board.clone());
    let worker = Running::start(house.worker());
    for round in 0..6_u32 {
        let (stop, relay) = (CancellationToken::new(), relay());
        let running = tokio::spawn(async move { relay.run(stop).await });
        tokio::time::sleep(std::time::Duration::from_millis(u64::from(20 + 40 * round))).await;
        running.abort();
        produce(&house, "acme", &[], &inventories(100 + 50 * round..150 + 50 * round)).await;
    }
    let (stop, last) = (CancellationToken::new(), relay());
    let stopped = stop.clone();
    let running = tokio::spawn(async move { last.run(stopped).await });
    produce(&house, "acme", &[], &["{".to_owned(), "[]".to_owned(), r#"{"os_name":"x"}"#.to_owned()]).await;
    produce(&house, "acme", &[(TENANT_HEADER, "other")], &inventories(0..4)).await;
    house.await_rows("acme", 400, 7).await;

    let reasons = text(&house.rows("acme", "quarantine", "DISTINCT reason").await);
    assert!(reasons.contains("the record's header names tenant 'other', its topic 'acme'"), "{reasons}");
    assert!(reasons.contains("field 'host_id' is missing"), "{reasons}");
    assert_eq!(
        house.rows("other", "inventory", "host_id").await.len(),
        0,
        "nothing came to the tenant that was named"
    );
    let sources = text(&house.rows("acme", "inventory", "DISTINCT source").await);
    assert_eq!(sources.lines().nth(3), Some("| kafka  |"), "{sources}");

    // A topic that appears while it runs.
    open(&house, "other").await;
    produce(&house, "other", &[], &inventories(0..10)).await;
    house.await_rows("other", 10, 0).await;
    stop.cancel();
    running.await.unwrap().unwrap();
    worker.drain().await;
}
