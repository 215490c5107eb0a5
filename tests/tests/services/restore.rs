//! The catalog's database is lost: a backup brings it back, and so does the object store alone. docs/OPERATIONS.md says the
//! same steps.

use std::time::Duration;

use anyhow::Result;
use firn_tests::{ServiceProcess, Services, free_port};
use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer as _},
};
use serde_json::Value;

const DEADLINE: Duration = Duration::from_secs(240);
const BRONZE: &str = "select count(*) from bronze.inventory";
const DISTINCT: &str = "select count(distinct event_id) from bronze.inventory";

#[tokio::test(flavor = "multi_thread")]
async fn catalog_is_restored_from_a_dump_and_rebuilt_from_the_object_store() -> Result<()> {
    let (catalog_port, gateway_port) = (free_port()?, free_port()?);
    let catalog_url = format!("http://127.0.0.1:{catalog_port}");
    let gateway_url = format!("http://127.0.0.1:{gateway_port}");
    let mut servers = Services::prepare(&[("catalog.url", &catalog_url)]).await?;
    let mut catalog = servers.launch("catalog", catalog_port, "0", &[])?;
    let mut gateway = servers.launch("gateway", gateway_port, "0", &[])?;
    let mut ingest = servers.start("ingest", "0").await?;
    catalog.ready().await?;
    gateway.ready().await?;
    servers.open_tenant(&gateway_url, "acme")?;
    upload(&servers, "1")?;
    servers.until_count(BRONZE, 60, DEADLINE).await?;
    servers.run(&["branch", "create", "dev"])?;
    servers.run(&["tag", "create", "monday"])?;

    // A dump, then more commits, then the database is gone.
    let dumped = picture(&servers, &gateway_url).await?;
    let dump = servers.postgres.dump()?;
    upload(&servers, "2")?;
    servers.until_count(BRONZE, 120, DEADLINE).await?;
    stop(&mut [&mut ingest, &mut catalog]).await?;
    servers.postgres.wipe()?;
    servers.postgres.restore(&dump)?;
    servers.restart(&mut catalog).await?;
    assert_eq!(picture(&servers, &gateway_url).await?, dumped, "what was dumped is back, commit by commit");
    // The log has what came after the dump: from its beginning, positions tell what is there already.
    read_again_from_the_beginning(&servers)?;
    ingest = servers.start("ingest", "0").await?;
    servers.until_count(BRONZE, 120, DEADLINE).await?;
    servers.until_count(DISTINCT, 120, DEADLINE).await?;

    // Without any dump: an export lies beside the tables.
    let config = servers.config().display().to_string();
    stop(&mut [&mut ingest]).await?;
    let told = servers.run(&["catalog", "export", "--config", &config])?;
    assert!(told.contains("acme: 3 branches and tags"), "{told}");
    let exported = picture(&servers, &gateway_url).await?;
    let refused =
        servers.run(&["catalog", "rebuild", "--config", &config]).err().map(|error| error.to_string());
    assert!(
        refused.as_ref().is_some_and(|text| text.contains("the database has commits of tenant")),
        "{refused:?}"
    );
    stop(&mut [&mut catalog]).await?;
    servers.postgres.wipe()?;
    let told = servers.run(&["catalog", "rebuild", "--config", &config])?;
    assert!(told.contains("acme: from an export of"), "{told}");
    servers.restart(&mut catalog).await?;
    assert_eq!(picture(&servers, &gateway_url).await?, exported, "every reference, commit and table is back");

    // And life goes on.
    ingest = servers.start("ingest", "0").await?;
    upload(&servers, "3")?;
    servers.until_count(BRONZE, 180, DEADLINE).await?;
    servers.until_count(DISTINCT, 180, DEADLINE).await?;
    stop(&mut [&mut ingest, &mut gateway, &mut catalog]).await
}

async fn stop(services: &mut [&mut ServiceProcess]) -> Result<()> {
    for service in services {
        service.stop().await?;
    }
    Ok(())
}

fn upload(servers: &Services, seed: &str) -> Result<()> {
    let simulate = ["simulate", "--devices", "10", "--rate", "200", "--count", "60", "--seed", seed];
    servers.run(&simulate).map(drop)
}

/// All references, and the log and entries of each.
async fn picture(servers: &Services, url: &str) -> Result<Vec<Value>> {
    let http = reqwest::Client::new();
    let get = async |path: String| -> Result<Value> {
        let request = http.get(format!("{url}/nessie/acme/api/v2/{path}"));
        Ok(request.bearer_auth(&servers.env["FIRN_TOKEN"]).send().await?.error_for_status()?.json().await?)
    };
    let references = get("trees".to_owned()).await?;
    let mut picture = vec![references.clone()];
    for reference in references["references"].as_array().into_iter().flatten() {
        let name = reference["name"].as_str().unwrap_or_default();
        picture.push(get(format!("trees/{name}/history?fetch=ALL&max-records=100")).await?);
        picture.push(get(format!("trees/{name}/entries?content=true")).await?);
    }
    Ok(picture)
}

/// What `kafka-consumer-groups --reset-offsets --to-earliest` does, while no worker runs.
fn read_again_from_the_beginning(servers: &Services) -> Result<()> {
    for (group, topic) in [("firn-ingest", "inventory")] {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", servers.kafka.bootstrap_servers())
            .set("group.id", group)
            .create()?;
        let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(30))?;
        let partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
        let mut offsets = TopicPartitionList::new();
        for partition in 0..i32::try_from(partitions)? {
            offsets.add_partition_offset(topic, partition, Offset::Offset(0))?;
        }
        consumer.commit(&offsets, CommitMode::Sync)?;
    }
    Ok(())
}
