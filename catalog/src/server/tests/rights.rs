//! Who may do what: grants, protected branches, clients and tokens, revocation, limits, the audit log.

use std::time::Duration;

use firn_auth::{Action, Claims, Grant, Limits, Protection, Role};
use firn_catalog_client::{
    AccessRules, ClientCreate, ClientErrorKind, ClientRotate, RevocationRequest, TenantClient, TenantUpdate,
    TokenRequest,
    nessie::{MergeRequest, TableMerge},
};
use serde_json::{Value, json};

use super::harness::{Server, create, ident, new_table};

fn ns() -> Vec<String> {
    vec!["ns".to_owned()]
}

impl Server {
    /// A principal of `acme` whose token has the role agent and nothing else.
    fn narrow(&self, name: &str) -> TenantClient {
        let mut claims = Claims::new(name, Duration::from_secs(600));
        claims.tenants.insert("acme".parse().unwrap(), Role::Agent);
        self.server_client(self.key.sign(&claims)).tenant("acme")
    }

    /// Adds to the rules of `acme`.
    async fn rule(&self, edit: impl FnOnce(&mut AccessRules)) {
        let admin = self.client_as(Role::Admin);
        let mut rules = admin.access_rules().await.unwrap();
        edit(&mut rules);
        admin.set_access_rules(&rules).await.unwrap();
    }
}

fn grant(principal: &str, actions: &[Action], reference: &str, key: &str) -> Grant {
    Grant {
        principal: principal.to_owned(),
        actions: actions.to_vec(),
        reference: reference.to_owned(),
        key: key.to_owned(),
    }
}

fn status<T: std::fmt::Debug>(outcome: Result<T, firn_catalog_client::ClientError>) -> u16 {
    outcome.map_or_else(|error| error.status.unwrap_or(0), |_| 200)
}

#[tokio::test]
async fn a_grant_opens_its_tables_and_nothing_beside_them() {
    let server = Server::start().await;
    let client = server.client().await;
    client.ensure_namespace("main", &["secret".to_owned()]).await.unwrap();
    create(&client, "open").await;
    create(&client, "closed").await;
    let bi = server.narrow("bi");
    assert_eq!(status(bi.load_table("main", &ident("open")).await), 403);
    server.rule(|rules| rules.grants.push(grant("bi", &[Action::Read], "main", "ns.open"))).await;

    assert_eq!(status(bi.load_table("main", &ident("open")).await), 200);
    // What exists and what doesn't are refused alike.
    for hidden in ["closed", "nothing"] {
        let error = bi.load_table("main", &ident(hidden)).await.unwrap_err();
        assert_eq!(error.status, Some(403), "{error}");
        assert!(!error.message.contains(hidden), "{error}");
    }
    assert_eq!(
        status(bi.load_table("dev", &ident("open")).await),
        403,
        "another branch, that isn't even there"
    );
    assert_eq!(bi.list_namespaces("main", &[]).await.unwrap(), [ns()], "'secret' is not seen");
    assert_eq!(bi.list_tables("main", &ns()).await.unwrap(), [ident("open")]);
    assert_eq!(status(bi.create_table("main", &ns(), &new_table("open2")).await), 403);
    let raw = |path: &str| {
        let url = format!("{}/nessie/acme/api/v2{path}", server.url);
        let mut claims = Claims::new("bi", Duration::from_secs(600));
        claims.tenants.insert("acme".parse().unwrap(), Role::Agent);
        reqwest::Client::new().get(url).bearer_auth(server.key.sign(&claims)).send()
    };
    let entries: Value = raw("/trees/main/entries").await.unwrap().json().await.unwrap();
    let names: Vec<&Value> =
        entries["entries"].as_array().unwrap().iter().map(|entry| &entry["name"]["elements"]).collect();
    assert_eq!(names, [&json!(["ns"]), &json!(["ns", "open"])]);
    assert_eq!(raw("/trees/main/contents/ns.open").await.unwrap().status(), 200);
    assert_eq!(raw("/trees/main/contents/ns.closed").await.unwrap().status(), 404);
    for whole in ["/trees/main/history", "/trees/main/diff/main", "/trees/main/recent-changes"] {
        assert_eq!(raw(whole).await.unwrap().status(), 403, "{whole}");
    }
    let head = raw("/trees/main").await.unwrap().json::<Value>().await.unwrap()["reference"]["hash"].clone();
    let bare = format!("/trees/{}/contents/ns.open", head.as_str().unwrap());
    assert_eq!(raw(&bare).await.unwrap().status(), 403, "a bare commit may be of any branch");

    server.rule(|rules| rules.grants.clear()).await;
    assert_eq!(status(bi.load_table("main", &ident("open")).await), 403, "it is taken back at once");
}

#[tokio::test]
async fn a_grant_on_one_table_is_no_way_to_another_one_s_metadata() {
    let server = Server::start().await;
    let client = server.client().await;
    let closed = create(&client, "closed").await.metadata_location.unwrap();
    let actions = [Action::Read, Action::Write];
    server.rule(|rules| rules.grants.push(grant("etl", &actions, "*", "ns.open*"))).await;
    let etl = server.narrow("etl");
    assert_eq!(status(etl.create_table("main", &ns(), &new_table("open")).await), 200);
    let mut claims = Claims::new("etl", Duration::from_secs(600));
    claims.tenants.insert("acme".parse().unwrap(), Role::Agent);
    let (narrow, writer) = (server.key.sign(&claims), server.token(Role::Writer, &[]));
    let post = async |token: &str, path: &str, body: &Value| {
        let request = reqwest::Client::new().post(format!("{}{path}", server.url)).bearer_auth(token);
        request.json(body).send().await.unwrap().status().as_u16()
    };
    for (path, name) in [("register", "open2"), ("register-view", "open3")] {
        let path = format!("/iceberg/v1/acme/namespaces/ns/{path}");
        let body = json!({"name": name, "metadata-location": closed});
        assert_eq!(post(&narrow, &path, &body).await, 403, "{path}");
    }
    let head = client.reference("main").await.unwrap().hash().to_owned();
    let commit = format!("/nessie/acme/api/v2/trees/main@{head}/history/commit");
    let put = |content: Value| {
        json!({
            "commitMeta": {"message": "x"},
            "operations": [{"type": "PUT", "key": {"elements": ["ns", "open4"]}, "content": content}],
        })
    };
    let table = put(json!({
        "type": "ICEBERG_TABLE", "metadataLocation": closed, "snapshotId": -1, "schemaId": 0, "specId": 0,
        "sortOrderId": 0,
    }));
    assert_eq!(post(&narrow, &commit, &table).await, 403);
    let function = put(json!({"type": "UDF", "sqlText": "SELECT 1", "dialect": "SPARK"}));
    assert_eq!(post(&narrow, &commit, &function).await, 200, "what names no file is its own");
    let register = json!({"name": "copy", "metadata-location": closed});
    assert_eq!(post(&writer, "/iceberg/v1/acme/namespaces/ns/register", &register).await, 200);
}

#[tokio::test]
async fn a_protected_branch_takes_merges_only() {
    let server = Server::start().await;
    let client = server.client().await;
    create(&client, "t").await;
    let protection = Protection { reference: "main".to_owned(), exempt: vec!["robot".to_owned()] };
    server.rule(|rules| rules.protections.push(protection)).await;
    let error = client.create_table("main", &ns(), &new_table("u")).await.unwrap_err();
    assert_eq!(error.status, Some(403));
    assert!(error.message.contains("takes merges only"), "{error}");
    let files = server.metadata_files();
    assert_eq!(status(client.drop_table("main", &ident("t")).await), 403);
    assert_eq!(server.metadata_files(), files, "nothing is left behind");

    client.create_branch("dev", "main").await.unwrap();
    client.create_table("dev", &ns(), &new_table("u")).await.unwrap();
    let writer = server.client_as(Role::Writer);
    let from_hash = client.reference("dev").await.unwrap().hash().to_owned();
    let request = MergeRequest {
        from_ref_name: "dev".to_owned(),
        from_hash,
        message: None,
        commit_meta: None,
        dry_run: false,
        table_merge: TableMerge::All,
    };
    let merge = async |client: &TenantClient| status(client.merge("main", &request).await);
    assert_eq!(merge(&writer).await, 403);
    assert_eq!(merge(&client).await, 200);
    let mut claims = Claims::new("robot", Duration::from_secs(600));
    claims.tenants.insert("acme".parse().unwrap(), Role::Writer);
    let robot = server.server_client(server.key.sign(&claims)).tenant("acme");
    assert_eq!(status(robot.create_table("main", &ns(), &new_table("w")).await), 200);
}

#[tokio::test]
async fn a_rotated_secret_overlaps_and_a_removed_client_is_out_at_once() {
    let server = Server::start().await;
    let admin = server.client_as(Role::Admin);
    let request = ClientCreate { name: "etl".to_owned(), role: Role::Reader, scopes: Vec::new(), host: None };
    let first = admin.create_client(&request).await.unwrap();
    let catalog = server.server_client(String::new());
    let token = async |secret: &str| catalog.client_token("acme/etl", secret).await;
    let old = token(&first.client_secret).await.unwrap();

    let second = admin.rotate_client("etl", &ClientRotate { overlap_s: Some(3600) }).await.unwrap();
    assert!(second.former_until.is_some() && second.client_secret != first.client_secret);
    assert!(token(&first.client_secret).await.is_ok() && token(&second.client_secret).await.is_ok());
    assert_eq!(admin.clients().await.unwrap()[0].secrets.len(), 2);
    let third = admin.rotate_client("etl", &ClientRotate { overlap_s: Some(0) }).await.unwrap();
    assert_eq!(token(&first.client_secret).await.unwrap_err().status, Some(401));
    assert_eq!(token(&second.client_secret).await.unwrap_err().status, Some(401));
    assert!(token(&third.client_secret).await.is_ok());

    let etl = server.server_client(old).tenant("acme");
    assert_eq!(status(etl.list_namespaces("main", &[]).await), 200);
    admin.remove_client("etl").await.unwrap();
    let error = etl.list_namespaces("main", &[]).await.unwrap_err();
    assert_eq!((error.status, error.message.contains("revoked")), (Some(401), true), "{error}");
    assert!(token(&third.client_secret).await.is_err() && admin.clients().await.unwrap().is_empty());
    let missing = admin.rotate_client("etl", &ClientRotate::default()).await.unwrap_err();
    assert_eq!(missing.kind, ClientErrorKind::NotFound);
}

#[tokio::test]
async fn a_revoked_token_is_out_with_all_that_was_exchanged_for_it() {
    let server = Server::start().await;
    let admin = server.client_as(Role::Admin);
    let request = TokenRequest {
        subject: "ann".to_owned(),
        role: Role::Reader,
        scopes: Vec::new(),
        host: None,
        ttl_s: Some(600),
    };
    let issued = admin.issue_token(&request).await.unwrap();
    let other = admin.issue_token(&request).await.unwrap();
    let exchange = async |token: &str| {
        let fields =
            [("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"), ("subject_token", token)];
        let url = format!("{}/iceberg/v1/oauth/tokens", server.url);
        let answer = reqwest::Client::new().post(url).form(&fields).send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let (_, answer) = exchange(&issued.token).await;
    let exchanged = answer["access_token"].as_str().unwrap().to_owned();
    let list = async |token: &str| {
        let client = server.server_client(token.to_owned()).tenant("acme");
        status(client.list_namespaces("main", &[]).await)
    };
    assert_eq!((list(&issued.token).await, list(&exchanged).await), (200, 200));
    let revocation = RevocationRequest { token: Some(exchanged.clone()), ..RevocationRequest::default() };
    admin.revoke(&revocation).await.unwrap();
    assert_eq!((list(&issued.token).await, list(&exchanged).await), (401, 401));
    assert_eq!(list(&other.token).await, 200);

    // An operator's revocation holds in all tenants, and at the token endpoint.
    let everywhere = RevocationRequest { id: Some(other.id), ..RevocationRequest::default() };
    assert_eq!(status(server.server_client(server.token(Role::Admin, &[])).revoke(&everywhere).await), 403);
    server.operator().revoke(&everywhere).await.unwrap();
    assert_eq!(list(&other.token).await, 401);
    assert_eq!(exchange(&other.token).await.0, 400);
    let both = RevocationRequest { principal: Some("x".to_owned()), ..everywhere };
    assert_eq!(status(server.operator().revoke(&both).await), 400);

    // A session ends, however often its tokens were exchanged.
    let mut claims = Claims::new("old", Duration::from_secs(600));
    claims.tenants.insert("acme".parse().unwrap(), Role::Reader);
    claims.auth_time = Some(claims.iat - 8 * 86_400);
    let (status, answer) = exchange(&server.key.sign(&claims)).await;
    assert_eq!(status, 400);
    assert!(answer["error_description"].as_str().unwrap().contains("session is over"), "{answer}");
}

#[tokio::test]
async fn the_audit_log_tells_who_did_what_and_who_was_refused() {
    let server = Server::start().await;
    let client = server.client().await;
    let raw = server.raw("GET", "/namespaces/ns").header("x-request-id", "mine");
    raw.send().await.unwrap();
    create(&client, "t").await;
    client.create_branch("dev", "main").await.unwrap();
    let reader = server.client_as(Role::Reader);
    for _ in 0..3 {
        assert_eq!(status(reader.create_table("main", &ns(), &new_table("no")).await), 403);
    }
    let admin = server.client_as(Role::Admin);
    let request = ClientCreate { name: "etl".to_owned(), role: Role::Reader, scopes: Vec::new(), host: None };
    admin.create_client(&request).await.unwrap();
    // Refusals are written by a task of their own.
    let mut refused = 0;
    for _ in 0..200 {
        let (denied, _) = admin.audit(0, 1000, &[("decision", "denied"), ("action", "write")]).await.unwrap();
        refused = denied.iter().map(|entry| entry.details["count"].as_u64().unwrap()).sum();
        if refused == 3 {
            assert!(denied.iter().all(|entry| entry.principal == "alice"));
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(refused, 3);
    let (entries, next) = admin.audit(0, 1000, &[]).await.unwrap();
    let find = |action: &str| entries.iter().find(|entry| entry.action == action).unwrap();
    assert_eq!(find("commit").principal, "alice");
    assert!(find("commit").commit.is_some() && find("commit").decision == "allowed");
    assert_eq!(
        (find("reference-created").principal.as_str(), find("reference-created").tenant.as_str()),
        ("alice", "acme")
    );
    assert_eq!(find("client-created").details["client"], "acme/etl");
    assert!(!json!(entries).to_string().contains("client_secret"));
    let sequences: Vec<i64> = entries.iter().map(|entry| entry.sequence).collect();
    assert!(sequences.is_sorted());
    assert_eq!(admin.audit(next, 1000, &[]).await.unwrap(), (Vec::new(), next));
    let (first, second) = admin.audit(0, 1, &[("action", "commit")]).await.unwrap();
    assert_eq!((first.len(), second), (1, first[0].sequence));
    assert_eq!(status(reader.audit(0, 10, &[]).await), 403);
    // Readers of events are told what happened to the data alone.
    let events = reader.events(0, 1000, 0).await.unwrap().events;
    assert!(
        events.iter().all(|event| event.event_type == "commit" || event.event_type.starts_with("reference-"))
    );
}

#[tokio::test]
async fn limits_are_the_tenants_and_say_when_to_come_back() {
    let server = Server::start().await;
    let client = server.client().await;
    let acme = server.operator().tenant("acme");
    let limit = async |limits: Limits| {
        acme.update(&TenantUpdate { limits: Some(limits), ..TenantUpdate::default() }).await.unwrap();
    };
    limit(Limits { tables: Some(1), references: Some(2), ..Limits::default() }).await;
    create(&client, "t").await;
    let error = client.create_table("main", &ns(), &new_table("u")).await.unwrap_err();
    assert!(error.status == Some(403) && error.message.contains("may have 1 tables"), "{error}");
    assert_eq!(status(client.load_table("main", &ident("t")).await), 200);
    // What goes makes room, and each branch has its own count.
    limit(Limits { tables: Some(2), references: Some(2), ..Limits::default() }).await;
    create(&client, "u").await;
    assert_eq!(status(client.create_table("main", &ns(), &new_table("v")).await), 403);
    client.drop_table("main", &ident("t")).await.unwrap();
    create(&client, "v").await;
    assert_eq!(status(client.create_table("main", &ns(), &new_table("w")).await), 403);
    client.create_branch("a", "main").await.unwrap();
    assert_eq!(status(client.create_branch("b", "main").await), 403);
    client.drop_table("a", &ident("v")).await.unwrap();
    client.create_table("a", &ns(), &new_table("x")).await.unwrap();
    for branch in ["a", "main"] {
        assert_eq!(status(client.create_table(branch, &ns(), &new_table("y")).await), 403, "{branch}");
    }

    limit(Limits { body_bytes: Some(10), ..Limits::default() }).await;
    let large = server.raw("POST", "/namespaces").json(&json!({"namespace": ["long-enough"]}));
    assert_eq!(large.send().await.unwrap().status(), 413);

    limit(Limits { requests_per_s: Some(1), ..Limits::default() }).await;
    let mut refused = None;
    for _ in 0..30 {
        let answer = server.raw("GET", "/namespaces").send().await.unwrap();
        if answer.status() == 429 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("the bucket runs empty");
    assert!(refused.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
    // Another tenant and the operator have their own.
    assert_eq!(status(server.operator().tenant("acme").tenant().await), 200);
    let mut other = Claims::new("bob", Duration::from_secs(600));
    other.tenants.insert("other".parse().unwrap(), Role::Reader);
    let other = server.server_client(server.key.sign(&other)).tenant("other");
    assert_eq!(status(other.list_namespaces("main", &[]).await), 200);
    limit(Limits { concurrent_commits: Some(0), ..Limits::default() }).await;
    let answer = server.raw("POST", "/namespaces").json(&json!({"namespace": ["x"]})).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["retry-after"].to_str().unwrap()), (429, "1"));
}
