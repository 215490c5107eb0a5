//! Names, sizes and clients that no server likes.

use std::time::Duration;

use firn_catalog_client::ClientErrorKind;
use serde_json::{Value, json};

use super::harness::{Server, append, create, ident, new_table, set_properties, uuid};
use crate::version::{CommitRequest, Content, EntryRange, Key, Meta, Op};

#[tokio::test]
async fn ten_thousand_namespaces_are_listed_whole_and_in_pages() {
    const COUNT: usize = 10_000;
    let server = Server::start().await;
    let namespace = |number: usize| {
        let name = format!("n{number:05}");
        let content = Content::new(json!({"type": "NAMESPACE", "elements": [name], "properties": {}}));
        Op::Put { key: Key(vec![name]), content, expected: Some(None) }
    };
    let commit = CommitRequest {
        branch: "main".to_owned(),
        expected_head: None,
        operations: (0..COUNT).map(namespace).collect(),
        meta: Meta::default(),
        idempotency: None,
    };
    server.catalog.state.versions.repository("acme").commit(commit).await.unwrap();
    let page = async |query: &str| {
        let answer = server.raw("GET", &format!("/namespaces{query}")).send().await.unwrap();
        let page: Value = answer.json().await.unwrap();
        let token = page["next-page-token"].as_str().map(str::to_owned);
        (page["namespaces"].as_array().unwrap().clone(), token)
    };
    let (whole, none) = page("").await;
    assert_eq!((whole.len(), none), (COUNT, None));
    let (mut pieces, mut token) = (Vec::new(), Some(String::new()));
    while let Some(at) = token {
        let (more, next) = page(&format!("?pageSize=999&pageToken={at}")).await;
        assert!(more.len() <= 999);
        pieces.extend(more);
        token = next;
    }
    assert_eq!(pieces, whole);
}

#[tokio::test]
async fn namespaces_are_twenty_levels_deep_and_no_more() {
    let server = Server::start().await;
    let client = server.client().await;
    let levels: Vec<String> = (0..20).map(|level| format!("l{level}")).collect();
    client.ensure_namespace("main", &levels).await.unwrap();
    assert_eq!(client.list_namespaces("main", &levels[..19]).await.unwrap(), std::slice::from_ref(&levels));
    client.create_table("main", &levels[..19], &new_table("t")).await.unwrap();
    let tables = client.list_tables("main", &levels[..19]).await.unwrap();
    client.load_table("main", &tables[0]).await.unwrap();

    let too_deep = client.create_table("main", &levels, &new_table("t")).await.unwrap_err();
    assert_eq!((too_deep.status, too_deep.message.contains("1 to 20 elements")), (Some(400), true));
    let deeper: Vec<String> = levels.iter().cloned().chain(["l20".to_owned()]).collect();
    assert_eq!(client.ensure_namespace("main", &deeper).await.unwrap_err().status, Some(400));
}

#[tokio::test]
async fn names_with_control_characters_are_refused_wherever_they_come() {
    let server = Server::start().await;
    let client = server.client().await;
    create(&client, "t").await;
    let odd = "a\u{7}b";
    let rename = json!({
        "source": {"namespace": ["ns"], "name": "t"}, "destination": {"namespace": ["ns"], "name": odd},
    });
    for (method, path, body) in [
        ("POST", "/namespaces", json!({"namespace": [odd]})),
        ("GET", "/namespaces/a%07b", Value::Null),
        ("POST", "/namespaces/ns/tables", json!(new_table(odd))),
        ("GET", "/namespaces/ns/tables/a%0Ab", Value::Null),
        ("GET", "/namespaces/ns/tables/a%00b", Value::Null),
        ("POST", "/tables/rename", rename),
        ("GET", "/namespaces/ns/views/a%7Fb", Value::Null),
    ] {
        let mut request = server.raw(method, path);
        if !body.is_null() {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 400, "{method} {path}");
        let error: Value = answer.json().await.unwrap();
        assert!(error["error"]["message"].as_str().unwrap().contains("control character"), "{error}");
    }
}

#[tokio::test]
async fn a_wrong_type_is_named_by_its_path() {
    let server = Server::start().await;
    create(&server.client().await, "t").await;
    for (path, body, said) in [
        ("/namespaces", json!({"namespace": "ns"}), "$.namespace"),
        ("/namespaces/ns/tables", json!({"name": 7, "schema": {}}), "$.name"),
        ("/namespaces/ns/tables/t", json!({"requirements": {}, "updates": []}), "$.requirements"),
        ("/transactions/commit", json!({"table-changes": [{"updates": 1}]}), "$.table-changes[0].updates"),
    ] {
        let answer = server.raw("POST", path).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 400, "{path}");
        let error: Value = answer.json().await.unwrap();
        assert!(error["error"]["message"].as_str().unwrap().contains(said), "{said}: {error}");
    }
}

#[tokio::test]
async fn of_two_who_create_one_name_at_once_one_does() {
    let here = Server::start().await;
    let client = here.client().await;
    let replica = here.replica().await;
    let there = replica.client_as(firn_auth::Role::Maintainer);
    for round in 0..8 {
        let table = new_table(&format!("t{round}"));
        let namespace = ["ns".to_owned()];
        let at = |client| {
            let (table, namespace) = (&table, &namespace);
            let client: &firn_catalog_client::TenantClient = client;
            async move { client.create_table("main", namespace, table).await }
        };
        let made = futures::future::join_all([at(&client), at(&there), at(&client), at(&there)]).await;
        assert_eq!(made.iter().filter(|table| table.is_ok()).count(), 1);
        for refused in made.iter().filter_map(|table| table.as_ref().err()) {
            assert_eq!(refused.kind, ClientErrorKind::Conflict, "{refused}");
            assert_eq!(refused.error_type.as_deref(), Some("AlreadyExistsException"));
        }
    }
    assert_eq!(here.metadata_files(), 8, "files of lost creates are gone");
}

/// Whoever hangs up may not know what became of the commit, but the table does.
#[tokio::test]
async fn clients_that_hang_up_in_the_midst_of_a_commit_leave_nothing_half_done() {
    let server = Server::start().await;
    let client = server.client().await;
    create(&client, "t").await;
    for round in 0..40_u64 {
        let table = client.load_table("main", &ident("t")).await.unwrap();
        let mut change = append(&table, i64::try_from(round).unwrap() + 1);
        let set = set_properties(Vec::new(), json!({"round": round.to_string()}));
        change.updates.extend(set.updates);
        let (key, ident) = (uuid(), ident("t"));
        let commit = client.commit_table("main", &ident, &change, &key);
        // From before the request is sent to after it is answered.
        drop(tokio::time::timeout(Duration::from_micros(round * 300), commit).await);
    }
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        let table = client.load_table("main", &ident("t")).await.unwrap();
        let former = table.metadata["metadata-log"].as_array().map_or(0, Vec::len);
        let snapshots = table.metadata["snapshots"].as_array().map_or(0, Vec::len);
        let whole = former == snapshots && server.metadata_files() == former + 1;
        if whole {
            assert!(snapshots > 0, "nobody was patient enough");
            break;
        }
        let text = format!("{former} commits, {snapshots} snapshots, {} files", server.metadata_files());
        assert!(tokio::time::Instant::now() < deadline, "{text}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let repository = server.catalog.state.versions.repository("acme");
    let head = repository.resolve("main").await.unwrap().hash;
    let range = EntryRange { limit: 10, ..EntryRange::default() };
    assert_eq!(repository.entries(head, &range).await.unwrap().0.len(), 2, "the namespace and the table");
}
