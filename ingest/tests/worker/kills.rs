//! Workers that die at every step, several at once, and that come and go all the time.

use std::{sync::atomic::Ordering, time::Duration};

use firn_inventory::tables::INVENTORY_TOPIC;
use firn_stream::{Log, TopicSpec};

use crate::{
    exactly_once::check,
    house::{House, Place, Running},
};

/// A commit has fewer steps.
const MOST_STEPS: usize = 40;

/// Waits until a request is never answered, or all records are taken and that is told to the group.
async fn reaches_a_silent_request(house: &House, sent: &[Place]) -> bool {
    loop {
        tokio::select! {
            () = house.faults.held.notified() => return true,
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
        let committed = house.log.committed("firn-ingest", INVENTORY_TOPIC).await.unwrap();
        if usize::try_from(committed.into_iter().flatten().sum::<i64>()) == Ok(sent.len()) {
            return false;
        }
    }
}

/// Everything that a worker does to the outside between its start and the end of a commit, but for writing files and reading
/// the log, is a request to the catalog. So it is killed at each: before the server sees it, and when the server has acted.
/// Files are written between two of them, and mean nothing before the last.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_killed_at_each_step_of_a_commit_lose_and_repeat_nothing() {
    let house = House::new(&["acme"]).await;
    let (mut sent, mut number, mut kills) = (Vec::new(), 0, 0);
    for acts in [false, true] {
        house.faults.acts_in_silence.store(acts, Ordering::SeqCst);
        for step in 1..=MOST_STEPS {
            sent.extend(house.send("acme", number..number + 20).await);
            number += 20;
            house.faults.silent_in.store(step, Ordering::SeqCst);
            let running = Running::start(house.worker());
            if !reaches_a_silent_request(&house, &sent).await {
                house.faults.silent_in.store(0, Ordering::SeqCst);
                running.drain().await;
                break;
            }
            running.kill().await;
            kills += 1;
            assert!(step < MOST_STEPS, "a worker doesn't come to the end of a commit");
        }
    }
    assert!(kills > 10, "only {kills} steps, so some were not counted");
    let all = usize::try_from(number).unwrap();
    house.await_rows("acme", all / 10 * 9, all / 10).await;
    check(&house, "acme", &sent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_killed_at_once_and_storms_of_rebalances_lose_and_repeat_nothing() {
    let house = House::new(&["acme"]).await;
    let mut sent = Vec::new();
    for round in 0..8_u32 {
        sent.extend(house.send("acme", round * 50..round * 50 + 50).await);
        let (one, two) = (Running::start(house.worker()), Running::start(house.worker()));
        // Into different steps of their commits each time.
        tokio::time::sleep(Duration::from_millis(u64::from(100 + 90 * round))).await;
        tokio::join!(one.kill(), two.kill());
    }
    let steady = Running::start(house.worker());
    for round in 8..28_u32 {
        sent.extend(house.send("acme", round * 50..round * 50 + 50).await);
        let passing = Running::start(house.worker());
        tokio::time::sleep(Duration::from_millis(u64::from(40 + 13 * (round % 7)))).await;
        if round % 2 == 0 {
            passing.kill().await;
        } else {
            passing.drain().await;
        }
    }
    house.await_rows("acme", 1260, 140).await;
    steady.drain().await;
    check(&house, "acme", &sent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_that_are_added_are_taken_as_well() {
    let house = House::new(&["acme"]).await;
    let mut sent = house.send("acme", 0..100).await;
    let running = Running::start(house.worker());
    house.await_rows("acme", 90, 10).await;
    let grown =
        TopicSpec { name: INVENTORY_TOPIC.to_owned(), partitions: 12, compacted: false, retention: None };
    house.log.ensure_topic(&grown).await.unwrap();
    sent.extend(house.send("acme", 100..200).await);
    assert!(sent.iter().any(|(partition, _)| *partition >= 8), "no host came to a new partition");
    house.await_rows("acme", 180, 20).await;
    running.drain().await;
    check(&house, "acme", &sent).await;
}
