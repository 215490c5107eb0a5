#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{
    document::{Action, Document, of},
    outcome::{Rejected, read},
};
use firn_stream::Record;

fn record(value: &Value) -> Record {
    Record {
        partition: 3,
        offset: 7,
        timestamp_ms: 0,
        key: Some("acme/pc".into()),
        value: Some(value.to_string().into()),
        headers: Vec::new(),
    }
}

fn transition() -> Value {
    json!({
        "finding_id": "f1", "tenant": "acme", "host_id": "pc", "hostname": "PC", "rule_id": "firewall", "title": "On",
        "severity": "high", "from": "compliant", "to": "open", "at_us": 1_793_491_199_999_999_i64,
        "version": 1_099_511_627_777_u64, "cause": "record", "reason": "in breach", "evidence": { "firewall_enabled": false },
        "revision": "0123456789abcdef", "topic": "inventory", "partition": 3, "offset": 41, "catalog_commit": "c0ffee",
    })
}

#[test]
fn transition_becomes_a_guarded_state_and_a_monthly_event() {
    let [state, event] = of(5, &record(&transition())).unwrap();
    assert_eq!((state.id.as_str(), state.action), ("f1", Action::Index(1_099_511_627_777)));
    assert_eq!(state.index, "firn-findings-000001");
    // The last microsecond of October, UTC.
    assert_eq!(event.index, "firn-transitions-2026.10");
    assert_eq!((event.id.as_str(), event.action, event.record), ("f1-1099511627777", Action::Create, 5));
    expect_test::expect![[r#"
        {
          "@timestamp": "2026-10-31T23:59:59.999999Z",
          "event": {
            "action": "finding-open",
            "category": [
              "configuration",
              "host"
            ],
            "created": "1970-01-01T00:00:00.000000Z",
            "kind": "alert",
            "outcome": "failure",
            "reason": "in breach",
            "severity": 2,
            "type": [
              "info"
            ]
          },
          "firn": {
            "assignee": null,
            "catalog_commit": "c0ffee",
            "cause": "record",
            "delay_ms": 0,
            "evidence": "{\"firewall_enabled\":false}",
            "finding_id": "f1",
            "offset": 41,
            "partition": 3,
            "previous_status": "compliant",
            "severity": "high",
            "status": "open",
            "tenant": "acme",
            "topic": "inventory",
            "version": 1099511627777
          },
          "host": {
            "hostname": "PC",
            "id": "pc",
            "name": "PC"
          },
          "organization": {
            "id": null
          },
          "rule": {
            "id": "firewall",
            "name": "On",
            "version": "0123456789abcdef"
          },
          "user": {
            "name": null
          }
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&state.source).unwrap());
}

#[test]
fn record_that_is_no_transition_says_what_is_wrong() {
    let mut broken = transition();
    broken.as_object_mut().unwrap().remove("host_id");
    assert!(of(0, &record(&broken)).unwrap_err().contains("host_id"));
}

fn documents(count: usize) -> Vec<Document> {
    (0..count).flat_map(|at| of(at, &record(&transition())).unwrap()).collect()
}

fn answer(statuses: &[u64]) -> String {
    let item =
        |status: &u64| json!({ "index": { "status": status, "error": { "type": "t", "reason": "r" } } });
    json!({ "errors": true, "items": statuses.iter().map(item).collect::<Vec<_>>() }).to_string()
}

#[test]
fn newer_versions_and_repeats_count_as_done() {
    assert_eq!(read(&answer(&[201, 409, 200, 409]), &documents(2)).unwrap(), []);
}

#[test]
fn mapping_errors_reject_their_record_alone() {
    let rejected = read(&answer(&[201, 201, 400, 201]), &documents(2)).unwrap();
    assert_eq!(rejected, [Rejected { at: 1, reason: "t: r (firn-findings-000001)".to_owned() }]);
}

#[test]
fn no_room_read_only_or_nonsense_sends_all_again() {
    for status in [429, 500, 503, 403, 404] {
        assert!(read(&answer(&[201, status]), &documents(1)).unwrap_err().contains(&status.to_string()));
    }
    assert!(read(&answer(&[201]), &documents(1)).unwrap_err().contains("1 answered"));
    assert!(read("<html>", &documents(1)).unwrap_err().contains("not understood"));
}

#[test]
fn documents_of_a_record_share_no_id() {
    let ids: BTreeSet<String> =
        documents(1).into_iter().map(|document| document.index + &document.id).collect();
    assert_eq!(ids.len(), 2);
}
