#![allow(clippy::unwrap_used)]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use firn_inventory::tables::COMPLIANCE_TOPIC;
use firn_runtime::StatusBoard;
use firn_stream::{EmbeddedConfig, EmbeddedLog, Log, ProduceRecord, TopicSpec};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::sink::{DEAD_LETTER_TOPIC, Sink};

/// Takes what it is sent, but: the first three times it has no time, and host `odd` it never takes.
#[derive(Clone, Default)]
struct Receiver {
    tries: Arc<Mutex<u32>>,
    taken: Arc<Mutex<Vec<(String, Value)>>>,
}

async fn receive(State(receiver): State<Receiver>, headers: HeaderMap, body: String) -> StatusCode {
    let mut tries = receiver.tries.lock().unwrap();
    *tries += 1;
    // The second record of the first batch fails at first: the first one must not come again for it.
    if (2..=4).contains(&*tries) {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    let body: Value = serde_json::from_str(&body).unwrap();
    if body.to_string().contains("odd") {
        return StatusCode::BAD_REQUEST;
    }
    let key = headers["idempotency-key"].to_str().unwrap().to_owned();
    receiver.taken.lock().unwrap().push((key, body));
    StatusCode::NO_CONTENT
}

fn transition(host: &str, version: u64) -> Value {
    json!({
        "finding_id": format!("id-{host}"), "tenant": "acme", "host_id": host, "rule_id": "firewall",
        "title": "On & <safe>", "severity": "high", "from": "compliant", "to": "open", "at_us": 1, "version": version,
        "cause": "record", "reason": "in breach", "revision": "r", "topic": "inventory", "partition": 0, "offset": 1,
        "catalog_commit": "c",
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn transitions_are_posted_in_order_through_an_outage_and_the_rest_is_buried() {
    let receiver = Receiver::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url: Url = format!("http://{}/hook", listener.local_addr().unwrap()).parse().unwrap();
    let app = Router::new().route("/hook", post(receive)).with_state(receiver.clone());
    tokio::spawn(async move { axum::serve(listener, app).await });

    let folder = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(EmbeddedConfig::new(folder.path().join("log.db"))).unwrap();
    let spec =
        TopicSpec { name: COMPLIANCE_TOPIC.to_owned(), partitions: 1, compacted: false, retention: None };
    log.ensure_topic(&spec).await.unwrap();
    let values = [
        transition("a", 1),
        transition("a", 2),
        transition("odd", 1),
        json!({ "no": 1 }),
        transition("b", 1),
    ];
    let record = |value: &Value| ProduceRecord {
        topic: COMPLIANCE_TOPIC.to_owned(),
        key: Some("acme/host".into()),
        partition: Some(0),
        value: Some(value.to_string().into()),
        headers: Vec::new(),
    };
    for result in log.append(values.iter().map(record).collect()).await {
        result.unwrap();
    }
    let (board, stop) = (StatusBoard::default(), CancellationToken::new());
    let webhook = Webhook::new(url, WebhookFormat::Slack).unwrap();
    let sink = Sink::new(Box::new(webhook), log.clone(), board.clone());
    let token = stop.clone();
    let task = tokio::spawn(async move { sink.run(&token).await });
    let all = async {
        while receiver.taken.lock().unwrap().len() < 3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all).await.expect("all are posted");
    let keys: Vec<String> = receiver.taken.lock().unwrap().iter().map(|(key, _)| key.clone()).collect();
    assert_eq!(keys, ["id-a-1", "id-a-2", "id-b-1"]);
    assert_eq!(
        receiver.taken.lock().unwrap()[0].1,
        json!({ "text": "breach on a: [high] On &amp; &lt;safe&gt;: in breach" })
    );
    let buried = async {
        loop {
            let dead = log.offsets(DEAD_LETTER_TOPIC).await.unwrap();
            if dead.iter().map(|range| range.end).sum::<i64>() == 2 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), buried).await.expect("two are buried");
    stop.cancel();
    task.await.unwrap();
}
