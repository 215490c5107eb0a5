//! Every service is restarted under load: nobody notices.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use firn_tests::{Balancer, Services, free_port};
use serde_json::Value;

const DEADLINE: Duration = Duration::from_secs(240);
const RECORDS: i64 = 3_000;

#[tokio::test(flavor = "multi_thread")]
async fn restarting_every_service_under_load_loses_and_doubles_nothing() -> Result<()> {
    let catalogs = [free_port()?, free_port()?];
    let gateways = [free_port()?, free_port()?];
    let catalog = Balancer::start(&catalogs).await?;
    let gateway = Balancer::start(&gateways).await?;
    let mut servers = Services::prepare(&[("catalog.url", catalog.url())]).await?;
    let mut services = Vec::new();
    for (name, ports) in [("catalog", catalogs), ("gateway", gateways)] {
        for (instance, port) in ["0", "1"].into_iter().zip(ports) {
            services.push(servers.launch(name, port, instance, &[])?);
        }
    }
    for (name, instance) in [("ingest", "0"), ("ingest", "1"), ("compactor", "0"), ("alerts", "0")] {
        services.push(servers.launch(name, free_port()?, instance, &[])?);
    }
    for service in &mut services {
        service.ready().await?;
    }
    servers.open_tenant(gateway.url(), "acme")?;

    let ledger = servers.dir().join("ledger.jsonl");
    let count = RECORDS.to_string();
    let mut simulate = servers.command(&["simulate", "--devices", "50", "--rate", "60", "--seed", "5"])?;
    simulate.args(["--count", &count, "--ledger"]).arg(&ledger).envs(&servers.env);
    let mut load = tokio::process::Command::from(simulate).kill_on_drop(true).spawn()?;
    for service in &mut services {
        servers.restart(service).await?;
    }
    ensure!(load.wait().await?.success(), "the load was refused");

    let text = std::fs::read_to_string(&ledger)?;
    let outcome = |wanted: &str| -> Result<i64> {
        let lines = text.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?;
        let records = lines.iter().filter(|line| line["type"] == "record" && line["outcome"] == wanted);
        i64::try_from(records.count()).context("that many")
    };
    assert_eq!(outcome("acknowledged")?, RECORDS, "every upload was taken, if need be at the second try");
    servers.until_count("select count(*) from bronze.inventory", RECORDS, DEADLINE).await?;
    servers.until_count("select count(distinct event_id) from bronze.inventory", RECORDS, DEADLINE).await?;
    servers.until_count("select count(*) from silver.inventory", RECORDS, DEADLINE).await?;
    for service in &mut services {
        service.stop().await?;
    }
    Ok(())
}
