//! Branches, tags, and answers that a client has already.

use firn_auth::{Protection, Role};
use firn_catalog_client::ClientErrorKind;
use serde_json::Value;

use super::harness::{Server, append, create, ident, uuid};

async fn branch(server: &Server, name: &str, tag: bool) {
    let repository = server.catalog.state.versions.repository("acme");
    let head = repository.resolve("main").await.unwrap().hash;
    repository.create_reference(name, tag, head).await.unwrap();
}

#[tokio::test]
async fn a_branch_has_a_state_of_its_own() {
    let server = Server::start().await;
    let client = server.client().await;
    let table = create(&client, "t").await;
    branch(&server, "promote/1", false).await;
    client.commit_table("promote/1", &ident("t"), &append(&table, 5), &uuid()).await.unwrap();
    let on_branch = client.load_table("promote/1", &ident("t")).await.unwrap();
    assert_eq!(on_branch.metadata["current-snapshot-id"], 5);
    assert_eq!(client.load_table("main", &ident("t")).await.unwrap(), table);
    // The same by a suffix of the name, to load and to commit.
    let suffixed = client.load_table("main", &ident("t@promote/1")).await.unwrap();
    assert_eq!(suffixed.metadata, on_branch.metadata);
    client.commit_table("main", &ident("t@promote/1"), &append(&on_branch, 6), &uuid()).await.unwrap();
    let on_branch = client.load_table("promote/1", &ident("t")).await.unwrap();
    assert_eq!(on_branch.metadata["current-snapshot-id"], 6);
    // And as it was, by hash.
    let before = client.load_table("promote/1~1", &ident("t")).await.unwrap();
    assert_eq!(before.metadata["current-snapshot-id"], 5);
}

#[tokio::test]
async fn a_reference_goes_once_its_time_is_over_unless_it_is_protected() {
    let server = Server::start().await;
    let client = server.client().await;
    let (past, future) = ("2026-01-01T00:00:00Z", "2100-01-01T00:00:00Z");
    for name in ["dev", "feature/x", "release/1", "v1"] {
        branch(&server, name, name == "v1").await;
    }
    let writer = server.client_as(Role::Writer);
    for (name, at) in [("dev", future), ("feature/x", past), ("release/1", past), ("v1", past)] {
        assert_eq!(writer.set_expiry(name, at).await.unwrap().expires_at, at);
    }
    let refused = server.client_as(Role::Reader).set_expiry("dev", past).await.unwrap_err();
    assert_eq!(refused.kind, ClientErrorKind::Denied);
    for (name, at) in [("main", past), ("dev", "soon"), ("nowhere", past)] {
        let refused = writer.set_expiry(name, at).await.unwrap_err();
        assert!(matches!(refused.kind, ClientErrorKind::Invalid | ClientErrorKind::NotFound), "{refused}");
    }
    let admin = server.client_as(Role::Admin);
    let mut rules = admin.access_rules().await.unwrap();
    rules.protections.push(Protection { reference: "release/*".to_owned(), exempt: Vec::new() });
    admin.set_access_rules(&rules).await.unwrap();

    let told = |pruned: Vec<firn_catalog_client::Pruned>| -> Vec<(String, bool)> {
        pruned.into_iter().map(|pruned| (pruned.reference, pruned.removed)).collect()
    };
    let mut expected =
        [("feature/x", true), ("release/1", false), ("v1", true)].map(|(name, gone)| (name.to_owned(), gone));
    expected.sort();
    let dry = client.prune_references(true).await.unwrap();
    assert!(dry.iter().any(|pruned| pruned.reason == "'release/1' is protected"), "{dry:?}");
    let mut dry = told(dry);
    dry.sort();
    assert_eq!(dry, expected);
    assert_eq!(client.references().await.unwrap().len(), 5, "a dry run removes nothing");
    let mut pruned = told(client.prune_references(false).await.unwrap());
    pruned.sort();
    assert_eq!(pruned, expected);
    let left: Vec<_> =
        client.references().await.unwrap().iter().map(|found| found.name().to_owned()).collect();
    assert_eq!(left, ["dev", "main", "release/1"]);
    let known: Vec<_> = client
        .expiries()
        .await
        .unwrap()
        .into_iter()
        .map(|expiry| (expiry.reference, expiry.set_by))
        .collect();
    assert_eq!(known, [("release/1".to_owned(), "alice".to_owned()), ("dev".to_owned(), "alice".to_owned())]);
    writer.unset_expiry("dev").await.unwrap();
    assert_eq!(client.expiries().await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_no_branch_is_read_only() {
    let server = Server::start().await;
    let client = server.client().await;
    let table = create(&client, "t").await;
    branch(&server, "v1", true).await;
    assert_eq!(client.load_table("v1", &ident("t")).await.unwrap().metadata, table.metadata);
    for reference in ["v1", "main~1"] {
        let error = client.drop_table(reference, &ident("t")).await.unwrap_err();
        assert!(matches!(error.kind, ClientErrorKind::Invalid | ClientErrorKind::NotFound), "{error}");
    }
    let error = client.commit_table("v1", &ident("t"), &append(&table, 1), &uuid()).await.unwrap_err();
    assert!(error.message.contains("read-only"), "{error}");
    let error = client.load_table("nowhere", &ident("t")).await.unwrap_err();
    assert_eq!(error.error_type.as_deref(), Some("NoSuchReferenceException"));
}

#[tokio::test]
async fn an_answer_the_client_has_is_not_sent_again() {
    let server = Server::start().await;
    let client = server.client().await;
    let table = create(&client, "t").await;
    let first = server.raw("GET", "/namespaces/ns/tables/t?snapshots=all").send().await.unwrap();
    let tag = first.headers()["etag"].to_str().unwrap().to_owned();
    let ask = |query: &str, tag: &str| {
        server.raw("GET", &format!("/namespaces/ns/tables/t{query}")).header("If-None-Match", tag).send()
    };
    assert_eq!(ask("", &tag).await.unwrap().status(), 304);
    assert_eq!(ask("?snapshots=refs", &tag).await.unwrap().status(), 200, "another representation");
    let table = client.commit_table("main", &ident("t"), &append(&table, 1), &uuid()).await.unwrap();
    assert_eq!(ask("", &tag).await.unwrap().status(), 200, "another state");
    client.commit_table("main", &ident("t"), &append(&table, 2), &uuid()).await.unwrap();
    let refs: Value = ask("?snapshots=refs", &tag).await.unwrap().json().await.unwrap();
    let ids: Vec<_> = refs["metadata"]["snapshots"].as_array().unwrap().iter().collect();
    assert_eq!((ids.len(), &ids[0]["snapshot-id"]), (1, &Value::from(2)));
}
