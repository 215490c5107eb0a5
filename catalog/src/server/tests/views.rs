//! Views beside tables.

use serde_json::{Value, json};

use super::harness::{Server, create};

fn version(sql: &str) -> Value {
    json!({
        "version-id": 1, "timestamp-ms": 1, "schema-id": 0, "summary": {"engine-name": "test"},
        "default-namespace": ["ns"], "representations": [{"type": "sql", "sql": sql, "dialect": "spark"}],
    })
}

#[tokio::test]
async fn a_view_has_versions() {
    let server = Server::start().await;
    let client = server.client().await;
    create(&client, "t").await;
    let post = |path: &str, body: Value| {
        let request = server.raw("POST", path).json(&body);
        async move { request.send().await.unwrap() }
    };
    let schema =
        json!({"type": "struct", "fields": [{"id": 1, "name": "a", "type": "long", "required": false}]});
    let body = |name: &str| json!({"name": name, "schema": schema, "view-version": version("select 1"), "properties": {}});
    let missing = server.raw("GET", "/namespaces/ns/views/v").send().await.unwrap();
    assert_eq!(missing.status(), 404);
    assert_eq!(missing.json::<Value>().await.unwrap()["error"]["type"], "NoSuchViewException");
    assert_eq!(post("/namespaces/ns/views", body("t")).await.status(), 409, "a table has the name");
    assert_eq!(post("/namespaces/ns/views", body("v")).await.status(), 200);

    let replace = json!({"requirements": [], "updates": [
        {"action": "add-view-version", "view-version": version("select 2")},
        {"action": "set-current-view-version", "view-version-id": -1},
    ]});
    let replaced: Value = post("/namespaces/ns/views/v", replace).await.json().await.unwrap();
    assert_eq!(replaced["metadata"]["current-version-id"], 2);
    assert_eq!(replaced["metadata"]["version-log"].as_array().unwrap().len(), 2);

    let views: Value = server.raw("GET", "/namespaces/ns/views").send().await.unwrap().json().await.unwrap();
    assert_eq!(views["identifiers"], json!([{"namespace": ["ns"], "name": "v"}]));
    let tables: Value =
        server.raw("GET", "/namespaces/ns/tables").send().await.unwrap().json().await.unwrap();
    assert_eq!(tables["identifiers"], json!([{"namespace": ["ns"], "name": "t"}]));
    assert_eq!(server.raw("HEAD", "/namespaces/ns/tables/v").send().await.unwrap().status(), 404);
    assert_eq!(server.raw("HEAD", "/namespaces/ns/views/v").send().await.unwrap().status(), 204);

    let rename = json!({"source": {"namespace": ["ns"], "name": "v"}, "destination": {"namespace": ["ns"], "name": "w"}});
    assert_eq!(post("/views/rename", rename).await.status(), 204);
    assert_eq!(server.raw("DELETE", "/namespaces/ns/views/v").send().await.unwrap().status(), 404);
    assert_eq!(server.raw("DELETE", "/namespaces/ns/views/w").send().await.unwrap().status(), 204);
}
