//! Scan planning over HTTP.

use std::time::Duration;

use firn_auth::Role;
use firn_catalog_client::iceberg::TableIdent;
use serde_json::{Value, json};

use super::harness::{Server, append, create, uuid};
use crate::manifests::{ManifestFile, samples};

const TABLE: &str = "/namespaces/ns/tables/t";

/// A table `ns.t` with a snapshot of this many manifests of one file.
pub(super) async fn table_of_manifests(server: &Server, manifests: usize) -> TableIdent {
    let client = server.client().await;
    let table = create(&client, "t").await;
    let location = table.metadata["location"].as_str().unwrap().to_owned();
    let storage = &server.catalog.state.storage;
    let mut listed: Vec<ManifestFile> = Vec::new();
    for number in 0..manifests {
        let path = format!("{location}/metadata/m{number}.avro");
        let (bytes, manifest) = samples::manifest(&path, 1, &[format!("{location}/data/{number}")]);
        storage.write_file("acme", &path, bytes).await.unwrap();
        listed.push(manifest);
    }
    let path = format!("{location}/metadata/snap-1.avro");
    storage.write_file("acme", &path, samples::list(1, &listed)).await.unwrap();
    let ident = TableIdent::new("ns", "t");
    client.commit_table("main", &ident, &append(&table, 1), &uuid()).await.unwrap();
    ident
}

async fn ask(server: &Server, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
    let mut request = server.raw(method, path);
    if let Some(body) = body {
        request = request.json(&body);
    }
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default())
}

async fn plan(server: &Server, body: Value) -> (u16, Value) {
    ask(server, "POST", &format!("{TABLE}/plan"), Some(body)).await
}

/// Data files of an answer and of all its plan tasks.
async fn all_files(server: &Server, answer: &Value) -> usize {
    let (mut open, mut files) = (vec![answer.clone()], 0);
    while let Some(answer) = open.pop() {
        files += answer["file-scan-tasks"].as_array().map_or(0, Vec::len);
        for task in answer["plan-tasks"].as_array().into_iter().flatten() {
            let (status, more) =
                ask(server, "POST", &format!("{TABLE}/tasks"), Some(json!({"plan-task": task}))).await;
            assert_eq!(status, 200, "{more}");
            open.push(more);
        }
    }
    files
}

/// The result of a plan, once there is one.
async fn result(server: &Server, path: &str) -> Value {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let (status, answer) = ask(server, "GET", path, None).await;
        assert_eq!(status, 200, "{answer}");
        if answer["status"] != "submitted" {
            return answer;
        }
        assert!(tokio::time::Instant::now() < deadline, "it doesn't end");
    }
}

/// What keeps both of the places in the background.
pub(super) fn occupy(server: &Server) {
    for id in ["one", "another"] {
        server.catalog.state.scans.start(id, std::future::pending()).unwrap();
    }
}

fn id_below_hundred() -> Value {
    json!({"filter": {"type": "lt", "term": "id", "value": 100}})
}

#[tokio::test]
async fn small_scans_are_planned_at_once_and_large_ones_in_tasks() {
    let server = Server::start().await;
    let ident = table_of_manifests(&server, 200).await;
    let (status, config) = ask(&server, "GET", "/../config?warehouse=acme", None).await;
    assert_eq!(status, 200);
    let endpoints = config["endpoints"].as_array().unwrap();
    for endpoint in ["POST {}/plan", "GET {}/plan/{plan-id}", "DELETE {}/plan/{plan-id}", "POST {}/tasks"] {
        let path = endpoint.replace("{}", "/v1/{prefix}/namespaces/{namespace}/tables/{table}");
        assert!(endpoints.contains(&json!(path)), "{path}");
    }

    let (status, answer) = plan(&server, json!({})).await;
    assert_eq!((status, &answer["status"]), (200, &json!("completed")), "{answer}");
    assert!(answer["plan-id"].is_string() && answer["plan-tasks"].as_array().unwrap().len() > 1, "{answer}");
    assert_eq!(all_files(&server, &answer).await, 200);

    // A plan task is of its table alone, and ends with the files it is of.
    let client = server.client().await;
    create(&client, "other").await;
    let task = json!({"plan-task": answer["plan-tasks"][0]});
    for (path, body) in [
        ("/namespaces/ns/tables/other/tasks", task.clone()),
        ("/namespaces/ns/tables/t/tasks", json!({"plan-task": "x"})),
    ] {
        let (status, error) = ask(&server, "POST", path, Some(body)).await;
        assert_eq!((status, &error["error"]["type"]), (404, &json!("NoSuchPlanTaskException")), "{error}");
    }
    let loaded = client.load_table("main", &ident).await.unwrap();
    let remove = json!({"action": "remove-snapshots", "snapshot-ids": [1]});
    let mut change = append(&loaded, 2);
    change.updates.push(remove);
    client.commit_table("main", &ident, &change, &uuid()).await.unwrap();
    let (status, error) = ask(&server, "POST", &format!("{TABLE}/tasks"), Some(task)).await;
    assert_eq!((status, &error["error"]["type"]), (404, &json!("NoSuchPlanTaskException")), "{error}");
    assert!(error["error"]["message"].as_str().unwrap().contains("no snapshot 1"), "{error}");
}

#[tokio::test]
async fn a_filter_over_many_manifests_is_planned_in_the_background() {
    let server = Server::start().await;
    table_of_manifests(&server, 100).await;
    // As long as a request waits for it.
    let (_, answer) = plan(&server, id_below_hundred()).await;
    assert_eq!(
        (&answer["status"], all_files(&server, &answer).await),
        (&json!("completed"), 100),
        "{answer}"
    );

    occupy(&server);
    let (status, submitted) = plan(&server, id_below_hundred()).await;
    assert_eq!((status, &submitted["status"]), (200, &json!("submitted")), "{submitted}");
    let path = format!("{TABLE}/plan/{}", submitted["plan-id"].as_str().unwrap());
    assert_eq!(ask(&server, "GET", &path, None).await, (200, json!({"status": "submitted"})));
    server.catalog.state.scans.cancel("one");
    let completed = result(&server, &path).await;
    assert_eq!(completed["status"], "completed", "{completed}");
    assert_eq!(all_files(&server, &completed).await, 100);
    assert_eq!(completed["file-scan-tasks"][0]["residual-filter"], id_below_hundred()["filter"]);
}

#[tokio::test]
async fn a_replica_that_never_heard_of_a_plan_makes_it_and_a_cancelled_one_stays_cancelled() {
    let server = Server::start().await;
    table_of_manifests(&server, 100).await;
    occupy(&server);
    let submit = async || {
        let (_, submitted) = plan(&server, id_below_hundred()).await;
        assert_eq!(submitted["status"], "submitted", "{submitted}");
        submitted["plan-id"].as_str().unwrap().to_owned()
    };
    let (kept, cancelled) = (submit().await, submit().await);
    let path = |id: &str| format!("{TABLE}/plan/{id}");
    assert_eq!(ask(&server, "DELETE", &path(&cancelled), None).await.0, 204);
    assert_eq!(ask(&server, "DELETE", &path(&cancelled), None).await.0, 204);
    assert_eq!(ask(&server, "GET", &path(&cancelled), None).await, (200, json!({"status": "cancelled"})));

    let replica = server.replica().await;
    assert_eq!(ask(&replica, "GET", &path(&cancelled), None).await, (200, json!({"status": "cancelled"})));
    let answer = result(&replica, &path(&kept)).await;
    assert_eq!(
        (&answer["status"], all_files(&replica, &answer).await),
        (&json!("completed"), 100),
        "{answer}"
    );

    // Nobody else's, and no other table's.
    let client = server.client().await;
    create(&client, "other").await;
    for path in [format!("/namespaces/ns/tables/other/plan/{kept}"), path("none")] {
        for method in ["GET", "DELETE"] {
            let (status, error) = ask(&server, method, &path, None).await;
            assert_eq!((status, &error["error"]["type"]), (404, &json!("NoSuchPlanIdException")), "{error}");
        }
    }
    let elsewhere = format!("{}/iceberg/v1/other{}", server.url, path(&kept));
    let stranger = reqwest::Client::new().get(elsewhere).bearer_auth(server.token(Role::Admin, &[]));
    assert_eq!(stranger.send().await.unwrap().status(), 403);
}

#[tokio::test]
async fn wrong_requests_are_told_where_they_are_wrong() {
    let server = Server::start().await;
    table_of_manifests(&server, 1).await;
    for (body, expected) in [
        (json!({"snapshot-id": "x"}), "$.snapshot-id"),
        (json!({"select": [1]}), "$.select[0]"),
        (json!({"filter": {"type": "eq", "term": "id", "value": "x"}}), "$.filter.value"),
        (json!({"snapshot-id": 5}), "no snapshot 5"),
    ] {
        let (status, error) = plan(&server, body.clone()).await;
        assert_eq!((status, &error["error"]["type"]), (400, &json!("BadRequestException")), "{error}");
        assert!(error["error"]["message"].as_str().unwrap().contains(expected), "{body}: {error}");
    }
    let (status, error) = ask(&server, "POST", "/namespaces/ns/tables/none/plan", Some(json!({}))).await;
    assert_eq!((status, &error["error"]["type"]), (404, &json!("NoSuchTableException")), "{error}");
    let (status, error) = ask(&server, "POST", &format!("{TABLE}/tasks"), Some(json!({}))).await;
    assert_eq!(status, 400, "{error}");
    assert!(error["error"]["message"].as_str().unwrap().contains("plan-task"), "{error}");
}
