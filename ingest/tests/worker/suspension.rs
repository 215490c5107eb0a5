//! A tenant that stands still on request keeps its place and holds up nobody else.

use firn_catalog_client::SuspensionRequest;
use firn_runtime::StageState;

use crate::{
    exactly_once::check,
    house::{House, Running},
};

async fn suspend(house: &House, tenant: &str) {
    let request = SuspensionRequest { reason: "full disk".into() };
    house.catalog.tenant(tenant).suspend("ingest", &request).await.unwrap();
    await_suspended(house, tenant).await;
}

async fn await_suspended(house: &House, tenant: &str) {
    house.until("it is suspended", async || house.status(tenant).state == StageState::Suspended).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn suspended_tenant_keeps_its_place_over_a_restart() {
    let house = House::new(&["acme", "other"]).await;
    let mut acme = house.send("acme", 0..20).await;
    let running = Running::start(house.worker());
    house.await_rows("acme", 18, 2).await;
    suspend(&house, "acme").await;
    assert!(house.status("acme").message.contains("full disk"), "{:?}", house.status("acme"));

    acme.extend(house.send("acme", 20..40).await);
    let mut other = house.send("other", 0..10).await;
    house.await_rows("other", 9, 1).await;
    house.until("what waits is counted", async || house.status("acme").lag_records == Some(20)).await;
    running.drain().await;

    // Nothing of the suspension is in the worker: the next one asks the catalog before it takes anything.
    let running = Running::start(house.worker());
    other.extend(house.send("other", 10..20).await);
    house.await_rows("other", 18, 2).await;
    house.until("it is seen again", async || house.status("acme").lag_records == Some(20)).await;
    await_suspended(&house, "acme").await;
    house.await_rows("acme", 18, 2).await;

    house.catalog.tenant("acme").resume("ingest").await.unwrap();
    house.await_rows("acme", 36, 4).await;
    house.until("it runs", async || house.status("acme").state == StageState::Running).await;
    running.drain().await;
    check(&house, "acme", &acme).await;
    check(&house, "other", &other).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commit_that_has_begun_ends_before_the_tenant_stands_still() {
    let house = House::new(&["acme"]).await;
    let mut sent = house.send("acme", 0..20).await;
    let running = Running::start(house.worker());
    house.await_rows("acme", 18, 2).await;
    house.faults.hold_next.store(true, std::sync::atomic::Ordering::SeqCst);
    sent.extend(house.send("acme", 20..40).await);
    house.faults.held.notified().await;
    // The worker's own request is held, not this one.
    let request = SuspensionRequest { reason: String::new() };
    house.catalog.tenant("acme").suspend("ingest", &request).await.unwrap();
    house
        .until("it says what it waits for", async || house.status("acme").message.contains("last commit"))
        .await;
    assert_eq!(house.status("acme").state, StageState::Running);
    house.faults.go_on.notify_one();
    await_suspended(&house, "acme").await;
    house.await_rows("acme", 36, 4).await;
    running.drain().await;
    check(&house, "acme", &sent).await;
}
