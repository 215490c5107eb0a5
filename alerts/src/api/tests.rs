#![allow(clippy::unwrap_used)]

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use firn_auth::{Claims, Role, SigningKey};
use firn_catalog_client::{CatalogClient, StaticToken};
use firn_policy::{Flaps, shipped};
use firn_stream::{EmbeddedConfig, EmbeddedLog, TopicPartition, TopicSpec};
use firn_table::{FileIo, StorageConfig};
use firn_tests::{Answer, Specification};
use serde_json::Value;
use tower::ServiceExt;

use super::*;
use crate::{
    host::{HostFinding, HostKey, HostState},
    packed::Packed,
};

struct Lab {
    state: ApiState,
    key: SigningKey,
    id: String,
    _folder: tempfile::TempDir,
}

impl Lab {
    /// One host with an open finding of `firewall` and a resolved one of `patch-age`.
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = EmbeddedLog::open(EmbeddedConfig::new(folder.path().join("log.db"))).unwrap();
        let spec = TopicSpec {
            name: ALERTS_COMMANDS_TOPIC.to_owned(),
            partitions: 4,
            compacted: false,
            retention: None,
        };
        log.ensure_topic(&spec).await.unwrap();
        let catalog = CatalogClient::new("http://127.0.0.1:1", Arc::new(StaticToken(String::new()))).unwrap();
        let book = RuleBook::new(catalog, FileIo::new(StorageConfig::default()));
        book.put("acme", shipped().into_iter().map(Ok).collect(), "c", None);
        let index = FindingsIndex::default();
        let finding = |rule: &str, status: FindingStatus, since_us: i64| HostFinding {
            rule_id: rule.to_owned(),
            status,
            since_us,
            breach_since_us: None,
            version: 1,
            snoozed_until_us: None,
            assignee: None,
            flaps: Flaps::default(),
            evidence: Some(r#"{"firewall_enabled":false}"#.to_owned()),
        };
        let findings = vec![
            finding("firewall", FindingStatus::Open, 1),
            finding("patch-age", FindingStatus::Resolved, 2),
        ];
        let host = HostState { findings, hostname: Some("PC 1".to_owned()), ..HostState::default() };
        let host_key = HostKey { tenant: "acme".to_owned(), host_id: "pc-1".to_owned() };
        index.update(3, std::iter::once((&Arc::new(host_key), &Packed::of(&host))));
        let key = SigningKey::generate();
        let state = ApiState { guard: key.verifier().into(), log, index, book: Arc::new(book) };
        let id = firn_policy::finding_id("acme", "pc-1", "firewall");
        Self { state, key, id, _folder: folder }
    }

    fn token(&self, role: Role) -> String {
        let mut claims = Claims::new("alice", Duration::from_secs(60));
        claims.tenants.insert("acme".parse().unwrap(), role);
        format!("Bearer {}", self.key.sign(&claims))
    }

    async fn call(&self, method: &str, path: &str, role: Option<Role>, body: Option<Value>) -> (u16, Value) {
        let mut request = Request::builder().method(method).uri(format!("/v1/tenants/acme/findings{path}"));
        if let Some(role) = role {
            request = request.header("authorization", self.token(role));
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let request = request.body(body).unwrap();
        let response = router(self.state.clone()).oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        let path = format!("/v1/tenants/acme/findings{path}");
        let path = path.split('?').next().unwrap();
        let answer = Answer { method, path, status, is_json: true, body: &bytes };
        Specification::firn().check(answer).unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }
}

#[tokio::test]
async fn findings_are_listed_latest_first_and_filtered() {
    let lab = Lab::new().await;
    let (status, page) = lab.call("GET", "", Some(Role::Reader), None).await;
    assert_eq!((status, page["total"].as_u64()), (200, Some(2)));
    assert_eq!(page["findings"][0]["rule_id"], "patch-age");
    let (_, page) =
        lab.call("GET", "?status=open,snoozed&rule=firewall&limit=5", Some(Role::Reader), None).await;
    assert_eq!(
        (page["total"].as_u64(), page["findings"][0]["title"].as_str()),
        (Some(1), Some("The firewall is on"))
    );
    assert_eq!(page["findings"][0]["evidence"]["firewall_enabled"], false);
    assert_eq!(lab.call("GET", "?hots=other", Some(Role::Reader), None).await.0, 400);
    let (_, page) = lab.call("GET", "?host=other", Some(Role::Reader), None).await;
    assert_eq!(page["total"], 0);
    let (status, body) = lab.call("GET", "?status=opened", Some(Role::Reader), None).await;
    assert_eq!(status, 400);
    assert!(body["error"]["message"].as_str().unwrap().contains("acknowledged"));
}

#[tokio::test]
async fn one_finding_is_shown_by_its_id() {
    let lab = Lab::new().await;
    let (status, finding) = lab.call("GET", &format!("/{}", lab.id), Some(Role::Reader), None).await;
    assert_eq!((status, finding["hostname"].as_str()), (200, Some("PC 1")));
    assert_eq!(lab.call("GET", "/nothing", Some(Role::Reader), None).await.0, 404);
}

#[tokio::test]
async fn only_those_who_may_read_or_command() {
    let lab = Lab::new().await;
    let acknowledge = format!("/{}/acknowledge", lab.id);
    assert_eq!(lab.call("GET", "", None, None).await.0, 401);
    assert_eq!(lab.call("GET", "", Some(Role::Agent), None).await.0, 403);
    assert_eq!(lab.call("POST", &acknowledge, Some(Role::Writer), None).await.0, 403);
}

#[tokio::test]
async fn command_is_durable_in_its_partition_before_the_answer() {
    let lab = Lab::new().await;
    let note = serde_json::json!({ "note": "on it" });
    let (status, answer) =
        lab.call("POST", &format!("/{}/acknowledge", lab.id), Some(Role::Maintainer), Some(note)).await;
    assert_eq!((status, answer["partition"].as_i64()), (202, Some(3)));
    let from = TopicPartition { topic: ALERTS_COMMANDS_TOPIC.to_owned(), partition: 3 };
    let records = lab.state.log.read(&from, 0, 10, Duration::from_secs(5)).await.unwrap();
    let command: CommandRecord = serde_json::from_slice(records[0].value.as_deref().unwrap()).unwrap();
    assert_eq!(
        (command.command, command.by.as_str(), command.note.as_str()),
        (Command::Acknowledge, "alice", "on it")
    );
    assert_eq!(records[0].key.as_deref(), Some(b"acme/pc-1".as_slice()));
    let bare = lab.call("POST", &format!("/{}/acknowledge", lab.id), Some(Role::Maintainer), None).await;
    assert_eq!(bare.0, 202);
}

#[tokio::test]
async fn commands_that_make_no_sense_are_refused() {
    let lab = Lab::new().await;
    let snooze = format!("/{}/snooze", lab.id);
    for body in [
        json!({}),
        json!({ "for_s": 0 }),
        json!({ "for_s": 10, "until": "2099-01-01T00:00:00Z" }),
        json!({ "until": "2001-01-01T00:00:00Z" }),
    ] {
        assert_eq!(
            lab.call("POST", &snooze, Some(Role::Maintainer), Some(body.clone())).await.0,
            422,
            "{body}"
        );
    }
    assert_eq!(lab.call("POST", &snooze, Some(Role::Maintainer), Some(json!({ "for": 3 }))).await.0, 400);
    assert_eq!(lab.call("POST", &snooze, Some(Role::Maintainer), Some(json!({ "for_s": 60 }))).await.0, 202);
    let resolved = firn_policy::finding_id("acme", "pc-1", "patch-age");
    assert_eq!(
        lab.call("POST", &format!("/{resolved}/acknowledge"), Some(Role::Maintainer), None).await.0,
        409
    );
    let comment = format!("/{resolved}/comment");
    assert_eq!(lab.call("POST", &comment, Some(Role::Maintainer), Some(json!({ "note": " " }))).await.0, 422);
    assert_eq!(
        lab.call("POST", &comment, Some(Role::Maintainer), Some(json!({ "note": "why" }))).await.0,
        202
    );
}

#[tokio::test]
async fn assignment_and_retirement_are_commands_in_the_hosts_partition() {
    let lab = Lab::new().await;
    let assign = format!("/{}/assign", lab.id);
    let to = |name: Value| Some(json!({ "to": name }));
    assert_eq!(lab.call("POST", &assign, Some(Role::Maintainer), to(json!("bob"))).await.0, 202);
    assert_eq!(lab.call("POST", &assign, Some(Role::Maintainer), to(json!(null))).await.0, 202);
    assert_eq!(lab.call("POST", &assign, Some(Role::Maintainer), to(json!(" "))).await.0, 422);
    assert_eq!(lab.call("POST", &assign, Some(Role::Writer), to(json!("bob"))).await.0, 403);
    let request = Request::post("/v1/tenants/acme/hosts/pc%2F9/retire")
        .header("authorization", lab.token(Role::Maintainer))
        .body(Body::empty())
        .unwrap();
    assert_eq!(router(lab.state.clone()).oneshot(request).await.unwrap().status(), 202);
    let mut commands = Vec::new();
    for partition in 0..4 {
        let from = TopicPartition { topic: ALERTS_COMMANDS_TOPIC.to_owned(), partition };
        if lab.state.log.offsets(ALERTS_COMMANDS_TOPIC).await.unwrap()[partition as usize].end == 0 {
            continue;
        }
        for record in lab.state.log.read(&from, 0, 10, Duration::from_secs(5)).await.unwrap() {
            let command: CommandRecord = serde_json::from_slice(record.value.as_deref().unwrap()).unwrap();
            commands.push((HostKey::parse(record.key.as_deref().unwrap()).unwrap().host_id, command.command));
        }
    }
    commands.sort_by_key(|(host, _)| host.clone());
    let expected = [
        ("pc-1", Command::Assign { to: Some("bob".to_owned()) }),
        ("pc-1", Command::Assign { to: None }),
        ("pc/9", Command::Retire),
    ];
    assert_eq!(commands, expected.map(|(host, command)| (host.to_owned(), command)));
}
