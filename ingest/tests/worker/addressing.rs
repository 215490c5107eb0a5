//! Records that belong to nobody, tenants that are not there, topics that were recreated.

use std::collections::BTreeMap;

use arrow::util::pretty::pretty_format_batches;
use firn_catalog_client::iceberg::TableChange;
use firn_inventory::tables::{INVENTORY_TOPIC, TENANT_HEADER};
use firn_runtime::StageState;
use firn_stream::Log;
use serde_json::json;

use crate::house::{House, Running, produce};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn misaddressed_records_go_to_the_house_tenants_quarantine() {
    let house = House::new(&["acme"]).await;
    let record = r#"{"host_id":"a"}"#;
    let mut unnamed = produce("acme", "a", record);
    unnamed.headers.retain(|(name, _)| name != TENANT_HEADER);
    let mut contradicting = produce("acme", "a", record);
    contradicting.key = produce("other", "a", record).key;
    let stranger = produce("nobody", "a", record);
    house.append(vec![unnamed, contradicting, stranger, produce("acme", "a", record)]).await;
    let running = Running::start(house.worker());
    house.await_rows("acme", 1, 0).await;
    house.await_rows("firn", 0, 3).await;
    running.drain().await;
    let rows = house.rows("firn", "quarantine", "reason").await;
    let reasons = pretty_format_batches(&rows).unwrap().to_string();
    for part in ["no header 'firn-tenant'", "names tenant 'other'", "no tenant 'nobody'"] {
        assert!(reasons.contains(part), "{part}: {reasons}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenant_created_later_gets_its_own_records() {
    let house = House::new(&[]).await;
    let running = Running::start(house.worker());
    house.append(vec![produce("late", "a", r#"{"host_id":"a"}"#)]).await;
    house.await_rows("firn", 0, 1).await;
    house.create_tenant("late").await;
    house.append(vec![produce("late", "a", r#"{"host_id":"a"}"#)]).await;
    house.await_rows("late", 1, 0).await;
    running.drain().await;
    assert_eq!(house.places("firn", "quarantine").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recreated_topic_stops_its_tenant_alone_until_a_person_decides() {
    let house = House::new(&["acme", "other"]).await;
    let first = Running::start(house.worker());
    house.send("acme", 1..2).await;
    house.await_rows("acme", 1, 0).await;
    first.drain().await;
    // As it looks after the topic was deleted and created again: positions under another id only.
    let own = house.log.topic(INVENTORY_TOPIC).await.unwrap().unwrap().id;
    set_positions(&house, &own, "0000-other-topic").await;

    house.send("acme", 1..10).await;
    house.send("other", 1..10).await;
    let second = Running::start(house.worker());
    house.await_rows("other", 9, 0).await;
    house.until("acme is stopped", async || house.status("acme").state == StageState::Failing).await;
    let message = house.status("acme").message;
    assert!(message.contains("it was recreated") && message.contains("positions --forget"), "{message}");
    assert_eq!(house.places("acme", "inventory").await.len(), 1);

    set_positions(&house, "0000-other-topic", &own).await;
    house.await_rows("acme", 10, 0).await;
    second.drain().await;
}

/// Renames acme's positions from one topic id to another, in one commit.
async fn set_positions(house: &House, from: &str, to: &str) {
    let table = house.table("acme", "inventory").await.unwrap();
    let moved = table.properties().into_iter().filter(|(key, _)| key.contains(from));
    let (old, new): (Vec<_>, BTreeMap<_, _>) =
        moved.map(|(key, value)| (key.clone(), (key.replace(from, to), value))).unzip();
    let change = TableChange {
        identifier: None,
        requirements: vec![],
        updates: vec![
            json!({"action": "remove-properties", "removals": old}),
            json!({"action": "set-properties", "updates": new}),
        ],
    };
    let key = uuid::Uuid::new_v4().to_string();
    house.catalog.tenant("acme").commit_table("main", table.ident(), &change, &key).await.unwrap();
}
