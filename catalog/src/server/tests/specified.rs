//! Every operation of the specification, done and refused. What was answered is checked where the servers of all these tests are
//! made; here it is seen that nothing was left out.

use std::collections::BTreeSet;

use firn_auth::{Claims, Role};
use firn_catalog_client::iceberg::CreateTableRequest;
use firn_runtime::reload::Live;
use firn_tests::{SeaweedFs, Specification};
use serde_json::{Value, json};

use super::{
    harness::{Server, append, create, ident, new_table, set_properties, uuid},
    plans::{self, table_of_manifests},
    specification::Answered,
};
use crate::{
    DelegationConfig, S3Config,
    version::{CommitRequest, Content, Key, Meta, Op},
};

const NS: &str = "/namespaces/ns";

/// Asks and insists on a status.
async fn ask(server: &Server, method: &str, path: &str, body: Value, status: u16) -> Value {
    let mut request = server.raw(method, path);
    if !body.is_null() {
        request = request.json(&body);
    }
    let answer = request.send().await.unwrap();
    let found = answer.status();
    let text = answer.text().await.unwrap();
    assert_eq!(found, status, "{method} {path}: {text}");
    serde_json::from_str(&text).unwrap_or_default()
}

fn identifier(name: &str) -> Value {
    json!({"namespace": ["ns"], "name": name})
}

fn rename(from: &str, to: &str) -> Value {
    json!({"source": identifier(from), "destination": identifier(to)})
}

#[tokio::test]
async fn every_operation_answers_as_specified_whether_it_is_done_or_refused() {
    let server = Server::start().await;
    table_of_manifests(&server, 200).await;
    session(&server).await;
    namespaces(&server).await;
    tables(&server).await;
    scans(&server).await;
    views(&server).await;
    functions(&server).await;
    strangers(&server).await;
    let on_s3 = signed().await;

    let mut statuses = server.answered.statuses();
    for (operation, more) in on_s3.statuses() {
        statuses.entry(operation).or_default().extend(more);
    }
    let operations = Specification::iceberg().operations();
    for operation in &operations {
        let statuses = statuses.get(operation).cloned().unwrap_or_default();
        assert!(statuses.iter().any(|status| (200..300).contains(status)), "{operation} is never done");
        assert!(statuses.iter().any(|status| (400..500).contains(status)), "{operation} is never refused");
    }
    assert_eq!(operations.len(), 35);
}

#[tokio::test]
async fn the_configuration_lists_every_operation() {
    let server = Server::start().await;
    let config = ask(&server, "GET", "/../config?warehouse=acme", Value::Null, 200).await;
    let listed: BTreeSet<&str> =
        config["endpoints"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    // All but the two that come before it.
    let specified = Specification::iceberg().endpoints();
    let specified: BTreeSet<&str> =
        specified.iter().map(String::as_str).filter(|endpoint| endpoint.contains("{prefix}")).collect();
    assert_eq!(listed, specified);
}

async fn session(server: &Server) {
    ask(server, "GET", "/../config?warehouse=acme", Value::Null, 200).await;
    ask(server, "GET", "/../config?warehouse=Not%20one", Value::Null, 400).await;
    let url = format!("{}/iceberg/v1/oauth/tokens", server.url);
    for (token, status) in [(server.token(Role::Reader, &[]), 200), ("x".to_owned(), 400)] {
        let kind = "urn:ietf:params:oauth:token-type:access_token";
        let grant = "urn:ietf:params:oauth:grant-type:token-exchange";
        let form = [("grant_type", grant), ("subject_token", &token), ("subject_token_type", kind)];
        let answer = reqwest::Client::new().post(&url).form(&form).send().await.unwrap();
        assert_eq!(answer.status(), status, "{}", answer.text().await.unwrap());
    }
}

async fn namespaces(server: &Server) {
    let made = json!({"namespace": ["made"], "properties": {"a": "1"}});
    ask(server, "POST", "/namespaces", made.clone(), 200).await;
    ask(server, "POST", "/namespaces", made, 409).await;
    ask(server, "POST", "/namespaces", json!({"namespace": "x"}), 400).await;
    ask(server, "GET", "/namespaces", Value::Null, 200).await;
    ask(server, "GET", "/namespaces?parent=none", Value::Null, 404).await;
    for (name, status) in [("made", 200), ("none", 404)] {
        ask(server, "GET", &format!("/namespaces/{name}"), Value::Null, status).await;
        let change = json!({"updates": {"b": "2"}, "removals": ["a", "c"]});
        ask(server, "POST", &format!("/namespaces/{name}/properties"), change, status).await;
    }
    let both = json!({"updates": {"b": "2"}, "removals": ["b"]});
    ask(server, "POST", "/namespaces/made/properties", both, 422).await;
    for (name, status) in [("made", 204), ("none", 404)] {
        ask(server, "HEAD", &format!("/namespaces/{name}"), Value::Null, status).await;
    }
    ask(server, "DELETE", NS, Value::Null, 409).await;
    for status in [204, 404] {
        ask(server, "DELETE", "/namespaces/made", Value::Null, status).await;
    }
}

async fn tables(server: &Server) {
    let client = server.client().await;
    let tables = format!("{NS}/tables");
    ask(server, "POST", &tables, json!(new_table("made")), 200).await;
    ask(server, "POST", &tables, json!(new_table("made")), 409).await;
    ask(server, "POST", &tables, json!({"name": "x"}), 400).await;
    ask(server, "POST", "/namespaces/none/tables", json!(new_table("x")), 404).await;
    let staged = CreateTableRequest { stage_create: true, ..new_table("staged") };
    ask(server, "POST", &tables, json!(staged), 200).await;
    ask(server, "GET", &tables, Value::Null, 200).await;
    ask(server, "GET", &format!("{tables}?pageSize=1&pageToken="), Value::Null, 200).await;
    ask(server, "GET", "/namespaces/none/tables", Value::Null, 404).await;
    for (name, status) in [("made", 200), ("none", 404)] {
        ask(server, "GET", &format!("{tables}/{name}"), Value::Null, status).await;
        ask(server, "GET", &format!("{tables}/{name}?snapshots=refs"), Value::Null, status).await;
        ask(server, "GET", &format!("{tables}/{name}/credentials"), Value::Null, status).await;
    }
    ask(server, "GET", &format!("{tables}/made?snapshots=some"), Value::Null, 400).await;
    for (name, status) in [("made", 204), ("none", 404)] {
        ask(server, "HEAD", &format!("{tables}/{name}"), Value::Null, status).await;
    }

    let made = client.load_table("main", &ident("made")).await.unwrap();
    let change = json!(append(&made, 1));
    ask(server, "POST", &format!("{tables}/made"), change.clone(), 200).await;
    ask(server, "POST", &format!("{tables}/made"), change.clone(), 409).await;
    ask(server, "POST", &format!("{tables}/none"), change.clone(), 404).await;
    let unknown = json!({"requirements": [], "updates": [{"action": "fly"}]});
    ask(server, "POST", &format!("{tables}/made"), unknown, 400).await;
    let mut set = json!(set_properties(Vec::new(), json!({"a": "1"})));
    set["identifier"] = identifier("made");
    let mut stale = change;
    stale["identifier"] = identifier("made");
    let all = "/transactions/commit";
    ask(server, "POST", all, json!({"table-changes": [set]}), 204).await;
    ask(server, "POST", all, json!({"table-changes": [stale]}), 409).await;
    ask(server, "POST", all, json!({"table-changes": [{"requirements": [], "updates": []}]}), 400).await;

    let report = json!({
        "report-type": "commit-report", "table-name": "ns.made", "snapshot-id": 1, "sequence-number": 1,
        "operation": "append", "metrics": {},
    });
    ask(server, "POST", &format!("{tables}/made/metrics"), report, 204).await;
    ask(server, "POST", &format!("{tables}/made/metrics"), json!({}), 400).await;
    ask(server, "POST", "/tables/rename", rename("made", "t"), 409).await;
    for status in [204, 404] {
        ask(server, "POST", "/tables/rename", rename("made", "named"), status).await;
    }
    let last = ask(server, "POST", &format!("{tables}/named/unregister"), json!({}), 200).await;
    ask(server, "POST", &format!("{tables}/named/unregister"), json!({}), 404).await;
    let register = json!({"name": "again", "metadata-location": last["metadata-location"]});
    for status in [200, 409] {
        ask(server, "POST", &format!("{NS}/register"), register.clone(), status).await;
    }
    for status in [204, 404] {
        ask(server, "DELETE", &format!("{tables}/again"), Value::Null, status).await;
    }
}

async fn scans(server: &Server) {
    let table = format!("{NS}/tables/t");
    let answer = ask(server, "POST", &format!("{table}/plan"), json!({}), 200).await;
    let filter = json!({"type": "lt", "term": "id", "value": 7});
    ask(server, "POST", &format!("{table}/plan"), json!({"filter": filter, "stats-fields": ["id"]}), 200)
        .await;
    ask(server, "POST", &format!("{table}/plan"), json!({"snapshot-id": "x"}), 400).await;
    ask(server, "POST", &format!("{NS}/tables/none/plan"), json!({}), 404).await;
    let task = json!({"plan-task": answer["plan-tasks"][0]});
    ask(server, "POST", &format!("{table}/tasks"), task, 200).await;
    ask(server, "POST", &format!("{table}/tasks"), json!({"plan-task": "x"}), 404).await;
    // A plan that waits for its turn in the background.
    plans::occupy(server);
    let submitted = ask(server, "POST", &format!("{table}/plan"), json!({"filter": filter}), 200).await;
    assert_eq!(submitted["status"], "submitted");
    let plan = format!("{table}/plan/{}", submitted["plan-id"].as_str().unwrap());
    ask(server, "GET", &plan, Value::Null, 200).await;
    ask(server, "DELETE", &plan, Value::Null, 204).await;
    let cancelled = ask(server, "GET", &plan, Value::Null, 200).await;
    assert_eq!(cancelled["status"], "cancelled");
    for method in ["GET", "DELETE"] {
        ask(server, method, &format!("{table}/plan/none"), Value::Null, 404).await;
    }
}

async fn views(server: &Server) {
    let views = format!("{NS}/views");
    let schema = json!({"type": "struct", "schema-id": 0, "fields": [{"id": 1, "name": "a", "type": "long", "required": false}]});
    let version = json!({
        "version-id": 1, "timestamp-ms": 1, "schema-id": 0, "summary": {"engine-name": "test"},
        "default-namespace": ["ns"], "representations": [{"type": "sql", "sql": "select 1", "dialect": "spark"}],
    });
    let made = json!({"name": "seen", "schema": schema, "view-version": version, "properties": {}});
    ask(server, "POST", &views, made.clone(), 200).await;
    ask(server, "POST", &views, made.clone(), 409).await;
    ask(server, "POST", "/namespaces/none/views", made, 404).await;
    ask(server, "GET", &views, Value::Null, 200).await;
    ask(server, "GET", "/namespaces/none/views", Value::Null, 404).await;
    let set = json!([{"action": "set-properties", "updates": {"a": "1"}}]);
    for (name, status) in [("seen", 200), ("none", 404)] {
        ask(server, "GET", &format!("{views}/{name}"), Value::Null, status).await;
        let change = json!({"requirements": [], "updates": set});
        ask(server, "POST", &format!("{views}/{name}"), change, status).await;
    }
    let other = json!([{"type": "assert-view-uuid", "uuid": uuid()}]);
    let change = json!({"requirements": other, "updates": set});
    ask(server, "POST", &format!("{views}/seen"), change, 409).await;
    for (name, status) in [("seen", 204), ("none", 404)] {
        ask(server, "HEAD", &format!("{views}/{name}"), Value::Null, status).await;
    }
    for status in [204, 404] {
        ask(server, "POST", "/views/rename", rename("seen", "named"), status).await;
    }
    let loaded = ask(server, "GET", &format!("{views}/named"), Value::Null, 200).await;
    let register = json!({"name": "again", "metadata-location": loaded["metadata-location"]});
    for status in [200, 409] {
        ask(server, "POST", &format!("{NS}/register-view"), register.clone(), status).await;
    }
    for status in [204, 404] {
        ask(server, "DELETE", &format!("{views}/named"), Value::Null, status).await;
    }
}

/// A function's metadata, as the specification describes it.
pub(super) fn function() -> Value {
    json!({
        "function-uuid": uuid(), "format-version": 1,
        "definitions": [{
            "definition-id": "(long)", "parameters": [{"name": "x", "type": "long"}], "return-type": "long",
            "function-type": "udf", "current-version-id": 1,
            "versions": [{
                "version-id": 1, "timestamp-ms": 1,
                "representations": [{"type": "sql", "dialect": "spark", "sql": "x + 1"}],
            }],
        }],
        "definition-log": [{
            "timestamp-ms": 1, "definition-versions": [{"definition-id": "(long)", "version-id": 1}],
        }],
    })
}

async fn functions(server: &Server) {
    let state = &server.catalog.state;
    let place = state.storage.new_location("acme", &["ns".to_owned()], "plus");
    let bytes = function().to_string().into_bytes();
    let location = state.storage.write_metadata("acme", &place, None, None, bytes).await.unwrap();
    let content = Content::new(json!({"type": "UDF", "metadataLocation": location}));
    let key = Key(vec!["ns".to_owned(), "plus".to_owned()]);
    let commit = CommitRequest {
        branch: "main".to_owned(),
        expected_head: None,
        operations: vec![Op::Put { key, content, expected: Some(None) }],
        meta: Meta::default(),
        idempotency: None,
    };
    state.versions.repository("acme").commit(commit).await.unwrap();
    ask(server, "GET", &format!("{NS}/functions"), Value::Null, 200).await;
    ask(server, "GET", "/namespaces/none/functions", Value::Null, 404).await;
    for (name, status) in [("plus", 200), ("none", 404)] {
        ask(server, "GET", &format!("{NS}/functions/{name}"), Value::Null, status).await;
    }
}

/// Everything, asked without a token and with one of another tenant.
async fn strangers(server: &Server) {
    let mut claims = Claims::new("stranger", std::time::Duration::from_secs(600));
    claims.tenants.insert("other".parse().unwrap(), Role::Admin);
    let stranger = server.key.sign(&claims);
    for endpoint in Specification::iceberg().endpoints() {
        let (method, path) = endpoint.split_once(' ').unwrap();
        if path.contains("oauth") {
            continue;
        }
        let mut url = format!("{}/iceberg{}", server.url, path.replace("{prefix}", "acme"));
        for part in ["namespace", "table", "view", "function", "plan-id"] {
            url = url.replace(&format!("{{{part}}}"), "x");
        }
        if path.ends_with("/config") {
            url += "?warehouse=acme";
        }
        let request = || reqwest::Client::new().request(method.parse().unwrap(), &url).body("{}");
        let nobody = request().send().await.unwrap();
        assert_eq!(nobody.status(), 401, "{endpoint}: {}", nobody.text().await.unwrap());
        let other = request().bearer_auth(&stranger).send().await.unwrap();
        assert_eq!(other.status(), 403, "{endpoint}: {}", other.text().await.unwrap());
    }
}

/// What only a bucket can answer: signatures and keys.
async fn signed() -> Answered {
    let s3 = SeaweedFs::start().await.unwrap();
    s3.create_bucket("lake").await.unwrap();
    let keys = (SeaweedFs::ACCESS_KEY.to_owned(), SeaweedFs::SECRET_KEY.to_owned());
    let delegation =
        DelegationConfig { remote_signing: Some(true), static_keys: true, ..DelegationConfig::default() };
    let config = S3Config {
        endpoint: Some(s3.endpoint()),
        region: Some("us-east-1".to_owned()),
        path_style: true,
        credentials: Some(Live::new(keys)),
        delegation,
        ..S3Config::default()
    };
    let server = Server::start_on_s3(config, "s3://lake/warehouse").await;
    let table = create(&server.client().await, "t").await;
    let table_path = format!("{NS}/tables/t");
    let location = table.metadata["location"].as_str().unwrap().strip_prefix("s3://").unwrap().to_owned();
    let request = |path: &str| {
        let uri = format!("{}/{path}", s3.endpoint());
        json!({"region": "us-east-1", "uri": uri, "method": "GET", "headers": {}})
    };
    let own = request(&format!("{location}/data/1.parquet"));
    ask(&server, "POST", &format!("{table_path}/sign"), own, 200).await;
    ask(&server, "POST", &format!("{table_path}/sign"), request("lake/elsewhere"), 403).await;
    let keys = ask(&server, "GET", &format!("{table_path}/credentials"), Value::Null, 200).await;
    assert!(!keys["storage-credentials"].as_array().unwrap().is_empty(), "{keys}");
    for delegation in ["vended-credentials", "remote-signing"] {
        let load = server.raw("GET", &table_path).header("X-Iceberg-Access-Delegation", delegation);
        assert_eq!(load.send().await.unwrap().status(), 200);
    }
    server.answered.clone()
}
