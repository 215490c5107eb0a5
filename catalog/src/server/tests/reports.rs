//! Metrics reports: taken, kept without values, and told to who may read their tables.

use std::time::Duration;

use firn_auth::Role;
use firn_catalog_client::{MetricsReport, TenantClient};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::harness::{Server, create, ident};

fn scan(snapshot_id: i64) -> Value {
    json!({
        "report-type": "scan-report", "table-name": "firn.ns.t", "snapshot-id": snapshot_id, "schema-id": 0,
        "filter": {"type": "eq", "term": "id", "value": "secret"}, "projected-field-ids": [1],
        "projected-field-names": ["id"], "metrics": {"result-data-files": {"unit": "count", "value": 1}},
        "of-tomorrow": "kept",
    })
}

async fn send(server: &Server, table: &str, report: &Value) -> (StatusCode, Value) {
    let path = format!("/namespaces/ns/tables/{table}/metrics");
    let answer = server.raw("POST", &path).json(report).send().await.unwrap();
    (answer.status(), serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default())
}

/// The reports of a table, once there are so many.
async fn reports(client: &TenantClient, table: &str, count: usize) -> Vec<MetricsReport> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let found = client.metrics_reports(Some(&ident(table)), 10).await.unwrap();
        if found.len() == count {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "{found:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn reports_are_kept_by_table_and_without_the_values_of_filters() {
    let server = Server::start().await;
    let client = server.client().await;
    create(&client, "t").await;
    create(&client, "u").await;
    let commit = json!({
        "report-type": "commit-report", "table-name": "firn.ns.t", "snapshot-id": 8, "sequence-number": 1,
        "operation": "append", "metrics": {},
    });
    assert_eq!(send(&server, "t", &scan(7)).await.0, 204);
    assert_eq!(send(&server, "u", &scan(9)).await.0, 204);
    reports(&client, "t", 1).await;
    assert_eq!(send(&server, "t", &commit).await.0, 204);
    let found = reports(&client, "t", 2).await;
    assert_eq!((&found[0].report["snapshot-id"], &found[1].report["snapshot-id"]), (&json!(8), &json!(7)));
    assert_eq!(
        (found[1].reference.as_deref(), &found[1].report["of-tomorrow"]),
        (Some("main"), &json!("kept"))
    );
    assert_eq!(found[1].report["filter"], json!({"type": "eq", "term": "id", "value": "?"}));
    assert_eq!(reports(&client, "u", 1).await[0].report["snapshot-id"], 9);
    assert_eq!(client.metrics_reports(None, 2).await.unwrap().len(), 2, "the newest of all tables");
    // Another replica tells the same, and nobody else's tenant.
    let replica = server.replica().await;
    assert_eq!(reports(&replica.client_as(Role::Reader), "t", 2).await, found);
    let other = server.operator().tenant("other");
    assert!(other.metrics_reports(None, 10).await.unwrap().is_empty());
    assert!(
        server
            .server_client(server.token(Role::Admin, &[]))
            .tenant("other")
            .metrics_reports(None, 10)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn what_is_no_report_is_refused() {
    let server = Server::start().await;
    create(&server.client().await, "t").await;
    let without = |field: &str| {
        let mut report = scan(1);
        report.as_object_mut().unwrap().remove(field);
        report
    };
    let mut large = scan(1);
    large["metadata"] = json!({"filler": "x".repeat(70_000)});
    for (table, report, status, said) in [
        ("none", scan(1), 404, "none"),
        ("t", without("report-type"), 400, "$.report-type"),
        ("t", without("metrics"), 400, "$.metrics"),
        ("t", json!({"report-type": "weather-report"}), 400, "$.report-type"),
        ("t", large, 413, "at most 65536 bytes"),
    ] {
        let (found, error) = send(&server, table, &report).await;
        assert_eq!(found, status, "{error}");
        assert!(error["error"]["message"].as_str().unwrap().contains(said), "{said}: {error}");
    }
}
