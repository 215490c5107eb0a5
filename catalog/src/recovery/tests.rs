//! The database is thrown away, and the warehouse gives everything back.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use firn_auth::SigningKey;
use firn_catalog_client::TenantCreate;
use serde_json::json;

use super::*;
use crate::{
    CatalogConfig, CatalogError, S3Config,
    management::AppState,
    version::{Actor, CommitRequest, Content, EntryRange, Key, Meta, Op},
};

async fn open(folder: &Path, database: &str) -> AppState {
    let config = CatalogConfig {
        database_url: format!("sqlite:{}", folder.join(database).display()),
        warehouse: format!("file://{}", folder.join("warehouse").display()),
        s3: S3Config::default(),
        region: "local".to_owned(),
        cache_bytes: 1 << 20,
        signing_key: SigningKey::generate(),
        public_url: String::new(),
    };
    let verifier = config.signing_key.verifier();
    AppState::open(config, verifier).await.unwrap()
}

async fn commit(state: &AppState, branch: &str, operations: Vec<Op>, message: &str) {
    let meta = Meta { committer: "ada".to_owned(), message: message.to_owned(), ..Meta::default() };
    let branch = branch.to_owned();
    let request = CommitRequest { branch, expected_head: None, operations, meta, idempotency: None };
    state.versions.repository("acme").commit(request).await.unwrap();
}

fn put(path: &[&str], content: serde_json::Value) -> Op {
    let key = Key(path.iter().map(|&part| part.to_owned()).collect());
    Op::Put { key, content: Content::new(content), expected: None }
}

/// A table with its metadata file, committed to a branch; again for a newer state of it.
async fn table(state: &AppState, branch: &str, location: &str, previous: Option<&str>) -> String {
    let document = json!({
        "format-version": 2, "table-uuid": "3b241101-e2bb-4255-8caf-4136c566a962", "location": location,
        "last-sequence-number": 0, "last-updated-ms": 1, "last-column-id": 1, "current-schema-id": 0,
        "schemas": [{"type": "struct", "schema-id": 0,
            "fields": [{"id": 1, "name": "a", "required": false, "type": "long"}]}],
        "default-spec-id": 0, "partition-specs": [{"spec-id": 0, "fields": []}], "last-partition-id": 999,
        "default-sort-order-id": 0, "sort-orders": [{"order-id": 0, "fields": []}], "properties": {},
        "current-snapshot-id": -1, "snapshots": [], "refs": {}
    });
    let bytes = document.to_string().into_bytes();
    let file = state.storage.write_metadata("acme", location, previous, None, bytes).await.unwrap();
    let repository = state.versions.repository("acme");
    let head = repository.resolve(branch).await.unwrap().hash;
    let key = Key(vec!["bronze".to_owned(), "t".to_owned()]);
    let former = repository.get(head, &[key]).await.unwrap().pop().flatten();
    let mut content = json!({"type": "ICEBERG_TABLE", "metadataLocation": file, "snapshotId": -1, "schemaId": 0,
        "specId": 0, "sortOrderId": 0});
    if let Some(id) = former.as_ref().and_then(Content::id) {
        content["id"] = json!(id);
    }
    commit(state, branch, vec![put(&["bronze", "t"], content)], "Write t").await;
    file
}

/// References with their logs: hashes, authors, messages, operations.
async fn picture(state: &AppState) -> Vec<String> {
    let repository = state.versions.repository("acme");
    let range = EntryRange { limit: 100, ..EntryRange::default() };
    let mut picture = Vec::new();
    for row in state.store.references("acme").await.unwrap() {
        let (log, _) = repository.log(row.hash, 100).await.unwrap();
        let entries = repository.entries(row.hash, &range).await.unwrap();
        picture.push(format!("{row:?}\n{log:?}\n{entries:?}"));
    }
    picture
}

#[tokio::test]
async fn rebuilt_catalog_has_every_reference_commit_and_table_under_the_same_hash() {
    let folder = tempfile::tempdir().unwrap();
    let before = open(folder.path(), "before.db").await;
    let request =
        TenantCreate { name: "acme".to_owned(), region: Some("eu".to_owned()), ..TenantCreate::default() };
    let tenant = crate::management::create_tenant(&before, &request, &Actor::default()).await.unwrap();
    let location = before.storage.new_location("acme", &["bronze".to_owned()], "t");
    let namespace = json!({"type": "NAMESPACE", "elements": ["bronze"], "properties": {}});
    commit(&before, "main", vec![put(&["bronze"], namespace)], "Create bronze").await;
    let first = table(&before, "main", &location, None).await;
    let head = before.versions.repository("acme").resolve("main").await.unwrap().hash;
    branch(&before, "dev", head).await;
    table(&before, "dev", &location, Some(&first)).await;
    let exported = export(&before, "acme").await.unwrap();
    assert_eq!(exported.references, 2);
    let picture_before = picture(&before).await;

    let after = open(folder.path(), "after.db").await;
    let rebuilt = rebuild(&after, None, false).await.unwrap();
    assert_eq!((rebuilt.len(), rebuilt[0].objects), (1, exported.objects));
    assert_eq!(picture(&after).await, picture_before);
    assert_eq!(crate::management::tenant(&after, "acme").await.unwrap(), tenant);
    // It is a catalog like any other: the next commit lands.
    table(&after, "main", &location, Some(&first)).await;
    let again = rebuild(&after, None, false).await.unwrap_err();
    assert!(matches!(&again, CatalogError::AlreadyExists(text) if text.contains("acme")), "{again:?}");
}

async fn branch(state: &AppState, name: &str, at: Hash) {
    let reference =
        crate::store::ReferenceMove { name: name.to_owned(), tag: false, from: None, to: Some(at) };
    let write = crate::store::Write {
        repository: "acme".to_owned(),
        references: vec![reference],
        ..crate::store::Write::default()
    };
    state.store.write(&write).await.unwrap();
}

#[tokio::test]
async fn what_came_after_the_export_is_taken_from_metadata_files_on_request() {
    let folder = tempfile::tempdir().unwrap();
    let before = open(folder.path(), "before.db").await;
    let request = TenantCreate { name: "acme".to_owned(), ..TenantCreate::default() };
    crate::management::create_tenant(&before, &request, &Actor::default()).await.unwrap();
    let location = before.storage.new_location("acme", &["bronze".to_owned()], "t");
    let namespace = json!({"type": "NAMESPACE", "elements": ["bronze"], "properties": {}});
    commit(&before, "main", vec![put(&["bronze"], namespace)], "Create bronze").await;
    let first = table(&before, "main", &location, None).await;

    // Without any export, the tables alone come back, and only if asked for.
    let bare = open(folder.path(), "bare.db").await;
    let refused = rebuild(&bare, None, false).await.unwrap_err().to_string();
    assert!(refused.contains("--from-metadata"), "{refused}");
    let rebuilt = rebuild(&bare, Some("acme"), true).await.unwrap();
    assert_eq!((rebuilt[0].exported_at_ms, rebuilt[0].adopted.clone()), (None, vec!["bronze.t".to_owned()]));

    export(&before, "acme").await.unwrap();
    let newest = table(&before, "main", &location, Some(&first)).await;
    let after = open(folder.path(), "after.db").await;
    let rebuilt = rebuild(&after, None, true).await.unwrap();
    assert_eq!(rebuilt[0].adopted, ["bronze.t"]);
    let head = after.versions.repository("acme").resolve("main").await.unwrap().hash;
    let key = Key(vec!["bronze".to_owned(), "t".to_owned()]);
    let content = after.versions.repository("acme").get(head, &[key]).await.unwrap().pop().flatten().unwrap();
    assert_eq!(content.0["metadataLocation"], newest);
}

#[tokio::test]
async fn damaged_export_is_refused_and_leaves_no_reference() {
    let folder = tempfile::tempdir().unwrap();
    let before = open(folder.path(), "before.db").await;
    let request = TenantCreate { name: "acme".to_owned(), ..TenantCreate::default() };
    crate::management::create_tenant(&before, &request, &Actor::default()).await.unwrap();
    let namespace = json!({"type": "NAMESPACE", "elements": ["bronze"], "properties": {}});
    commit(&before, "main", vec![put(&["bronze"], namespace)], "Create bronze").await;
    let exported = export(&before, "acme").await.unwrap();
    let part = exported.location.replace("file://", "").replace(MANIFEST, "objects-00000");
    let mut bytes = std::fs::read(&part).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&part, bytes).unwrap();

    let after = open(folder.path(), "after.db").await;
    let error = rebuild(&after, None, false).await.unwrap_err().to_string();
    assert!(error.contains("is damaged (objects-00000)"), "{error}");
    assert!(after.store.references("acme").await.unwrap().is_empty());
}

#[tokio::test]
async fn only_the_newest_exports_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let config = open(folder.path(), "catalog.db").await;
    let request = TenantCreate { name: "acme".to_owned(), ..TenantCreate::default() };
    crate::management::create_tenant(&config, &request, &Actor::default()).await.unwrap();
    let mut last = String::new();
    for _ in 0..7 {
        last = export(&config, "acme").await.unwrap().location;
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    let kept = survey::exports(&config, "acme").await.unwrap();
    assert_eq!(kept.len(), 5);
    assert!(kept.last().is_some_and(|(folder, _)| last.starts_with(folder.as_str())));
}
