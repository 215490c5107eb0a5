//! Branches, tags, and answers that a client has already.

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
