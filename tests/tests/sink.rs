//! The sink of alerts against a real OpenSearch: down at first, then up, with repeats and a record it can't take.
#![allow(clippy::unwrap_used)]

use std::{sync::Arc, time::Duration};

use firn_alerts::{Alerts, AlertsConfig};
use firn_catalog_client::{CatalogClient, StaticToken};
use firn_runtime::{StageState, StatusBoard, reload::Live};
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
    let config =
        AlertsConfig { elasticsearch_url: Some(Live::new(url.parse().unwrap())), ..AlertsConfig::default() };
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
    // It is asked what it has, and what is left out is said.
    let board = up.board.all();
    let said = &board[&("elasticsearch".to_owned(), "*".to_owned())].message;
    assert!(said.starts_with("it has neither ILM nor ISM: indices firn-transitions-* are kept"), "{said}");
    assert!(said.ends_with("it has no API keys: give Firn a user of its own"), "{said}");
    reqwest::Client::new().post(format!("{}/_refresh", server.url())).send().await.unwrap();
    let state = get(format!("{}/firn-findings/_search?sort=host.id", server.url())).await;
    assert_eq!(state["hits"]["total"]["value"], 2, "{state}");
    assert_eq!(state["hits"]["hits"][0]["_source"]["firn"]["status"], "resolved");
    assert_eq!(state["hits"]["hits"][1]["_source"]["firn"]["status"], "open");
    let events = get(format!("{}/firn-transitions-*/_search?q=firn.tenant:acme", server.url())).await;
    assert_eq!(events["hits"]["total"]["value"], 3, "{events}");
    // An erased host leaves by a record without a value; all others stay.
    let erased = ProduceRecord {
        topic: "compliance".to_owned(),
        key: Some("acme/a".into()),
        partition: Some(0),
        value: None,
        headers: Vec::new(),
    };
    log.append(vec![erased]).await.pop().unwrap().unwrap();
    up.until("the erased host is delivered", |_, delivered, _| delivered == 5).await;
    for index in ["firn-findings", "firn-transitions-*"] {
        let left = get(format!("{}/{index}/_search?q=firn.tenant:acme", server.url())).await;
        assert_eq!(left["hits"]["total"]["value"], 1, "{left}");
        assert_eq!(left["hits"]["hits"][0]["_source"]["host"]["id"], "b", "{left}");
    }
    // Each tenant has a view of its own, and sees nobody else's.
    let mut other = transition("o", 1, "open");
    other["tenant"] = "other".into();
    publish(&log, vec![other]).await;
    up.until("another tenant's is delivered", |_, delivered, _| delivered == 6).await;
    reqwest::Client::new().post(format!("{}/_refresh", server.url())).send().await.unwrap();
    for (tenant, host) in [("acme", "b"), ("other", "o")] {
        for kind in ["findings", "transitions"] {
            let seen = get(format!("{}/firn-tenant-{tenant}-{kind}/_search", server.url())).await;
            assert_eq!(seen["hits"]["total"]["value"], 1, "{tenant} {kind}: {seen}");
            assert_eq!(seen["hits"]["hits"][0]["_source"]["host"]["id"], host, "{seen}");
        }
    }
    let dead = log.offsets("compliance-dead-letter").await.unwrap();
    assert_eq!(dead.iter().map(|range| range.end).sum::<i64>(), 1);
    up.end().await;
}

/// A panel's buckets and metric as the server's own aggregations, the way the dashboards ask for them.
fn aggregations(state: &Value) -> Value {
    let (mut metric, mut buckets) = (json!({}), Vec::new());
    for part in state["aggs"].as_array().unwrap() {
        let (kind, params) = (part["type"].as_str().unwrap(), &part["params"]);
        match (kind, part["schema"].as_str().unwrap()) {
            ("count", "metric") => {}
            (_, "metric") => metric = json!({ "metric": { kind: params } }),
            ("terms", _) => {
                buckets.push(json!({ "terms": { "field": params["field"], "size": params["size"] } }));
            }
            ("date_histogram", _) => {
                let histogram =
                    json!({ "field": params["field"], "fixed_interval": "1d", "min_doc_count": 1 });
                buckets.push(json!({ "date_histogram": histogram }));
            }
            other => panic!("a kind of bucket that this test doesn't know: {other:?}"),
        }
    }
    buckets.into_iter().rev().fold(metric, |inner, mut bucket| {
        bucket["aggs"] = inner;
        json!({ "bucket": bucket })
    })
}

/// Whether every level has a bucket and the innermost a value.
fn is_filled(answer: &Value) -> bool {
    match (&answer["bucket"], &answer["metric"]) {
        (Value::Null, Value::Null) => true,
        (Value::Null, metric) => metric["value"].as_f64().is_some(),
        (bucket, _) => {
            bucket["buckets"].as_array().is_some_and(|all| !all.is_empty() && all.iter().all(is_filled))
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_panel_of_the_dashboards_shows_something() {
    let objects: Vec<Value> =
        firn_alerts::dashboards().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let known: Vec<(&Value, &Value)> =
        objects.iter().map(|object| (&object["type"], &object["id"])).collect();
    for object in &objects {
        for reference in object["references"].as_array().unwrap() {
            assert!(known.contains(&(&reference["type"], &reference["id"])), "{}: {reference}", object["id"]);
        }
        let count =
            known.iter().filter(|(kind, id)| (*kind, *id) == (&object["type"], &object["id"])).count();
        assert_eq!(count, 1, "{} stands twice", object["id"]);
    }

    let folder = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(EmbeddedConfig::new(folder.path().join("log.db"))).unwrap();
    for name in ["inventory", "compliance"] {
        let spec = TopicSpec { name: name.to_owned(), partitions: 8, compacted: false, retention: None };
        log.ensure_topic(&spec).await.unwrap();
    }
    let finding = |host: &str, rule: &str, version: u64, to: &str| {
        let mut value = transition(host, version, to);
        let more = json!({
            "finding_id": format!("{host}-{rule}"), "rule_id": rule, "hostname": host, "organization_id": "sales",
        });
        value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        value
    };
    let published = vec![
        finding("a", "cpu-load", 1, "open"),
        finding("a", "disk-space", 1, "open"),
        finding("b", "firewall", 1, "open"),
        finding("b", "firewall", 2, "resolved"),
    ];
    publish(&log, published).await;
    let server = OpenSearch::start().await.unwrap();
    let up = start(&log, &server.url());
    up.until("all is delivered", |_, delivered, _| delivered == 4).await;
    let http = reqwest::Client::new();
    http.post(format!("{}/_refresh", server.url())).send().await.unwrap();

    let text = |value: &Value| serde_json::from_str::<Value>(value.as_str().unwrap()).unwrap();
    let patterns = objects.iter().filter(|object| object["type"] == "index-pattern");
    let patterns: std::collections::BTreeMap<&str, &str> = patterns
        .map(|object| (object["id"].as_str().unwrap(), object["attributes"]["title"].as_str().unwrap()))
        .collect();
    let mut panels = 0;
    for object in objects.iter().filter(|object| object["type"] == "visualization") {
        let nested = aggregations(&text(&object["attributes"]["visState"]));
        let source = text(&object["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"]);
        let mut body = json!({ "size": 0, "track_total_hits": true, "aggs": nested });
        let query = source["query"]["query"].as_str().unwrap();
        if !query.is_empty() {
            body["query"] = json!({ "query_string": { "query": query } });
        }
        let index = patterns[object["references"][0]["id"].as_str().unwrap()];
        let url = format!("{}/{index}/_search", server.url());
        let answer: Value = http.post(url).json(&body).send().await.unwrap().json().await.unwrap();
        assert!(answer["hits"]["total"]["value"].as_u64() > Some(0), "{}: {body} {answer}", object["id"]);
        assert!(
            is_filled(&answer["aggregations"]) || nested == json!({}),
            "{}: {body} {answer}",
            object["id"]
        );
        panels += 1;
    }
    let placed: usize = objects
        .iter()
        .filter(|object| object["type"] == "dashboard")
        .map(|object| text(&object["attributes"]["panelsJSON"]).as_array().unwrap().len())
        .sum();
    assert_eq!(panels, placed, "every panel stands on one dashboard");
    up.end().await;
}
