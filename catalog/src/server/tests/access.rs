//! Tokens, tenants, leases, events.

use std::time::Duration;

use firn_auth::{Claims, Role, Scope};
use firn_catalog_client::{ClientErrorKind, LeaseRequest, SuspensionRequest, TenantCreate};
use serde_json::{Value, json};

use super::harness::{Server, create, ident, new_table};

#[tokio::test]
async fn config_answers_prefix_and_what_works() {
    let server = Server::start().await;
    let ask = |query: &str, token: Option<String>| {
        let request = reqwest::Client::new().get(format!("{}/iceberg/v1/config{query}", server.url));
        let request = match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        async move {
            let answer = request.send().await.unwrap();
            (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
        }
    };
    let reader = || Some(server.token(Role::Reader, &[]));
    let operator = Some(server.key.service_token("test", Duration::from_secs(60)));
    let (status, config) = ask("?warehouse=acme", reader()).await;
    assert_eq!((status, &config["overrides"]["prefix"]), (200, &json!("acme")));
    assert_eq!(config["idempotency-key-lifetime"], "PT30M");
    assert!(
        config["endpoints"].as_array().unwrap().contains(&json!("HEAD /v1/{prefix}/namespaces/{namespace}"))
    );
    assert_eq!(ask("", reader()).await.1["overrides"]["prefix"], "acme");
    assert_eq!(ask("", operator.clone()).await.0, 400);
    assert_eq!(ask("?warehouse=acme@nowhere", reader()).await.0, 404);
    assert_eq!(ask("?warehouse=none", operator).await.0, 404);
    assert_eq!(ask("?warehouse=acme", None).await.0, 401);
}

#[tokio::test]
async fn another_tenant_can_not_be_told_from_none() {
    let server = Server::start().await;
    let client = server.server_client(server.token(Role::Admin, &[]));
    let there = client.tenant("other").load_table("main", &ident("t")).await.unwrap_err();
    let nowhere = client.tenant("nobody").load_table("main", &ident("t")).await.unwrap_err();
    assert_eq!((there.kind, there.status), (ClientErrorKind::Denied, Some(403)));
    assert_eq!(there.message.replace("other", "nobody"), nowhere.message);
    assert_eq!((there.kind, there.error_type), (nowhere.kind, nowhere.error_type));
    let names: Vec<String> = client.tenants().await.unwrap().into_iter().map(|tenant| tenant.name).collect();
    assert_eq!(names, ["acme"]);
    assert_eq!(client.tenant("other").tenant().await.unwrap_err().status, Some(403));
}

#[tokio::test]
async fn that_nothing_was_ever_revoked_for_all_tenants_is_remembered() {
    let server = Server::start().await;
    server.client_as(Role::Reader).tenant().await.unwrap();
    let system = server.catalog.state.versions.seen_epoch("firn");
    assert!(system.is_some(), "every request would ask the database for it");
}

#[tokio::test]
async fn roles_and_expired_tokens_are_refused() {
    let server = Server::start().await;
    server.client().await;
    let reader = server.client_as(Role::Reader);
    let error = reader.create_table("main", &["ns".to_owned()], &new_table("t")).await.unwrap_err();
    assert_eq!(error.status, Some(403));
    let agent = server.client_as(Role::Agent);
    assert_eq!(agent.list_namespaces("main", &[]).await.unwrap_err().status, Some(403));
    let old = Claims { exp: 1, operator: true, ..Claims::new("x", Duration::ZERO) };
    let error = server.server_client(server.key.sign(&old)).tenants().await.unwrap_err();
    assert_eq!(error.status, Some(401));
    assert!(error.message.contains("expired"));
}

#[tokio::test]
async fn tenants_are_created_once_by_an_operator() {
    let server = Server::start().await;
    let operator = server.server_client(server.key.service_token("cli", Duration::from_secs(60)));
    let request = TenantCreate { name: "new".to_owned(), ..TenantCreate::default() };
    let first = operator.create_tenant(&request).await.unwrap();
    assert_eq!(operator.create_tenant(&request).await.unwrap(), first);
    assert!(first.location.ends_with("/warehouse/new"));
    operator.tenant("new").ensure_namespace("main", &["a".to_owned()]).await.unwrap();
    let admin = server.server_client(server.token(Role::Admin, &[]));
    assert_eq!(admin.create_tenant(&request).await.unwrap_err().status, Some(403));
    let odd = TenantCreate { name: "../x".to_owned(), ..TenantCreate::default() };
    assert_eq!(operator.create_tenant(&odd).await.unwrap_err().status, Some(400));
    assert_eq!(server.catalog.tenant_names().await.unwrap().len(), 3);
    server.catalog.health().await.unwrap();
}

#[tokio::test]
async fn a_lease_has_one_holder_and_its_token_rises() {
    let server = Server::start().await;
    let client = server.client_as(Role::Maintainer);
    let request = |holder: &str, ttl_ms| LeaseRequest { holder: holder.to_owned(), ttl_ms };
    let first = client.lease("compact", &request("a", 60_000)).await.unwrap();
    assert_eq!(
        client.lease("compact", &request("a", 60_000)).await.unwrap().fencing_token,
        first.fencing_token
    );
    let held = client.lease("compact", &request("b", 60_000)).await.unwrap_err();
    assert_eq!(held.kind, ClientErrorKind::Conflict);
    assert!(held.message.contains("held by 'a'"), "{held}");
    client.release_lease("compact", "b").await.unwrap();
    assert!(client.lease("compact", &request("b", 60_000)).await.is_err(), "only the holder gives it back");
    client.release_lease("compact", "a").await.unwrap();
    let second = client.lease("compact", &request("b", 60_000)).await.unwrap();
    assert!(second.fencing_token > first.fencing_token);
}

#[tokio::test]
async fn a_suspension_lasts_until_it_is_lifted_and_is_its_tenants_affair() {
    let server = Server::start().await;
    let client = server.client_as(Role::Maintainer);
    let catalog = server.server_client(server.token(Role::Reader, &[]));
    let request = |reason: &str| SuspensionRequest { reason: reason.to_owned() };
    let first = client.suspend("ingest", &request("disk")).await.unwrap();
    assert_eq!((first.tenant.as_str(), first.reason.as_str(), first.by.as_str()), ("acme", "disk", "alice"));
    assert_eq!(client.suspend("ingest", &request("again")).await.unwrap(), first, "there was one already");
    assert_eq!(catalog.suspensions().await.unwrap(), [first]);

    let operator = server.server_client(server.key.service_token("test", Duration::from_secs(60)));
    operator.tenant("other").suspend("ingest", &request("")).await.unwrap();
    assert_eq!(catalog.suspensions().await.unwrap().len(), 1, "another tenant's is not seen");
    assert_eq!(operator.suspensions().await.unwrap().len(), 2);

    client.resume("ingest").await.unwrap();
    client.resume("ingest").await.unwrap();
    assert_eq!(catalog.suspensions().await.unwrap(), []);

    let refused = client.suspend("catalog", &request("")).await.unwrap_err();
    assert_eq!(refused.status, Some(400));
    assert!(refused.message.contains("stages that can: ingest"), "{refused}");
    let reader = server.client_as(Role::Reader);
    assert_eq!(reader.suspend("ingest", &request("")).await.unwrap_err().status, Some(403));
    let nowhere = operator.tenant("nobody").suspend("ingest", &request("")).await.unwrap_err();
    assert_eq!(nowhere.kind, ClientErrorKind::NotFound);
}

#[tokio::test]
async fn events_come_in_order_and_are_waited_for() {
    let server = Server::start().await;
    let client = server.client().await;
    let last = client.events(0, 100, 0).await.unwrap().events.last().unwrap().sequence;
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { client.events(last, 100, 20_000).await.unwrap().events }
    });
    create(&client, "t").await;
    let events = waiting.await.unwrap();
    assert_eq!((events[0].sequence, events[0].event_type.as_str()), (last + 1, "commit"));
    assert_eq!(events[0].data["message"], "create table ns.t");
    // Operators learn where there is something new, in one request.
    let last = server.operator().last_events().await.unwrap().tenants;
    let acme = last.iter().find(|last| last.tenant == "acme").unwrap();
    assert_eq!(acme.sequence, events[0].sequence);
    assert_eq!(
        server.server_client(server.token(Role::Admin, &[])).last_events().await.unwrap_err().status,
        Some(403)
    );
}

#[tokio::test]
async fn events_are_streamed_to_who_accepts_that_and_go_on_where_it_says() {
    let server = Server::start().await;
    let client = server.client().await;
    let seen = client.events(0, 100, 0).await.unwrap().next;
    let open = async |token: String, last: &str| {
        let request = reqwest::Client::new().get(format!("{}/v1/tenants/acme/events", server.url));
        let request = request.bearer_auth(token).header("accept", "text/event-stream");
        request.header("last-event-id", last).send().await.unwrap()
    };
    let reader = || server.token(Role::Reader, &[]);
    let mut stream = open(reader(), &seen.to_string()).await;
    assert_eq!(
        (stream.status().as_u16(), &stream.headers()["content-type"]),
        (200, &"text/event-stream".parse().unwrap())
    );
    create(&client, "t").await;
    create(&client, "u").await;
    let mut text = String::new();
    while text.matches("\n\n").count() < 2 {
        text.push_str(std::str::from_utf8(&stream.chunk().await.unwrap().unwrap()).unwrap());
    }
    let first = text.split("\n\n").next().unwrap();
    assert!(first.contains("event: commit\n") && first.contains("create table ns.t"), "{first}");
    assert!(
        first.contains(&format!("id: {}\n", seen + 1)) || first.ends_with(&format!("id: {}", seen + 1)),
        "{first}"
    );

    let mut again = open(reader(), &(seen + 1).to_string()).await;
    let rest = again.chunk().await.unwrap().unwrap();
    assert!(std::str::from_utf8(&rest).unwrap().contains("create table ns.u"), "{rest:?}");
    assert_eq!(open(reader(), "yesterday").await.status(), 400);

    // Whoever may no longer read is cut off.
    server.operator().tenant("acme").suspend_tenant("unpaid").await.unwrap();
    while let Some(chunk) = again.chunk().await.unwrap() {
        assert!(!std::str::from_utf8(&chunk).unwrap().contains("data:"), "{chunk:?}");
    }
}

#[tokio::test]
async fn a_token_is_exchanged_for_a_fresh_one_with_the_same_rights() {
    let server = Server::start().await;
    let ask = |fields: Vec<(&'static str, String)>| {
        let request =
            reqwest::Client::new().post(format!("{}/iceberg/v1/oauth/tokens", server.url)).form(&fields);
        async move { request.send().await.unwrap() }
    };
    let exchange = "urn:ietf:params:oauth:grant-type:token-exchange".to_owned();
    let old = server.token(Role::Reader, &[]);
    let answer = ask(vec![("grant_type", exchange.clone()), ("subject_token", old)]).await;
    let token = answer.json::<Value>().await.unwrap()["access_token"].as_str().unwrap().to_owned();
    let claims = server.key.verifier().verify(&token).unwrap().claims;
    assert_eq!((claims.sub.as_str(), claims.tenants.len(), claims.operator), ("alice", 1, false));
    assert_eq!(ask(vec![("grant_type", exchange), ("subject_token", "x".to_owned())]).await.status(), 400);
}

#[tokio::test]
async fn a_clients_secret_gets_a_token_of_its_tenant_until_it_is_removed() {
    let server = Server::start().await;
    let admin = |method: reqwest::Method, path: &str| {
        let request =
            reqwest::Client::new().request(method, format!("{}/v1/tenants/acme/clients{path}", server.url));
        request.bearer_auth(server.token(Role::Admin, &[]))
    };
    let body = json!({"name": "agent", "role": "agent", "scopes": ["inventory:write"]});
    let answer = admin(reqwest::Method::POST, "").json(&body).send().await.unwrap();
    let client: Value = answer.json().await.unwrap();
    let again = admin(reqwest::Method::POST, "").json(&body).send().await.unwrap();
    assert_eq!(again.status(), 409);
    let ask = |id: &Value, secret: &Value| {
        let fields = [
            ("grant_type", "client_credentials"),
            ("client_id", id.as_str().unwrap()),
            ("client_secret", secret.as_str().unwrap()),
        ];
        let url = format!("{}/iceberg/v1/oauth/tokens", server.url);
        let request = reqwest::Client::new().post(url).form(&fields);
        async move { request.send().await.unwrap() }
    };
    assert_eq!(ask(&client["client_id"], &json!("wrong")).await.status(), 401);
    assert_eq!(ask(&json!("other/agent"), &client["client_secret"]).await.status(), 401);
    let answer: Value = ask(&client["client_id"], &client["client_secret"]).await.json().await.unwrap();
    let claims = server.key.verifier().verify(answer["access_token"].as_str().unwrap()).unwrap().claims;
    assert_eq!((claims.sub.as_str(), claims.scopes.as_slice()), ("acme/agent", &[Scope::InventoryWrite][..]));
    assert_eq!(
        claims.tenants.clone().into_iter().collect::<Vec<_>>(),
        [("acme".parse().unwrap(), Role::Agent)]
    );

    let service = json!({"name": "forged", "role": "agent", "scopes": ["service:ingest"]});
    assert_eq!(admin(reqwest::Method::POST, "").json(&service).send().await.unwrap().status(), 403);
    assert_eq!(admin(reqwest::Method::DELETE, "/agent").send().await.unwrap().status(), 204);
    assert_eq!(ask(&client["client_id"], &client["client_secret"]).await.status(), 401);
}
