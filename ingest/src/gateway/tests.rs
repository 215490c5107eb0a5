#![allow(clippy::unwrap_used)]

mod agents;

use std::io::Write;

use axum::http::{HeaderMap, Request, header};
use expect_test::{Expect, expect};
use firn_auth::{Claims, Role, Scope, SigningKey};
use firn_catalog_client::StaticToken;
use firn_inventory::tables::{RECEIVED_AT_HEADER, SOURCE_HEADER, TENANT_HEADER};
use firn_stream::{EmbeddedConfig, EmbeddedLog, Record, TopicPartition};
use firn_tests::Specification;
use tempfile::TempDir;
use tower::ServiceExt;

use super::*;
use crate::ensure_inventory_topic;

const HOUR: Duration = Duration::from_secs(3600);
const NDJSON: &str = "application/x-ndjson";

struct Bench {
    gateway: Gateway,
    log: Arc<EmbeddedLog>,
    key: SigningKey,
    _folder: TempDir,
}

impl Bench {
    async fn new(config: GatewayConfig) -> Self {
        let bench = Self::without_topic(config);
        ensure_inventory_topic(bench.log.as_ref()).await.unwrap();
        bench
    }

    fn without_topic(config: GatewayConfig) -> Self {
        // No test here asks it; those that do have a catalog of their own.
        Self::over(config, "http://127.0.0.1:9", SigningKey::generate())
    }

    fn over(config: GatewayConfig, catalog_url: &str, key: SigningKey) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = EmbeddedLog::open(EmbeddedConfig::new(folder.path().join("log.db"))).unwrap();
        let token = key.service_token("gateway", HOUR);
        let catalog = CatalogClient::new(catalog_url, Arc::new(StaticToken(token))).unwrap();
        let gateway = Gateway::new(config, log.clone(), key.verifier(), catalog, StatusBoard::default());
        Self { gateway, log, key, _folder: folder }
    }

    /// A token that may upload for `acme`, changed as wanted.
    fn token(&self, change: impl FnOnce(&mut Claims)) -> String {
        let mut claims = Claims::new("agent", HOUR);
        claims.tenants.insert("acme".parse().unwrap(), Role::Agent);
        claims.scopes.push(Scope::InventoryWrite);
        change(&mut claims);
        self.key.sign(&claims)
    }

    async fn post(
        &self,
        token: &str,
        headers: &[(header::HeaderName, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        let mut request = Request::post("/v1/tenants/acme/inventory");
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        if !token.is_empty() {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        self.send(request, body).await
    }

    async fn send(&self, request: axum::http::request::Builder, body: impl Into<Body>) -> Answer {
        let response = self.gateway.router().oneshot(request.body(body.into()).unwrap()).await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        let of_uploads = firn_tests::Answer {
            method: "POST",
            path: "/v1/tenants/acme/inventory",
            status,
            is_json: headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json"),
            body: &body,
        };
        Specification::firn().check(of_uploads).unwrap();
        Answer { status, headers, body: String::from_utf8(body.to_vec()).unwrap() }
    }

    async fn upload(&self, content_type: &str, body: impl Into<Body>) -> Answer {
        self.post(&self.token(|_| ()), &[(header::CONTENT_TYPE, content_type)], body).await
    }

    async fn records(&self) -> Vec<Record> {
        let mut records = Vec::new();
        for partition in 0..8 {
            let from = TopicPartition { topic: INVENTORY_TOPIC.into(), partition };
            records.extend(self.log.read(&from, 0, 10_000, Duration::ZERO).await.unwrap());
        }
        records
    }
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn check(&self, expected: &Expect) {
        expected.assert_eq(&format!("{} {}", self.status, self.body));
    }
}

#[tokio::test]
async fn accepted_record_is_in_the_log_with_its_address() {
    let bench = Bench::new(GatewayConfig::default()).await;
    let record = r#"{"host_id":"pc/7","cpu_count":"four"}"#;
    bench.upload("application/json; charset=utf-8", record).await.check(&expect![[r#"202 {"accepted":1}"#]]);
    let [stored] = &bench.records().await[..] else { panic!("one record") };
    assert_eq!(stored.key.as_deref(), Some(&b"acme/pc%2F7"[..]));
    assert_eq!(stored.value.as_deref(), Some(record.as_bytes()));
    let header = |name: &str| {
        let (_, value) = stored.headers.iter().find(|(header, _)| header == name).unwrap();
        String::from_utf8(value.to_vec()).unwrap()
    };
    assert_eq!((header(TENANT_HEADER), header(SOURCE_HEADER)), ("acme".into(), "native".into()));
    let age_us = chrono::Utc::now().timestamp_micros() - header(RECEIVED_AT_HEADER).parse::<i64>().unwrap();
    assert!((0..60_000_000).contains(&age_us));
}

#[tokio::test]
async fn foreign_formats_are_stored_as_firn_s_own() {
    let bench = Bench::new(GatewayConfig::default()).await;
    let token = bench.token(|_| ());
    let post = async |format: &str, content_type: &str, body: String| {
        let uri = format!("/v1/tenants/acme/inventory?format={format}");
        let request = Request::post(uri).header(header::CONTENT_TYPE, content_type);
        bench.send(request.header(header::AUTHORIZATION, format!("Bearer {token}")), body).await
    };
    let facts = r#"{"networking":{"fqdn":"a.example.org","hostname":"a"},"kernel":"Linux"}"#;
    let answer = post("facter", NDJSON, format!("{facts}\n{{}}\n")).await;
    answer.check(&expect![[r#"207 {"accepted":1,"refused":1,"results":[{"index":0,"status":202},{"index":1,"reason":"the facts name no host: neither 'clientcert' nor 'networking.fqdn' is there","status":422}]}"#]]);
    let [stored] = &bench.records().await[..] else { panic!("one record") };
    assert_eq!(stored.key.as_deref(), Some(&b"acme/a.example.org"[..]));
    let source = stored.headers.iter().find(|(name, _)| name == SOURCE_HEADER).unwrap();
    assert_eq!(source.1, "facter");
    let record = firn_inventory::decode(stored.value.as_deref().unwrap()).unwrap();
    assert_eq!(record.inventory.os_type.as_deref(), Some("linux"));
    post("yaml", NDJSON, String::new()).await.check(&expect![[r#"415 {"error":{"message":"format 'yaml' is not known: use one of native, ocsf, osquery, facter","type":"UnsupportedMediaType","code":415}}"#]]);
}

#[tokio::test]
async fn batch_is_answered_record_by_record() {
    let bench = Bench::new(GatewayConfig { max_record_bytes: 100, ..GatewayConfig::default() }).await;
    let long = format!(r#"{{"host_id":"a","x":"{}"}}"#, "x".repeat(100));
    let body = format!("{{\"host_id\":\"a\"}}\r\n\n[1]\n{{\"x\":1}}\n{long}\n{{\"host_id\":\"b\"}}\n");
    bench.upload(NDJSON, body).await.check(&expect![[r#"207 {"accepted":2,"refused":3,"results":[{"index":0,"status":202},{"index":1,"reason":"the record is not a JSON object","status":422},{"index":2,"reason":"field 'host_id' is missing","status":422},{"index":3,"reason":"the record has 122 bytes, more than 100","status":413},{"index":4,"status":202}]}"#]]);
    assert_eq!(bench.records().await.len(), 2);
    bench
        .upload(NDJSON, "{\"host_id\":\"a\"}\n{\"host_id\":\"b\"}")
        .await
        .check(&expect![[r#"202 {"accepted":2}"#]]);
}

#[tokio::test]
async fn a_record_of_ten_megabytes_is_refused_by_its_index_and_stops_no_other() {
    let bench = Bench::new(GatewayConfig::default()).await;
    let huge = format!(r#"{{"host_id":"b","x":"{}"}}"#, "x".repeat(10 << 20));
    let answer =
        bench.upload(NDJSON, format!("{{\"host_id\":\"a\"}}\n{huge}\n{{\"host_id\":\"c\"}}\n")).await;
    assert_eq!(answer.status, 207, "{}", answer.body);
    assert!(answer.body.contains(r#""accepted":2,"refused":1"#), "{}", answer.body);
    assert!(answer.body.contains(r#"{"index":1,"reason":"the record has 10485782 bytes"#), "{}", answer.body);
    assert_eq!(bench.records().await.len(), 2);
}

#[tokio::test]
async fn only_who_may_uploads() {
    let bench = Bench::new(GatewayConfig::default()).await;
    let record = r#"{"host_id":"a"}"#;
    let post = async |token: String| bench.post(&token, &[], record).await;
    let anonymous = post(String::new()).await;
    assert_eq!(anonymous.status, 401);
    assert_eq!(anonymous.headers[header::WWW_AUTHENTICATE], "Bearer");
    assert_eq!(post("nonsense".into()).await.status, 401);
    let other = |claims: &mut Claims| {
        claims.tenants = [("other".parse().unwrap(), Role::Admin)].into();
    };
    assert_eq!(post(bench.token(other)).await.status, 403);
    assert_eq!(post(bench.token(|claims| claims.scopes.clear())).await.status, 403);
    assert_eq!(post(bench.token(|claims| claims.host = Some("b".into()))).await.status, 403);
    assert_eq!(bench.records().await.len(), 0);
    assert_eq!(post(bench.token(|claims| claims.host = Some("a".into()))).await.status, 202);
}

#[tokio::test]
async fn compressed_bodies_are_read_and_bombs_are_not() {
    let config = GatewayConfig { max_decoded_bytes: 1 << 20, ..GatewayConfig::default() };
    let bench = Bench::new(config).await;
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let token = bench.token(|_| ());
    let post = async |encoding: &str, body: Vec<u8>| {
        let headers = [(header::CONTENT_TYPE, NDJSON), (header::CONTENT_ENCODING, encoding)];
        bench.post(&token, &headers, body).await.status
    };
    let record = br#"{"host_id":"a"}"#;
    let bomb = vec![b' '; 50 << 20];
    assert_eq!(post("gzip", gzip(record)).await, 202);
    assert_eq!(post("zstd", zstd::encode_all(&record[..], 3).unwrap()).await, 202);
    assert_eq!(post("gzip", gzip(&bomb)).await, 413);
    assert_eq!(post("zstd", zstd::encode_all(&bomb[..], 3).unwrap()).await, 413);
    assert_eq!(post("gzip", b"not gzip".to_vec()).await, 400);
    assert_eq!(post("br", record.to_vec()).await, 415);
    assert_eq!(bench.records().await.len(), 2);
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    let bench =
        Bench::new(GatewayConfig { max_body_bytes: 200, max_records: 2, ..GatewayConfig::default() }).await;
    let mut answers = String::new();
    for (content_type, body) in [
        ("application/json", String::new()),
        (NDJSON, "\n \n".into()),
        ("application/json", r#"{"hostname":"a"}"#.into()),
        ("application/json", r#"[{"host_id":"a"}]"#.into()),
        ("text/plain", r#"{"host_id":"a"}"#.into()),
        (NDJSON, "{}\n{}\n{}".into()),
        ("application/json", "x".repeat(201)),
    ] {
        let answer = bench.upload(content_type, body).await;
        answers += &format!("{} {}\n", answer.status, answer.body);
    }
    expect![[r#"
        422 {"error":{"message":"the body holds no record","type":"UnprocessableEntity","code":422}}
        422 {"error":{"message":"the body holds no record","type":"UnprocessableEntity","code":422}}
        422 {"error":{"message":"record 0: field 'host_id' is missing","type":"UnprocessableEntity","code":422}}
        422 {"error":{"message":"record 0: the record is not a JSON object","type":"UnprocessableEntity","code":422}}
        415 {"error":{"message":"content type 'text/plain' is not taken: send one record as application/json, or one per line as application/x-ndjson","type":"UnsupportedMediaType","code":415}}
        413 {"error":{"message":"the body holds 3 records, more than 2: send smaller batches","type":"PayloadTooLarge","code":413}}
        413 {"error":{"message":"the body has more than 200 bytes: send smaller batches","type":"PayloadTooLarge","code":413}}
    "#]].assert_eq(&answers);
}

#[tokio::test]
async fn room_and_rate_are_bounded() {
    let bench = Bench::new(GatewayConfig { max_in_flight_bytes: 100, ..GatewayConfig::default() }).await;
    let crowded = bench.upload("application/json", format!(r#"{{"host_id":"{}"}}"#, "a".repeat(100))).await;
    assert_eq!((crowded.status, &crowded.headers[header::RETRY_AFTER]), (503, &"1".parse().unwrap()));
    assert!(crowded.body.contains("Overloaded"), "{}", crowded.body);

    let bench = Bench::new(GatewayConfig { tenant_records_per_s: Some(1), ..GatewayConfig::default() }).await;
    // So many at once that however slow this computer is, they aren't paid for at the next request.
    let many = "{\"host_id\":\"a\"}\n".repeat(5_000);
    assert_eq!(bench.upload("application/x-ndjson", many).await.status, 202);
    let fast = bench.upload("application/json", r#"{"host_id":"a"}"#).await;
    assert_eq!(fast.status, 429);
    assert!(fast.headers.contains_key(header::RETRY_AFTER));
}

#[tokio::test]
async fn log_that_takes_nothing_is_503() {
    let bench = Bench::without_topic(GatewayConfig::default());
    let answer = bench.upload("application/json", r#"{"host_id":"a"}"#).await;
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("LogUnavailable"), "{}", answer.body);
    assert!(answer.headers.contains_key(header::RETRY_AFTER));
}
