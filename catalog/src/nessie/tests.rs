//! Nessie's API as its clients use it, over a real catalog in a temporary folder.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use axum::{
    Router,
    body::{self, Body},
    http::{Method, Request, StatusCode},
};
use firn_auth::{Claims, Role, SigningKey};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::{Catalog, CatalogConfig, config::S3Config};

const NO_ANCESTOR: &str = firn_catalog_client::nessie::NO_ANCESTOR;

struct Client {
    router: Router,
    key: SigningKey,
    token: String,
    _directory: tempfile::TempDir,
}

impl Client {
    async fn open() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let key = SigningKey::generate();
        let config = CatalogConfig {
            database_url: format!("sqlite:{}", directory.path().join("catalog.db").display()),
            warehouse: format!("file://{}", directory.path().join("warehouse").display()),
            s3: S3Config::default(),
            region: "eu-central-1".to_owned(),
            cache_bytes: 1 << 20,
            signing_key: key.clone(),
            public_url: "http://127.0.0.1:8181".to_owned(),
        };
        let catalog = Catalog::open(config).await.unwrap();
        let tenant = firn_catalog_client::TenantCreate { name: "acme".to_owned(), ..Default::default() };
        catalog.ensure_tenant(&tenant).await.unwrap();
        let token = token(&key, "acme", Role::Admin);
        Self { router: catalog.router(), key, token, _directory: directory }
    }

    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let mut request = Request::builder().method(method).uri(format!("/nessie/acme/api/v2{path}"));
        if !self.token.is_empty() {
            request = request.header("authorization", format!("Bearer {}", self.token));
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let request = request.header("content-type", "application/json").body(body).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    async fn get(&self, path: &str) -> Value {
        let (status, answer) = self.send(Method::GET, path, None).await;
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
        answer
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.send(Method::POST, path, Some(body)).await;
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
        answer
    }

    async fn head(&self, name: &str) -> String {
        self.get(&format!("/trees/{name}")).await["reference"]["hash"].as_str().unwrap().to_owned()
    }

    /// Commits puts of tables to a branch at its head; answers the new head.
    async fn commit(&self, branch: &str, names: &[&str]) -> String {
        let operations: Vec<Value> = names
            .iter()
            .map(|name| json!({"type": "PUT", "key": {"elements": [name]}, "content": table(name)}))
            .collect();
        let head = self.head(branch).await;
        let body = json!({"commitMeta": {"message": format!("add {names:?}"), "authors": ["eve"]}, "operations": operations});
        let answer = self.post(&format!("/trees/{branch}@{head}/history/commit"), body).await;
        answer["targetBranch"]["hash"].as_str().unwrap().to_owned()
    }
}

fn token(key: &SigningKey, tenant: &str, role: Role) -> String {
    let mut claims = Claims::new("ann", Duration::from_secs(60));
    claims.tenants.insert(tenant.parse().unwrap(), role);
    key.sign(&claims)
}

fn table(location: &str) -> Value {
    json!({"type": "ICEBERG_TABLE", "metadataLocation": location, "snapshotId": 1, "schemaId": 0, "specId": 0, "sortOrderId": 0})
}

#[tokio::test]
async fn a_session_of_a_nessie_client() {
    let client = Client::open().await;
    let config = client.get("/config").await;
    assert_eq!((&config["defaultBranch"], &config["noAncestorHash"]), (&json!("main"), &json!(NO_ANCESTOR)));
    assert_eq!(config["maxSupportedApiVersion"], 2);

    let body = json!({
        "commitMeta": {"message": "first", "allProperties": {"why": ["because"]}},
        "operations": [
            {"type": "PUT", "key": {"elements": ["n.s"]}, "content": {"type": "NAMESPACE", "elements": ["n.s"], "properties": {}}},
            {"type": "PUT", "key": {"elements": ["n.s", "t"]}, "content": table("x")},
            {"type": "PUT", "key": {"elements": ["future"]}, "content": {"type": "SOMETHING_NEW", "deep": {"er": [1.25]}}},
        ],
    });
    let committed = client.post(&format!("/trees/main@{NO_ANCESTOR}/history/commit"), body).await;
    assert_eq!(committed["targetBranch"]["name"], "main");
    assert_eq!(committed["addedContents"].as_array().unwrap().len(), 3);
    let head = committed["targetBranch"]["hash"].as_str().unwrap();

    let one = client.get("/trees/main/contents/n%1Ds.t").await;
    assert_eq!(one["content"]["metadataLocation"], "x");
    assert_eq!(one["effectiveReference"], json!({"type": "BRANCH", "name": "main", "hash": head}));
    let keys = json!({"requestedKeys": [{"elements": ["future"]}, {"elements": ["absent"]}]});
    let several = client.post("/trees/-/contents", keys).await;
    assert_eq!(several["contents"].as_array().unwrap().len(), 1);
    assert_eq!(several["contents"][0]["content"]["deep"], json!({"er": [1.25]}), "unknown types are kept");

    let entries = client.get("/trees/main/entries?prefix-key=n%1Ds&content=true").await;
    let names: Vec<&Value> =
        entries["entries"].as_array().unwrap().iter().map(|entry| &entry["name"]).collect();
    assert_eq!(names, [&json!({"elements": ["n.s"]}), &json!({"elements": ["n.s", "t"]})]);
    assert_eq!(entries["entries"][1]["type"], "ICEBERG_TABLE");

    let log = client.get("/trees/main/history?fetch=ALL").await;
    let entry = &log["logEntries"][0];
    assert_eq!(
        (&entry["commitMeta"]["committer"], &entry["commitMeta"]["hash"]),
        (&json!("ann"), &json!(head))
    );
    assert_eq!(entry["commitMeta"]["allProperties"], json!({"why": ["because"]}));
    assert_eq!(
        (&entry["operations"][0]["type"], &entry["parentCommitHash"]),
        (&json!("PUT"), &json!(NO_ANCESTOR))
    );
    assert_eq!(log["hasMore"], false);
}

#[tokio::test]
async fn references_live_through_the_api() {
    let client = Client::open().await;
    let (one, two) = (client.commit("main", &["a"]).await, client.commit("main", &["b"]).await);
    let source = json!({"type": "BRANCH", "name": "main", "hash": one});
    let created = client.post("/trees?name=feature%2Fx&type=BRANCH", source.clone()).await;
    assert_eq!(created["reference"], json!({"type": "BRANCH", "name": "feature/x", "hash": one}));
    client.post("/trees?name=v1&type=TAG", json!({"type": "DETACHED", "hash": two})).await;
    let page = client.get("/trees?max-records=2").await;
    assert_eq!((page["references"].as_array().unwrap().len(), &page["hasMore"]), (2, &json!(true)));
    let rest = client.get(&format!("/trees?page-token={}", page["token"].as_str().unwrap())).await;
    assert_eq!(
        (rest["references"][0]["type"].as_str(), rest["hasMore"].as_bool()),
        (Some("TAG"), Some(false))
    );

    let assign = Some(json!({"type": "BRANCH", "name": "main", "hash": two}));
    let (status, error) =
        client.send(Method::PUT, &format!("/trees/feature%2Fx@{two}"), assign.clone()).await;
    assert_eq!((status, &error["errorCode"]), (StatusCode::CONFLICT, &json!("REFERENCE_CONFLICT")));
    let (status, assigned) =
        client.send(Method::PUT, &format!("/trees/feature%2Fx@{one}?type=BRANCH"), assign).await;
    assert_eq!((status, &assigned["reference"]["hash"]), (StatusCode::OK, &json!(two)));
    assert_eq!(
        client.get(&format!("/trees/@{one}")).await["reference"],
        json!({"type": "DETACHED", "hash": one})
    );
    assert_eq!(client.get("/trees/v1~1").await["reference"]["hash"], json!(one));

    let (status, _) = client.send(Method::DELETE, &format!("/trees/feature%2Fx@{two}"), None).await;
    assert_eq!(status, StatusCode::OK);
    let (status, error) = client.send(Method::GET, "/trees/feature%2Fx", None).await;
    assert_eq!((status, &error["errorCode"]), (StatusCode::NOT_FOUND, &json!("REFERENCE_NOT_FOUND")));
    assert_eq!((&error["status"], &error["reason"]), (&json!(404), &json!("Not Found")));
    let (status, error) = client.send(Method::POST, "/trees?name=v1&type=TAG", Some(source)).await;
    assert_eq!((status, &error["errorCode"]), (StatusCode::CONFLICT, &json!("REFERENCE_ALREADY_EXISTS")));
}

#[tokio::test]
async fn lists_are_filtered_and_pages_stay_full() {
    let client = Client::open().await;
    for names in [["a1", "b1"], ["a2", "b2"], ["a3", "b3"]] {
        client.commit("main", &names).await;
    }
    let head = client.head("main").await;
    for (kind, name) in [("TAG", "v1"), ("BRANCH", "dev")] {
        client
            .post(
                &format!("/trees?name={name}&type={kind}"),
                json!({"type": "BRANCH", "name": "main", "hash": head}),
            )
            .await;
    }
    let filtered = async |path: &str, filter: &str| {
        let encoded: String = url::form_urlencoded::byte_serialize(filter.as_bytes()).collect();
        client.get(&format!("{path}{}filter={encoded}", if path.contains('?') { '&' } else { '?' })).await
    };
    let names = |list: &Value, at: &str| -> Vec<String> {
        list.as_array()
            .unwrap()
            .iter()
            .map(|item| item.pointer(at).unwrap().as_str().unwrap().to_owned())
            .collect()
    };

    let found = filtered("/trees", "refType == 'BRANCH' && ref.name != 'main'").await;
    assert_eq!(names(&found["references"], "/name"), ["dev"]);
    let found = filtered("/trees?fetch=ALL", "refMeta.numTotalCommits == 3 && refType == 'TAG'").await;
    assert_eq!(names(&found["references"], "/name"), ["v1"]);

    let entries = "/trees/main/entries?max-records=2";
    let first = filtered(entries, "entry.name.startsWith('b') && entry.contentType == 'ICEBERG_TABLE'").await;
    assert_eq!(names(&first["entries"], "/name/elements/0"), ["b1", "b2"]);
    let next = format!("{entries}&page-token={}", first["token"].as_str().unwrap());
    let second = filtered(&next, "entry.name.startsWith('b')").await;
    assert_eq!(
        (names(&second["entries"], "/name/elements/0"), &second["hasMore"]),
        (vec!["b3".to_owned()], &json!(false))
    );

    let log = "/trees/main/history?max-records=1";
    let first = filtered(log, "operations.exists(op, op.type == 'PUT' && op.key == 'a1')").await;
    assert_eq!(names(&first["logEntries"], "/commitMeta/message"), [r#"add ["a1", "b1"]"#]);
    assert_eq!(first["hasMore"], false);
    let all = filtered("/trees/main/history", "commit.author == 'eve' && commit.committer == 'ann'").await;
    assert_eq!(all["logEntries"].as_array().unwrap().len(), 3);
    let past = "timestamp(commit.commitTime) < timestamp('2020-01-01T00:00:00Z')";
    assert_eq!(filtered("/trees/main/history", past).await["logEntries"], json!([]));
    let early = filtered(log, "commit.message.contains('3') || commit.message.contains('1')").await;
    let next = format!("{log}&page-token={}", early["token"].as_str().unwrap());
    let late = filtered(&next, "commit.message.contains('1')").await;
    assert_eq!(names(&late["logEntries"], "/commitMeta/message"), [r#"add ["a1", "b1"]"#]);

    client.commit("dev", &["c1", "d1"]).await;
    let found = filtered("/trees/main/diff/dev", "key.name.startsWith('c')").await;
    assert_eq!(names(&found["diffs"], "/key/elements/0"), ["c1"]);
}

#[tokio::test]
async fn lists_page_through_one_state_while_the_branch_moves() {
    let client = Client::open().await;
    let first = client.commit("main", &["a", "b", "c"]).await;
    let page = client.get("/trees/main/entries?max-records=2").await;
    let token = page["token"].as_str().unwrap();
    client.commit("main", &["bb"]).await;
    let rest = client.get(&format!("/trees/main/entries?max-records=2&page-token={token}")).await;
    assert_eq!((&rest["entries"][0]["name"]["elements"][0], &rest["hasMore"]), (&json!("c"), &json!(false)));
    let log = client.get("/trees/main/history?max-records=1").await;
    let token = log["token"].as_str().unwrap();
    assert_eq!(token, first);
    let rest = client.get(&format!("/trees/main/history?max-records=1&page-token={token}")).await;
    assert_eq!(
        (&rest["logEntries"][0]["commitMeta"]["hash"], &rest["hasMore"]),
        (&json!(first), &json!(false))
    );
    let diff = client.get(&format!("/trees/main@{NO_ANCESTOR}/diff/main?max-records=3")).await;
    assert_eq!((diff["diffs"].as_array().unwrap().len(), &diff["diffs"][0]["from"]), (3, &Value::Null));
    let token = diff["token"].as_str().unwrap();
    let rest = client.get(&format!("/trees/main@{NO_ANCESTOR}/diff/main?page-token={token}")).await;
    assert_eq!(rest["diffs"][0]["key"], json!({"elements": ["c"]}));
}

#[tokio::test]
async fn references_tell_how_they_relate_to_main() {
    let client = Client::open().await;
    let base = client.commit("main", &["a"]).await;
    client.post("/trees?name=dev&type=BRANCH", json!({"type": "BRANCH", "name": "main", "hash": base})).await;
    client.post("/trees?name=v1&type=TAG", json!({"type": "BRANCH", "name": "main", "hash": base})).await;
    client.commit("dev", &["b"]).await;
    let head = client.commit("dev", &["c"]).await;
    client.commit("main", &["d"]).await;

    let all = client.get("/trees?fetch=ALL").await;
    let of = |name: &str| {
        let references = all["references"].as_array().unwrap();
        references.iter().find(|reference| reference["name"] == name).unwrap()["metadata"].clone()
    };
    let dev = of("dev");
    assert_eq!((&dev["numCommitsAhead"], &dev["numCommitsBehind"]), (&json!(2), &json!(1)));
    assert_eq!((&dev["commonAncestorHash"], &dev["numTotalCommits"]), (&json!(base), &json!(3)));
    assert_eq!(dev["commitMetaOfHEAD"]["hash"], json!(head));
    assert_eq!((&of("main")["numTotalCommits"], &of("main")["numCommitsAhead"]), (&json!(2), &Value::Null));
    assert_eq!((&of("v1")["numTotalCommits"], &of("v1")["commonAncestorHash"]), (&json!(1), &Value::Null));
    assert_eq!(client.get("/trees/dev?fetch=ALL").await["reference"]["metadata"], dev);
    assert_eq!(client.get("/trees/dev").await["reference"].get("metadata"), None);
}

#[tokio::test]
async fn recent_changes_tell_where_a_reference_was() {
    let client = Client::open().await;
    let first = client.commit("main", &["a"]).await;
    let second = client.commit("main", &["b"]).await;
    for number in 0..5 {
        client
            .post(
                &format!("/trees?name=b{number}&type=BRANCH"),
                json!({"type": "BRANCH", "name": "main", "hash": first}),
            )
            .await;
    }
    let main = json!({"type": "BRANCH", "name": "main", "hash": first});
    let (status, _) = client.send(Method::PUT, &format!("/trees/main@{second}"), Some(main)).await;
    assert_eq!(status, StatusCode::OK);
    let recent = client.get("/trees/main/recent-changes?commit-log=10").await;
    let current = &recent["current"];
    assert_eq!(
        (&current["pointer"], &current["commitConsistency"]),
        (&json!(first), &json!("COMMIT_CONSISTENT"))
    );
    assert_eq!(current["meta"]["hash"], json!(first));
    assert_eq!(recent["previous"].as_array().unwrap().len(), 1);
    assert_eq!(recent["previous"][0]["pointer"], json!(second));
    assert_eq!(recent["commitLogConsistency"], "COMMIT_CONSISTENT");
    assert_eq!(client.get("/trees/b1/recent-changes").await["commitLogConsistency"], "NOT_CHECKED");
}

#[tokio::test]
async fn merges_answer_with_their_conflicts_by_key() {
    let client = Client::open().await;
    let base = client.commit("main", &["a"]).await;
    client.post("/trees?name=dev&type=BRANCH", json!({"type": "BRANCH", "name": "main", "hash": base})).await;
    let from = client.commit("dev", &["b"]).await;
    let target = client.commit("main", &["c"]).await;
    let merge = json!({"fromRefName": "dev", "fromHash": from});
    let merged = client.post(&format!("/trees/main@{target}/history/merge"), merge).await;
    assert_eq!((&merged["wasApplied"], &merged["commonAncestor"]), (&json!(true), &json!(base)));
    assert_eq!(merged["details"][0]["key"], json!({"elements": ["b"]}));

    let theirs = client.commit("dev", &["both"]).await;
    let ours = client.commit("main", &["both"]).await;
    let merge = json!({"fromRefName": "dev", "fromHash": theirs});
    let path = format!("/trees/main@{ours}/history/merge");
    let (status, error) = client.send(Method::POST, &path, Some(merge.clone())).await;
    assert_eq!((status, &error["errorCode"]), (StatusCode::CONFLICT, &json!("REFERENCE_CONFLICT")));
    let conflict = &error["errorDetails"]["conflicts"][0];
    assert_eq!(
        (&conflict["conflictType"], &conflict["key"]["elements"][0]),
        (&json!("KEY_EXISTS"), &json!("both"))
    );
    let mut told = merge.clone();
    told["returnConflictAsResult"] = json!(true);
    let result = client.post(&path, told).await;
    assert_eq!((&result["wasSuccessful"], &result["resultantTargetHash"]), (&json!(false), &json!(ours)));
    let mut told = merge;
    told["keyMergeModes"] = json!([{"key": {"elements": ["both"]}, "mergeBehavior": "FORCE"}]);
    assert_eq!(client.post(&path, told).await["wasApplied"], true);

    client
        .post("/trees?name=pick&type=BRANCH", json!({"type": "BRANCH", "name": "main", "hash": base}))
        .await;
    let pick = json!({"fromRefName": "dev", "hashesToTransplant": [from]});
    let picked = client.post(&format!("/trees/pick@{base}/history/transplant"), pick).await;
    assert_eq!(picked["wasApplied"], true);
    assert_eq!(
        client.get("/trees/pick/history").await["logEntries"][0]["commitMeta"]["authors"],
        json!(["eve"])
    );
}

#[tokio::test]
async fn bad_requests_say_what_is_wrong() {
    let mut client = Client::open().await;
    let commit = "/trees/main/history/commit";
    let absent = json!({"commitMeta": {"message": "m"}, "operations": [
        {"type": "PUT", "key": {"elements": ["no", "t"]}, "content": table("x")}]});
    let cases = [
        (Method::GET, "/trees/main/contents/absent", None, 404, "CONTENT_NOT_FOUND"),
        (Method::GET, "/trees/main~x", None, 400, "BAD_REQUEST"),
        (Method::GET, "/trees?filter=ref.name%20==", None, 400, "BAD_REQUEST"),
        (Method::GET, "/trees?max-records=many", None, 400, "BAD_REQUEST"),
        (Method::GET, "/trees/absent/recent-changes", None, 404, "REFERENCE_NOT_FOUND"),
        (Method::POST, "/trees?name=a..b&type=BRANCH", Some(json!({"name": "main"})), 400, "BAD_REQUEST"),
        (Method::POST, commit, Some(json!({"operations": []})), 400, "BAD_REQUEST"),
        (Method::POST, commit, Some(absent), 409, "REFERENCE_CONFLICT"),
        (Method::DELETE, "/trees/main", None, 400, "BAD_REQUEST"),
    ];
    for (method, path, body, status, code) in cases {
        let (found, error) = client.send(method, path, body).await;
        assert_eq!((found.as_u16(), error["errorCode"].as_str()), (status, Some(code)), "{path}: {error}");
    }
    client.token = token(&client.key, "acme", Role::Reader);
    client.get("/trees").await;
    let (status, _) = client.send(Method::POST, commit, Some(json!({}))).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    client.token = token(&client.key, "other", Role::Admin);
    assert_eq!(client.send(Method::GET, "/trees", None).await.0, StatusCode::FORBIDDEN);
    client.token = String::new();
    assert_eq!(client.send(Method::GET, "/config", None).await.0, StatusCode::UNAUTHORIZED);
}
