//! The sink of alerts against a real OpenSearch: down at first, then up, with repeats and a record it can't take.
#![allow(clippy::unwrap_used)]

use std::{sync::Arc, time::Duration};

use firn_alerts::{Alerts, AlertsConfig};
use firn_catalog_client::{CatalogClient, StaticToken};
use firn_runtime::{StageState, StatusBoard};
use firn_stream::{EmbeddedConfig, EmbeddedLog, Log, ProduceRecord, TopicSpec};
use firn_table::{FileIo, StorageConfig};
use firn_tests::{OpenSearch, free_port};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(120);

struct Running {
    board: StatusBoard,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), firn_alerts::AlertsError>>,
}

/// The service with its sink; no tenant exists, so that the topic `compliance` is this test's alone.
fn start(log: &Arc<EmbeddedLog>, url: &str) -> Running {
    let (board, stop) = (StatusBoard::default(), CancellationToken::new());
    let catalog = CatalogClient::new("http://127.0.0.1:1", Arc::new(StaticToken(String::new()))).unwrap();
    let config = AlertsConfig { elasticsearch_url: Some(url.parse().unwrap()), ..AlertsConfig::default() };
    let files = FileIo::new(StorageConfig::default());
    let alerts = Alerts::new(config, log.clone(), catalog, files, board.clone());
    let token = stop.clone();
    Running { board, stop, task: tokio::spawn(async move { alerts.run(token).await }) }
}

impl Running {
    async fn until(&self, what: &str, holds: impl Fn(StageState, u64, u64) -> bool) {
        let wait = async {
            loop {
                let all = self.board.all();
                if let Some(status) = all.get(&("elasticsearch".to_owned(), "*".to_owned())) {
                    let total = |name: &str| status.totals.get(name).copied().unwrap_or_default();
                    if holds(status.state, total("delivered"), total("dead_letters")) {
                        return;
                    }
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "{what}: {:?}", self.board.all());
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

fn transition(host: &str, version: u64, to: &str) -> Value {
    json!({
        "finding_id": format!("id-{host}"), "tenant": "acme", "host_id": host, "rule_id": "firewall",
        "title": "The firewall is on", "severity": "high", "from": "compliant", "to": to,
        "at_us": 1_795_000_000_000_000_u64 + version, "version": version, "cause": "record", "reason": "in breach",
        "evidence": { "firewall_enabled": false }, "revision": "r", "topic": "inventory", "partition": 0, "offset": version,
        "catalog_commit": "c",
    })
}

async fn publish(log: &EmbeddedLog, values: Vec<Value>) {
    let record = |value: Value| ProduceRecord {
        topic: "compliance".to_owned(),
        key: Some("acme/host".into()),
        partition: Some(0),
        value: Some(value.to_string().into()),
        headers: Vec::new(),
    };
    for result in log.append(values.into_iter().map(record).collect()).await {
        result.unwrap();
    }
}

async fn get(url: String) -> Value {
    serde_json::from_str(&reqwest::get(url).await.unwrap().text().await.unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn findings_reach_the_server_once_whatever_happens_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(EmbeddedConfig::new(folder.path().join("log.db"))).unwrap();
    for name in ["inventory", "compliance"] {
        let spec = TopicSpec { name: name.to_owned(), partitions: 8, compacted: false, retention: None };
        log.ensure_topic(&spec).await.unwrap();
    }
    publish(
        &log,
        vec![transition("a", 1, "open"), transition("a", 2, "resolved"), transition("b", 1, "open")],
    )
    .await;
    publish(&log, vec![json!({ "no": "transition" }), transition("a", 1, "open")]).await;

    let down = start(&log, &format!("http://127.0.0.1:{}", free_port().unwrap()));
    down.until("a server that is down shows", |state, _, _| state == StageState::Failing).await;
    down.end().await;

    let server = OpenSearch::start().await.unwrap();
    let up = start(&log, &server.url());
    up.until("all is delivered", |state, delivered, dead| {
        (state, delivered, dead) == (StageState::Running, 4, 1)
    })
    .await;
    reqwest::Client::new().post(format!("{}/_refresh", server.url())).send().await.unwrap();
    let state = get(format!("{}/firn-findings/_search?sort=host.id", server.url())).await;
    assert_eq!(state["hits"]["total"]["value"], 2, "{state}");
    assert_eq!(state["hits"]["hits"][0]["_source"]["firn"]["status"], "resolved");
    assert_eq!(state["hits"]["hits"][1]["_source"]["firn"]["status"], "open");
    let events = get(format!("{}/firn-transitions-*/_search?q=firn.tenant:acme", server.url())).await;
    assert_eq!(events["hits"]["total"]["value"], 3, "{events}");
    let dead = log.offsets("compliance-dead-letter").await.unwrap();
    assert_eq!(dead.iter().map(|range| range.end).sum::<i64>(), 1);
    up.end().await;
}
