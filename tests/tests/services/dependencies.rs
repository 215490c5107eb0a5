//! What is away at start is waited for, aloud.

use anyhow::Result;
use firn_tests::{Services, free_port};

#[tokio::test(flavor = "multi_thread")]
async fn services_wait_for_what_is_away_and_say_what_it_is() -> Result<()> {
    let catalog_port = free_port()?;
    let catalog_url = format!("http://127.0.0.1:{catalog_port}");
    let mut servers = Services::prepare(&[("catalog.url", &catalog_url)]).await?;

    servers.postgres.stop().await?;
    let mut catalog = servers.launch("catalog", catalog_port, "0", &[])?;
    catalog.waits_for("the catalog's database at 127.0.0.1:").await?;
    // 404 would mean that there is no such table.
    let early = reqwest::get(format!("{catalog_url}/iceberg/v1/acme/namespaces/a/tables/b")).await?;
    assert_eq!(early.status(), 503);
    assert!(early.headers().contains_key("retry-after"), "{early:?}");
    let mut compactor = servers.launch("compactor", free_port()?, "0", &[])?;
    compactor.waits_for("the catalog at http://127.0.0.1:").await?;
    servers.postgres.restart().await?;
    catalog.ready().await?;
    compactor.ready().await?;

    servers.kafka.kill_node(1)?;
    let mut on_the_log = Vec::new();
    for name in ["gateway", "ingest", "alerts"] {
        on_the_log.push(servers.launch(name, free_port()?, "0", &[])?);
    }
    for service in &mut on_the_log {
        service.waits_for("Kafka at 127.0.0.1:").await?;
    }
    servers.kafka.restart_node(1).await?;
    for service in &mut on_the_log {
        service.ready().await?;
    }

    let nowhere = [("FIRN_STORAGE__ENDPOINT", "http://127.0.0.1:1")];
    let mut ingest = servers.launch("ingest", free_port()?, "1", &nowhere)?;
    ingest.waits_for("the object store at s3://lake/firn").await?;
    // Asked to stop while it waits, it ends at once and well.
    ingest.stop().await?;

    // The database goes away under a catalog that ran, and comes back.
    servers.postgres.stop().await?;
    catalog.waits_for("").await?;
    servers.postgres.restart().await?;
    catalog.ready().await?;
    for service in on_the_log.iter_mut().chain([&mut compactor, &mut catalog]) {
        service.stop().await?;
    }
    Ok(())
}
