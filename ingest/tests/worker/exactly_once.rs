//! No record lost, none twice, positions equal the data: whatever happens to the worker.

use std::{collections::BTreeMap, sync::atomic::Ordering, time::Duration};

use firn_inventory::tables::INVENTORY_TOPIC;
use firn_runtime::StageState;
use firn_stream::Log;

use crate::house::{House, Place, Running};

/// Rows of both tables are the sent records, each once, and the positions lie right behind them.
pub(crate) async fn check(house: &House, tenant: &str, sent: &[Place]) {
    check_at(house, tenant, "main", sent).await;
}

/// The same on a branch.
pub(crate) async fn check_at(house: &House, tenant: &str, branch: &str, sent: &[Place]) {
    let mut places = house.places_at(tenant, branch, "inventory").await;
    places.extend(house.places_at(tenant, branch, "quarantine").await);
    places.sort_unstable();
    let mut sent = sent.to_vec();
    sent.sort_unstable();
    assert_eq!(places, sent, "{tenant}: every record in exactly one table");
    let mut ends: BTreeMap<i32, i64> = BTreeMap::new();
    for (partition, offset) in sent {
        let end = ends.entry(partition).or_default();
        *end = (offset + 1).max(*end);
    }
    assert_eq!(house.positions_at(tenant, branch).await, ends, "{tenant}: positions equal the data");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_reach_bronze_and_quarantine() {
    let house = House::new(&["acme", "other"]).await;
    let acme = house.send("acme", 0..100).await;
    let other = house.send("other", 0..50).await;
    let running = Running::start(house.worker());
    house.await_rows("acme", 90, 10).await;
    house.await_rows("other", 45, 5).await;
    check(&house, "acme", &acme).await;
    check(&house, "other", &other).await;
    running.drain().await;

    let committed = house.log.committed("firn-ingest", INVENTORY_TOPIC).await.unwrap();
    let committed: i64 = committed.into_iter().flatten().sum();
    assert_eq!(committed, 150, "the group's offsets are committed at the end");
    let status = house.status("acme");
    assert_eq!(
        (status.state, status.totals["records"], status.totals["quarantined"]),
        (StageState::Running, 90, 10)
    );
    assert!(status.fresh_until_ms.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_workers_lose_and_repeat_nothing() {
    let house = House::new(&["acme", "other"]).await;
    let (mut acme, mut other) = (Vec::new(), Vec::new());
    for round in 0..12_u32 {
        acme.extend(house.send("acme", round * 30..round * 30 + 30).await);
        other.extend(house.send("other", round * 10..round * 10 + 10).await);
        let running = Running::start(house.worker());
        // Into different steps of a commit each time.
        tokio::time::sleep(Duration::from_millis(u64::from(150 + 70 * round))).await;
        running.kill().await;
    }
    let running = Running::start(house.worker());
    house.await_rows("acme", 324, 36).await;
    house.await_rows("other", 108, 12).await;
    running.drain().await;
    check(&house, "acme", &acme).await;
    check(&house, "other", &other).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_outcomes_are_found_out() {
    let house = House::new(&["acme"]).await;
    let mut sent = house.send("acme", 0..20).await;
    let running = Running::start(house.worker());
    house.await_rows("acme", 18, 2).await;
    // More requests than a commit tries, then some answers: once it did not land, once it did.
    house.faults.requests_to_lose.store(7, Ordering::SeqCst);
    house.faults.answers_to_lose.store(3, Ordering::SeqCst);
    sent.extend(house.send("acme", 20..60).await);
    house.await_rows("acme", 54, 6).await;
    running.drain().await;
    assert_eq!(house.faults.answers_to_lose.load(Ordering::SeqCst), 0, "requests and answers were lost");
    check(&house, "acme", &sent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_share_partitions_and_hand_them_over() {
    let house = House::new(&["acme"]).await;
    let mut sent = house.send("acme", 0..100).await;
    let one = Running::start(house.worker());
    let two = Running::start(house.worker());
    sent.extend(house.send("acme", 100..200).await);
    house.await_rows("acme", 180, 20).await;
    one.kill().await;
    sent.extend(house.send("acme", 200..300).await);
    let three = Running::start(house.worker());
    sent.extend(house.send("acme", 300..400).await);
    house.await_rows("acme", 360, 40).await;
    two.drain().await;
    three.drain().await;
    check(&house, "acme", &sent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_workers_late_commit_fails() {
    let house = House::new(&["acme"]).await;
    let mut sent = house.send("acme", 0..50).await;
    let dead = Running::start(house.worker());
    house.await_rows("acme", 45, 5).await;
    // Its next commit is on the way, and hangs there while the worker dies and another takes over.
    house.faults.hold_next.store(true, Ordering::SeqCst);
    sent.extend(house.send("acme", 50..100).await);
    house.faults.held.notified().await;
    dead.kill().await;
    let heir = Running::start(house.worker());
    house.await_rows("acme", 90, 10).await;
    house.faults.go_on.notify_one();
    house.faults.answered.notified().await;
    assert_eq!(house.faults.late_status.load(Ordering::SeqCst), 409, "the positions have moved on");
    heir.drain().await;
    check(&house, "acme", &sent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zombies_commit_fails() {
    let house = House::new(&["acme"]).await;
    let mut sent = house.send("acme", 0..50).await;
    let zombie = Running::start(house.worker());
    house.await_rows("acme", 45, 5).await;
    // Its next commit hangs; meanwhile another worker is given half of its partitions and commits their records.
    house.faults.hold_next.store(true, Ordering::SeqCst);
    sent.extend(house.send("acme", 50..100).await);
    house.faults.held.notified().await;
    let heir = Running::start(house.worker());
    house.until("the heir committed", async || house.places("acme", "inventory").await.len() > 45).await;
    // The table library repeats the zombie's commit on the new state: only the asserted positions can stop it.
    house.faults.go_on.notify_one();
    house.await_rows("acme", 90, 10).await;
    zombie.drain().await;
    heir.drain().await;
    check(&house, "acme", &sent).await;
}
