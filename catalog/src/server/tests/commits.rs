//! Creating tables and committing to them.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::{extract::Request, http::StatusCode, middleware::Next, response::IntoResponse};
use firn_auth::{Role, Scope};
use firn_catalog_client::{
    ClientErrorKind,
    iceberg::{CommitTransactionRequest, LoadTableResult, TableChange},
};
use serde_json::json;

use super::harness::{Server, append, create, ident, new_table, set_properties, uuid};

#[tokio::test]
async fn a_created_table_is_committed_to_and_loaded() {
    let server = Server::start().await;
    let client = server.client().await;
    let table = create(&client, "t").await;
    assert_eq!(table.metadata["schemas"][0]["fields"][1]["id"], 2, "field ids are assigned afresh");
    assert_eq!(table.metadata["partition-specs"][0]["fields"][0]["source-id"], 2);
    assert_eq!(table.metadata["properties"]["gc.enabled"], "false");

    let committed = client.commit_table("main", &ident("t"), &append(&table, 7), &uuid()).await.unwrap();
    assert_eq!(committed.metadata["current-snapshot-id"], 7);
    let log = &committed.metadata["metadata-log"][0]["metadata-file"];
    assert_eq!(log.as_str(), table.metadata_location.as_deref());
    let loaded = client.load_table("main", &ident("t")).await.unwrap();
    assert_eq!(
        (&loaded.metadata, &loaded.metadata_location),
        (&committed.metadata, &committed.metadata_location)
    );
    assert_eq!(client.list_tables("main", &["ns".to_owned()]).await.unwrap(), [ident("t")]);

    client.drop_table("main", &ident("t")).await.unwrap();
    let gone = client.load_table("main", &ident("t")).await.unwrap_err();
    assert_eq!(gone.kind, ClientErrorKind::NotFound);
    assert_eq!(gone.error_type.as_deref(), Some("NoSuchTableException"));
}

#[tokio::test]
async fn the_property_of_a_table_decides_how_its_metadata_is_compressed() {
    let server = Server::start().await;
    let client = server.client().await;
    create(&client, "t").await;
    let location = |table: &LoadTableResult| table.metadata_location.clone().unwrap();
    let codec = |name: &str| set_properties(Vec::new(), json!({"write.metadata.compression-codec": name}));
    let zipped = client.commit_table("main", &ident("t"), &codec("gzip"), &uuid()).await.unwrap();
    assert!(location(&zipped).ends_with(".gz.metadata.json"), "{}", location(&zipped));
    let plain = client.commit_table("main", &ident("t"), &codec("none"), &uuid()).await.unwrap();
    assert!(!location(&plain).ends_with(".gz.metadata.json"), "{}", location(&plain));
    assert_eq!(plain.metadata["metadata-log"][1]["metadata-file"], location(&zipped));

    let refused = client.commit_table("main", &ident("t"), &codec("zstd"), &uuid()).await.unwrap_err();
    assert_eq!(refused.kind, ClientErrorKind::Invalid);
    let reason = "the property 'write.metadata.compression-codec' is 'none' or 'gzip', not 'zstd'";
    assert!(refused.to_string().contains(reason), "{refused}");

    // As a server that has just started reads it.
    let storage = &server.catalog.state.storage;
    storage.note_generation("acme", storage.generation("acme") + 1);
    let stored = storage.read_metadata("acme", &location(&zipped)).await.unwrap();
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&stored).unwrap(), zipped.metadata);
}

#[tokio::test]
async fn errors_of_a_create_count_the_clients_updates() {
    let server = Server::start().await;
    server.client().await;
    let body = json!({
        "requirements": [{"type": "assert-create"}],
        "updates": [{"action": "assign-uuid", "uuid": uuid()}, {"action": "fly"}],
    });
    let answer = server.raw("POST", "/namespaces/ns/tables/t").json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 400);
    let text = answer.text().await.unwrap();
    assert!(text.contains("updates[1] (fly)"), "{text}");
}

#[tokio::test]
async fn a_repeated_commit_is_answered_after_the_table_was_dropped() {
    let server = Server::start().await;
    let client = server.client().await;
    let (change, key) = (append(&create(&client, "t").await, 7), uuid());
    let committed = client.commit_table("main", &ident("t"), &change, &key).await.unwrap();
    client.drop_table("main", &ident("t")).await.unwrap();
    let again = client.commit_table("main", &ident("t"), &change, &key).await.unwrap();
    assert_eq!(again.metadata_location, committed.metadata_location);
    let other = client.commit_table("main", &ident("t"), &change, &uuid()).await.unwrap_err();
    assert_eq!(other.kind, ClientErrorKind::NotFound);
}

#[tokio::test]
async fn a_table_is_created_once() {
    let server = Server::start().await;
    let client = server.client().await;
    create(&client, "t").await;
    let error = client.create_table("main", &["ns".to_owned()], &new_table("t")).await.unwrap_err();
    assert_eq!(
        (error.kind, error.error_type.as_deref()),
        (ClientErrorKind::Conflict, Some("AlreadyExistsException"))
    );
    let error = client.create_table("main", &["none".to_owned()], &new_table("t")).await.unwrap_err();
    assert_eq!(error.error_type.as_deref(), Some("NoSuchNamespaceException"));
}

#[tokio::test]
async fn a_commit_on_an_old_state_loses_and_leaves_no_file() {
    let server = Server::start().await;
    let client = server.client().await;
    let table = create(&client, "t").await;
    client.commit_table("main", &ident("t"), &append(&table, 1), &uuid()).await.unwrap();
    let files = server.metadata_files();
    let error = client.commit_table("main", &ident("t"), &append(&table, 2), &uuid()).await.unwrap_err();
    assert_eq!(
        (error.kind, error.error_type.as_deref()),
        (ClientErrorKind::Conflict, Some("CommitFailedException"))
    );
    assert!(error.message.contains("ns.t: requirements[1] (assert-ref-snapshot-id)"), "{error}");
    assert_eq!(server.metadata_files(), files);
}

#[tokio::test]
async fn writers_of_one_table_get_only_success_or_conflict_and_lose_nothing() {
    let server = Server::start().await;
    let client = server.client().await;
    create(&client, "t").await;
    let writers: Vec<_> = (0..4_i64)
        .map(|writer| {
            let client = client.clone();
            tokio::spawn(async move {
                let mut done = 0;
                for attempt in 0..100_i64 {
                    let table = client.load_table("main", &ident("t")).await.unwrap();
                    let id = writer * 1000 + attempt + 1;
                    match client.commit_table("main", &ident("t"), &append(&table, id), &uuid()).await {
                        Ok(_) => done += 1,
                        Err(error) => assert_eq!(error.kind, ClientErrorKind::Conflict, "{error}"),
                    }
                    if done == 5 {
                        return;
                    }
                }
                panic!("writer {writer} starved");
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let table = client.load_table("main", &ident("t")).await.unwrap();
    assert_eq!(table.metadata["snapshots"].as_array().unwrap().len(), 20);
    assert_eq!(table.metadata["last-sequence-number"], 20);
    assert_eq!(server.metadata_files(), 21, "files of lost commits are gone");
}

#[tokio::test]
async fn a_transaction_is_all_or_nothing() {
    let server = Server::start().await;
    let client = server.client().await;
    let (a, b) = (create(&client, "a").await, create(&client, "b").await);
    let change = |name: &str, change: TableChange| TableChange { identifier: Some(ident(name)), ..change };
    client.commit_table("main", &ident("b"), &append(&b, 1), &uuid()).await.unwrap();
    let files = server.metadata_files();
    let stale = CommitTransactionRequest {
        table_changes: vec![change("a", append(&a, 2)), change("b", append(&b, 3))],
    };
    let error = client.commit_transaction("main", &stale, &uuid()).await.unwrap_err();
    assert_eq!(error.kind, ClientErrorKind::Conflict);
    assert_eq!(client.load_table("main", &ident("a")).await.unwrap(), a);
    assert_eq!(server.metadata_files(), files);

    let b = client.load_table("main", &ident("b")).await.unwrap();
    let fresh = CommitTransactionRequest {
        table_changes: vec![change("a", append(&a, 2)), change("b", append(&b, 3))],
    };
    client.commit_transaction("main", &fresh, &uuid()).await.unwrap();
    for (name, snapshot) in [("a", 2), ("b", 3)] {
        let table = client.load_table("main", &ident(name)).await.unwrap();
        assert_eq!(table.metadata["current-snapshot-id"], snapshot);
    }
}

#[tokio::test]
async fn a_staged_table_exists_after_its_commit_only() {
    let server = Server::start().await;
    let client = server.client().await;
    let mut request = new_table("t");
    request.stage_create = true;
    let staged = client.create_table("main", &["ns".to_owned()], &request).await.unwrap();
    assert_eq!(staged.metadata_location, None);
    assert_eq!(server.metadata_files(), 0);
    assert!(client.load_table("main", &ident("t")).await.is_err());

    let metadata = &staged.metadata;
    let change = TableChange {
        identifier: None,
        requirements: vec![json!({"type": "assert-create"})],
        updates: vec![
            json!({"action": "assign-uuid", "uuid": metadata["table-uuid"]}),
            json!({"action": "upgrade-format-version", "format-version": 2}),
            json!({"action": "add-spec", "spec": metadata["partition-specs"][0]}),
            json!({"action": "set-default-spec", "spec-id": -1}),
            json!({"action": "add-schema", "schema": metadata["schemas"][0], "last-column-id": 2}),
            json!({"action": "set-current-schema", "schema-id": -1}),
            json!({"action": "set-location", "location": metadata["location"]}),
        ],
    };
    let created = client.commit_table("main", &ident("t"), &change, &uuid()).await.unwrap();
    for field in ["table-uuid", "location", "schemas", "partition-specs"] {
        assert_eq!(created.metadata[field], metadata[field], "{field}");
    }
    let again = client.commit_table("main", &ident("t"), &change, &uuid()).await.unwrap_err();
    assert_eq!(again.kind, ClientErrorKind::Conflict);
}

#[tokio::test]
async fn a_repeated_request_is_answered_not_run_again() {
    let server = Server::start().await;
    let client = server.client().await;
    let table = create(&client, "t").await;
    let (key, change) = (uuid(), append(&table, 1));
    let first = client.commit_table("main", &ident("t"), &change, &key).await.unwrap();
    let files = server.metadata_files();
    let again = client.commit_table("main", &ident("t"), &change, &key).await.unwrap();
    assert_eq!(first, again);
    assert_eq!(server.metadata_files(), files);

    let other = client.commit_table("main", &ident("t"), &append(&first, 2), &key).await.unwrap_err();
    assert_eq!(other.status, Some(422));
    // A final error is repeated too, although the request would succeed by now.
    let key = uuid();
    let wanted = json!({"type": "assert-property", "key": "a", "value": "1"});
    let change = set_properties(vec![wanted], json!({"b": "2"}));
    assert!(client.commit_table("main", &ident("t"), &change, &key).await.is_err());
    let set = set_properties(Vec::new(), json!({"a": "1"}));
    client.commit_table("main", &ident("t"), &set, &uuid()).await.unwrap();
    let again = client.commit_table("main", &ident("t"), &change, &key).await.unwrap_err();
    assert_eq!(again.kind, ClientErrorKind::Conflict);
    client.commit_table("main", &ident("t"), &change, &uuid()).await.unwrap();
}

#[tokio::test]
async fn an_asserted_property_guards_a_commit() {
    let server = Server::start().await;
    let client = server.client().await;
    create(&client, "t").await;
    let ingest = server.server_client(server.token(Role::Writer, &[Scope::ServiceIngest])).tenant("acme");
    let take = |from: Option<&str>, to: &str| {
        let assert = json!({"type": "assert-property", "key": "firn.position.x.0", "value": from});
        set_properties(vec![assert], json!({"firn.position.x.0": to}))
    };
    ingest.commit_table("main", &ident("t"), &take(None, "5"), &uuid()).await.unwrap();
    let zombie = ingest.commit_table("main", &ident("t"), &take(None, "5"), &uuid()).await.unwrap_err();
    assert_eq!(zombie.kind, ClientErrorKind::Conflict);
    assert!(zombie.message.contains("property 'firn.position.x.0' is \"5\", not null"), "{zombie}");
    ingest.commit_table("main", &ident("t"), &take(Some("5"), "9"), &uuid()).await.unwrap();

    let forged = client.commit_table("main", &ident("t"), &take(Some("9"), "0"), &uuid()).await.unwrap_err();
    assert_eq!(forged.kind, ClientErrorKind::Denied);
    let writer = server.client_as(Role::Writer);
    let dropped = writer.drop_table("main", &ident("t")).await.unwrap_err();
    assert_eq!(dropped.kind, ClientErrorKind::Denied);
}

#[tokio::test]
async fn unknown_updates_requirements_and_fields_are_told_apart() {
    let server = Server::start().await;
    let client = server.client().await;
    create(&client, "t").await;
    let bad_update =
        TableChange { identifier: None, requirements: vec![], updates: vec![json!({"action": "paint"})] };
    let error = client.commit_table("main", &ident("t"), &bad_update, &uuid()).await.unwrap_err();
    assert_eq!(
        (error.status, error.message.as_str()),
        (Some(400), "ns.t: updates[0] (paint): there is no such update of a table")
    );
    let bad_requirement = set_properties(vec![json!({"type": "assert-mood"})], json!({}));
    let error = client.commit_table("main", &ident("t"), &bad_requirement, &uuid()).await.unwrap_err();
    assert_eq!(error.status, Some(400));
    let body = json!({"requirements": [], "updates": [], "identifier": null, "shape": "round"});
    let answer = server.raw("POST", "/namespaces/ns/tables/t").json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn a_location_outside_the_tenant_is_refused() {
    let server = Server::start().await;
    let client = server.client().await;
    let inside = create(&client, "t").await.metadata["location"].as_str().unwrap().to_owned();
    for location in ["file:///etc", &inside.replace("/acme/", "/other/"), &format!("{inside}/../../../x")] {
        let mut request = new_table("u");
        request.location = Some(location.to_owned());
        let error = client.create_table("main", &["ns".to_owned()], &request).await.unwrap_err();
        assert!(matches!(error.status, Some(400 | 403)), "{error}");
    }
}

#[tokio::test]
async fn reads_are_tried_again_and_changes_are_not() {
    static FAULTS: AtomicUsize = AtomicUsize::new(0);
    async fn fault(request: Request, next: Next) -> axum::response::Response {
        if FAULTS.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
        next.run(request).await
    }
    let server = Server::start_with(|router| router.layer(axum::middleware::from_fn(fault))).await;
    let client = server.client().await;
    let table = create(&client, "t").await;
    FAULTS.store(2, Ordering::SeqCst);
    assert_eq!(client.load_table("main", &ident("t")).await.unwrap().metadata, table.metadata);
    FAULTS.store(1, Ordering::SeqCst);
    let error = client.commit_table("main", &ident("t"), &append(&table, 1), &uuid()).await.unwrap_err();
    assert_eq!((error.kind, FAULTS.load(Ordering::SeqCst)), (ClientErrorKind::Unavailable, 0));
}
