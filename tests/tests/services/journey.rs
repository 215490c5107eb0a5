//! Inventories travel from process to process, and one address answers for all services.

use std::{collections::BTreeSet, time::Duration};

use anyhow::Result;
use firn_tests::{Services, free_port};
use serde_json::Value;

use crate::collector::Collector;

const DEADLINE: Duration = Duration::from_secs(240);

#[tokio::test(flavor = "multi_thread")]
async fn inventories_reach_gold_and_findings_through_services_of_their_own() -> Result<()> {
    let [catalog, gateway, ingest, compactor, alerts, second] =
        std::array::from_fn(|_| free_port()).map(|port| port.map_err(anyhow::Error::from));
    let ports = [catalog?, gateway?, ingest?, compactor?, alerts?, second?];
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let urls = [
        ("catalog.url", url(ports[0])),
        ("ingest.url", url(ports[2])),
        ("promotion.url", url(ports[3])),
        ("alerts.url", url(ports[4])),
    ];
    let urls: Vec<_> = urls.iter().map(|(key, url)| (*key, url.as_str())).collect();
    let mut servers = Services::prepare(&urls).await?;

    let collector = Collector::start().await?;
    servers.variables.push(("FIRN_TRACE__ENDPOINT", collector.endpoint.clone()));

    // The schema first, by a job of its own; the services then find it done.
    let config = servers.config().display().to_string();
    let migrated = servers.run(&["catalog", "migrate", "--config", &config])?;
    assert!(migrated.contains("has schema"), "{migrated}");
    let names = ["catalog", "gateway", "ingest", "compactor", "alerts"];
    let mut running = Vec::new();
    for (name, port) in names.into_iter().zip(ports) {
        running.push(servers.launch(name, port, "0", &[])?);
    }
    for service in &mut running {
        service.ready().await?;
    }

    // Everything below goes to the gateway alone.
    servers.open_tenant(&url(ports[1]), "acme")?;
    let simulate = ["simulate", "--devices", "10", "--rate", "100", "--count", "100", "--seed", "3"];
    servers.run(&simulate)?;
    servers.until_count("select count(*) from bronze.inventory", 100, DEADLINE).await?;
    servers.until_count("select count(*) from silver.inventory", 100, DEADLINE).await?;
    servers.until_count("select count(distinct host_id) from gold.compliance", 10, DEADLINE).await?;
    firn_tests::until("a rule is broken", DEADLINE, async || {
        let findings: Vec<Value> = serde_json::from_str(&servers.run(&["findings", "ls", "--json"])?)?;
        anyhow::ensure!(!findings.is_empty(), "no findings yet");
        Ok(())
    })
    .await?;
    let positions = servers.run(&["ingest", "positions"])?;
    assert!(positions.contains("inventory"), "the gateway passes on to ingest: {positions}");
    servers.run(&["branch", "create", "dev"])?;
    let status = servers.run(&["status"])?;
    for stage in ["catalog: ", "gateway: ", "ingest of acme: ", "promotion of acme: ", "alerts of acme: "] {
        assert!(status.contains(stage), "{stage}\n{status}");
    }

    let http = reqwest::Client::new();
    let token = &servers.env["FIRN_TOKEN"];
    let get = async |path: &str| -> Result<u16> {
        let answer = http.get(format!("{}{path}", url(ports[1]))).bearer_auth(token).send().await?;
        Ok(answer.status().as_u16())
    };
    assert_eq!(get("/iceberg/v1/config?warehouse=acme").await?, 200);
    assert_eq!(get("/nessie/acme/api/v2/trees").await?, 200);
    assert_eq!(get("/v1/tenants/acme/promotions").await?, 200);
    assert_eq!(get("/v1/tenants/other/findings").await?, 403, "the services judge tokens, not the gateway");
    assert_eq!(get("/nothing/here").await?, 404);
    let reader = servers.run(&["token", "issue", "ann", "--role", "reader"])?;
    let refused =
        http.post(format!("{}/v1/tenants/acme/inventory", url(ports[1]))).bearer_auth(reader.trim());
    let refused = refused.json(&serde_json::json!({"host_id": "x"})).send().await?;
    assert_eq!(refused.status(), 403);
    firn_tests::until("the gateway's refusal is in the audit log", DEADLINE, async || {
        let denied = servers.run(&["audit", "--denied", "--principal", "acme/ann"])?;
        anyhow::ensure!(denied.contains("upload"), "{denied}");
        Ok(())
    })
    .await?;
    every_metric_is_documented(&ports).await?;

    // One trace, from whoever uploads to the catalog's commit.
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let upload = http.post(format!("{}/v1/tenants/acme/inventory", url(ports[1]))).bearer_auth(token);
    let upload = upload.header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"));
    let body = serde_json::json!({"host_id": "traced", "os_type": "linux"});
    assert_eq!(upload.json(&body).send().await?.status(), 202);
    firn_tests::until("all services tell the trace", DEADLINE, async || {
        let seen = collector.services_of(trace);
        anyhow::ensure!(seen == ["firn-catalog", "firn-gateway", "firn-ingest"], "{seen:?}");
        Ok(())
    })
    .await?;

    running.remove(3).stop().await?;
    assert_eq!(get("/v1/tenants/acme/promotions").await?, 503, "a service that is away");
    for service in &mut running {
        service.stop().await?;
    }
    Ok(())
}

/// Prometheus' families of all services are those of the reference page.
async fn every_metric_is_documented(ports: &[u16]) -> Result<()> {
    const PAGE: &str = include_str!("../../../docs/METRICS.md");
    let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| `firn_")?.split('`').next());
    let documented: BTreeSet<String> = rows.map(|name| format!("firn_{name}")).collect();
    // Those that tell of what did not happen here are absent.
    let rare = [
        "firn_alerts_sink_dead_letters_total",
        "firn_alerts_sink_delivered_total",
        "firn_catalog_collected_bytes_total",
        "firn_catalog_collected_files_total",
        "firn_catalog_metrics_reports_dropped_total",
        "firn_catalog_metrics_reports_total",
        "firn_ingest_erased_total",
        "firn_ingest_failures_total",
        "firn_ingest_reference_failures_total",
        "firn_ingest_rejections_total",
        "firn_ingest_replayed_total",
        "firn_ingest_suspended",
        "firn_ingest_tenant_lag_records",
        "firn_relay_records_total",
        "firn_access_denied_total",
        "firn_audit_lost_total",
        "firn_reload_failures_total",
        "firn_tls_certificate_end_seconds",
        "firn_tls_refused_total",
    ];
    // Some come with the next visit of maintenance only.
    firn_tests::until("all metrics are measured", DEADLINE, async || {
        let mut scraped = BTreeSet::new();
        for port in &ports[..5] {
            let text = reqwest::get(format!("http://127.0.0.1:{port}/metrics")).await?.text().await?;
            let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
            scraped.extend(families.map(str::to_owned));
        }
        let unknown: Vec<_> = scraped.difference(&documented).collect();
        assert!(unknown.is_empty(), "not in docs/METRICS.md: {unknown:?}");
        let absent = documented.difference(&scraped).map(String::as_str);
        let surprising: Vec<_> = absent.filter(|name| !rare.contains(name)).collect();
        anyhow::ensure!(surprising.is_empty(), "documented, but nobody has it: {surprising:?}");
        Ok(())
    })
    .await
}
