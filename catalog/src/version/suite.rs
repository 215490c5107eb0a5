//! What a repository promises, on both backends where the backend could matter.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, sync::Arc};

use firn_tests::Postgres;
use serde_json::json;

use super::{
    CommitRequest, Content, EntryRange, Hash, IdempotencyRecord, Key, MergeMode, MergeRequest, MergeSource,
    Meta, NO_ANCESTOR, Op, Repository, VersionStore,
};
use crate::{
    CatalogError,
    store::{self, SqliteStore, Store},
};

const CACHE_BYTES: u64 = 1 << 20;

/// An open repository `acme` in a file of its own.
pub(super) async fn repository() -> (tempfile::TempDir, Repository) {
    let directory = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> =
        Arc::new(SqliteStore::open(&directory.path().join("catalog.db")).await.unwrap());
    (directory, over(store).await)
}

async fn over(store: Arc<dyn Store>) -> Repository {
    let versions = VersionStore::new(store, CACHE_BYTES);
    versions.create("acme").await.unwrap();
    versions.create("acme").await.unwrap();
    versions.repository("acme")
}

pub(super) fn key(text: &str) -> Key {
    Key(text.split('.').map(str::to_owned).collect())
}

pub(super) fn table(location: &str) -> Content {
    Content::new(
        json!({"type": "ICEBERG_TABLE", "metadataLocation": location, "unknown": {"kept": [1.5, null]}}),
    )
}

fn namespace() -> Content {
    Content::new(json!({"type": "NAMESPACE", "elements": [], "properties": {}}))
}

fn create(name: &str, content: Content) -> Op {
    Op::Put { key: key(name), content, expected: Some(None) }
}

pub(super) fn request(branch: &str, operations: Vec<Op>) -> CommitRequest {
    let meta = Meta { committer: "ann".to_owned(), message: "because".to_owned(), ..Meta::default() };
    CommitRequest { branch: branch.to_owned(), expected_head: None, operations, meta, idempotency: None }
}

async fn head(repository: &Repository, name: &str) -> Hash {
    repository.resolve(name).await.unwrap().hash
}

async fn read(repository: &Repository, at: &str, name: &str) -> Option<Content> {
    let at = head(repository, at).await;
    repository.get(at, &[key(name)]).await.unwrap().pop().unwrap()
}

/// Puts over whatever is there, as an engine that read it just before.
async fn set(repository: &Repository, branch: &str, name: &str, location: &str) -> Hash {
    let present = read(repository, branch, name).await;
    let content = match &present {
        Some(present) => table(location).with_id(present.id().unwrap()),
        None => table(location),
    };
    let operation = Op::Put { key: key(name), content, expected: Some(present) };
    repository.commit(request(branch, vec![operation])).await.unwrap().hash
}

fn conflict_types(error: CatalogError) -> Vec<&'static str> {
    match error {
        CatalogError::Conflict { conflicts, .. } => {
            conflicts.iter().map(|conflict| conflict.conflict_type).collect()
        }
        other => panic!("a conflict, not {other:?}"),
    }
}

#[tokio::test]
async fn a_commit_is_read_back_at_its_hash_and_in_the_log() {
    let (_directory, repository) = repository().await;
    let empty = repository.resolve("").await.unwrap();
    assert_eq!((empty.hash, empty.writable), (*NO_ANCESTOR, true));
    let operations = vec![create("bronze", namespace()), create("bronze.inventory", table("a"))];
    let committed = repository.commit(request("main", operations)).await.unwrap();
    let ids: Vec<_> =
        committed.contents.iter().map(|(_, content)| content.id().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 2);
    let second = set(&repository, "main", "bronze.inventory", "b").await;

    let commit = repository.commit_at(second).await.unwrap();
    assert_eq!((commit.parents, commit.meta.committer.as_str()), (vec![committed.hash], "ann"));
    let (log, more) = repository.log(second, 10).await.unwrap();
    assert_eq!((log.len(), more, log[1].hash), (2, false, committed.hash));
    assert!(log[0].time > log[1].time);
    assert!(repository.log(second, 1).await.unwrap().1);

    let old = read(&repository, &committed.hash.to_string(), "bronze.inventory").await.unwrap();
    let new = read(&repository, "main", "bronze.inventory").await.unwrap();
    assert_eq!((old, new), (table("a").with_id(&ids[1]), table("b").with_id(&ids[1])));
    let differences = repository.diff(committed.hash, second).await.unwrap();
    assert_eq!(differences.len(), 1);
    let prefix = EntryRange { prefix: Some(key("bronze")), limit: 10, ..EntryRange::default() };
    assert_eq!(repository.entries(second, &prefix).await.unwrap().0.len(), 2);
}

#[tokio::test]
async fn an_old_expected_head_conflicts_by_key_only() {
    let (_directory, repository) = repository().await;
    set(&repository, "main", "a", "1").await;
    let seen = set(&repository, "main", "b", "1").await;
    set(&repository, "main", "a", "2").await;
    let on = |operations| CommitRequest { expected_head: Some(seen), ..request("main", operations) };

    let b = read(&repository, "main", "b").await.unwrap();
    let put_b = Op::Put { key: key("b"), content: b.clone(), expected: None };
    let a_unchanged = Op::Unchanged { key: key("a") };
    let error = repository.commit(on(vec![put_b, a_unchanged])).await.unwrap_err();
    assert_eq!(conflict_types(error), ["VALUE_DIFFERS"]);
    let put_b = Op::Put { key: key("b"), content: table("2").with_id(b.id().unwrap()), expected: None };
    repository.commit(on(vec![put_b])).await.unwrap();
    assert_eq!(
        conflict_types(repository.commit(on(vec![create("a", table("3"))])).await.unwrap_err()).len(),
        2
    );

    let elsewhere =
        CommitRequest { expected_head: Some(*NO_ANCESTOR), ..request("main", vec![create("c", table("1"))]) };
    repository.commit(elsewhere).await.unwrap();
    repository.create_reference("dev", false, seen).await.unwrap();
    let on_dev = set(&repository, "dev", "z", "1").await;
    let foreign =
        CommitRequest { expected_head: Some(on_dev), ..request("main", vec![create("d", table("1"))]) };
    assert!(matches!(repository.commit(foreign).await, Err(CatalogError::ReferenceConflict(_))));
}

#[tokio::test]
async fn nessies_rules_of_keys_hold() {
    let (_directory, repository) = repository().await;
    set(&repository, "main", "t", "1").await;
    let operations = vec![create("n", namespace()), create("n.t", table("1"))];
    repository.commit(request("main", operations)).await.unwrap();
    let before = head(&repository, "main").await;
    let put = |name, content| Op::Put { key: key(name), content, expected: None };
    let present = read(&repository, "main", "t").await.unwrap();
    let view = Content::new(json!({"type": "ICEBERG_VIEW"})).with_id(present.id().unwrap());
    let stale = Op::Put { key: key("t"), content: table("2"), expected: Some(Some(table("0"))) };
    let cases = [
        (vec![create("t", table("2"))], "KEY_EXISTS"),
        (vec![put("t", table("2"))], "KEY_EXISTS"),
        (vec![put("t", table("2").with_id("other"))], "CONTENT_ID_DIFFERS"),
        (vec![put("t", view)], "PAYLOAD_DIFFERS"),
        (vec![put("new", table("2").with_id("x"))], "KEY_DOES_NOT_EXIST"),
        (vec![stale], "VALUE_DIFFERS"),
        (vec![Op::Delete { key: key("absent"), expected: None }], "KEY_DOES_NOT_EXIST"),
        (vec![create("no.such", table("1"))], "NAMESPACE_ABSENT"),
        (vec![create("t.x", table("1"))], "NOT_A_NAMESPACE"),
        (vec![Op::Delete { key: key("n"), expected: None }], "NAMESPACE_NOT_EMPTY"),
        (vec![put("x", Content::new(json!({"id": "1"})))], "UNKNOWN"),
    ];
    for (operations, kind) in cases {
        let error = repository.commit(request("main", operations.clone())).await.unwrap_err();
        assert_eq!(conflict_types(error), [kind], "{operations:?}");
    }
    let twice = vec![create("x", table("1")), Op::Delete { key: key("x"), expected: None }];
    assert!(matches!(repository.commit(request("main", twice)).await, Err(CatalogError::Invalid(_))));
    assert_eq!(head(&repository, "main").await, before, "nothing changed");

    let renamed = vec![Op::Delete { key: key("t"), expected: None }, put("n.moved", present.clone())];
    repository.commit(request("main", renamed)).await.unwrap();
    assert_eq!(read(&repository, "main", "n.moved").await, Some(present));
    let all = ["n", "n.t", "n.moved"].map(|name| Op::Delete { key: key(name), expected: None });
    repository.commit(request("main", all.to_vec())).await.unwrap();
    assert_eq!(
        repository
            .entries(head(&repository, "main").await, &EntryRange { limit: 9, ..EntryRange::default() })
            .await
            .unwrap()
            .0,
        []
    );
}

#[tokio::test]
async fn references_are_created_moved_and_deleted_where_expected() {
    let (_directory, repository) = repository().await;
    let (one, two) = (set(&repository, "main", "a", "1").await, set(&repository, "main", "a", "2").await);
    repository.create_reference("dev", false, one).await.unwrap();
    repository.create_reference("v1", true, one).await.unwrap();
    assert!(matches!(
        repository.create_reference("v1", false, one).await,
        Err(CatalogError::AlreadyExists(_))
    ));
    let absent = Hash([1; 32]);
    assert!(matches!(
        repository.create_reference("x", false, absent).await,
        Err(CatalogError::NotFound { .. })
    ));
    assert!(!repository.resolve("v1").await.unwrap().writable);
    let tag = repository.commit(request("v1", vec![create("b", table("1"))])).await;
    assert!(matches!(tag, Err(CatalogError::Invalid(_))));

    assert!(matches!(
        repository.assign_reference("dev", Some(two), two).await,
        Err(CatalogError::ReferenceConflict(_))
    ));
    assert_eq!(repository.assign_reference("dev", None, two).await.unwrap().hash, two);
    assert!(matches!(
        repository.delete_reference("dev", Some(one)).await,
        Err(CatalogError::ReferenceConflict(_))
    ));
    assert_eq!(repository.delete_reference("dev", Some(two)).await.unwrap().hash, two);
    assert!(matches!(repository.delete_reference("dev", None).await, Err(CatalogError::NotFound { .. })));
    assert!(matches!(repository.delete_reference("main", None).await, Err(CatalogError::Invalid(_))));
    let names: Vec<String> =
        repository.references().await.unwrap().into_iter().map(|found| found.name).collect();
    assert_eq!(names, ["main", "v1"]);
    let kinds: Vec<String> =
        repository.events(0, 100).await.unwrap().into_iter().map(|event| event.kind).collect();
    let expected = [
        "commit",
        "commit",
        "reference-created",
        "reference-created",
        "reference-assigned",
        "reference-deleted",
    ];
    assert_eq!(kinds, expected);
}

#[tokio::test]
async fn expressions_lead_to_ancestors() {
    let (_directory, repository) = repository().await;
    let mut commits = vec![*NO_ANCESTOR];
    for number in 0..40 {
        commits.push(set(&repository, "main", "a", &number.to_string()).await);
    }
    for back in 0..=40 {
        assert_eq!(head(&repository, &format!("main~{back}")).await, commits[40 - back]);
    }
    assert_eq!(head(&repository, &format!("main@{}~1^1", commits[20])).await, commits[18]);
    assert_eq!(head(&repository, &format!("{}", commits[7])).await, commits[7]);
    for number in [1, 2, 3, 17, 40] {
        let time = repository.commit_at(commits[number]).await.unwrap().time;
        let instant = time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
        assert_eq!(head(&repository, &format!("main*{instant}")).await, commits[number]);
    }
    let foreign = "11".repeat(32);
    for missing in
        ["main~41", "main^2", "main*2001-01-01T00:00:00Z", &foreign, &format!("main@{foreign}"), "nobody"]
    {
        let found = repository.resolve(missing).await;
        assert!(matches!(found, Err(CatalogError::NotFound { .. })), "{missing}: {found:?}");
    }
    let nowhere =
        VersionStore::new(Arc::clone(&repository.shared.store), 0).repository("nobody").resolve("main").await;
    assert!(matches!(nowhere, Err(CatalogError::NotFound { what: crate::error::Missing::Tenant, .. })));
}

fn keyed(text: &str, request_text: &str) -> IdempotencyRecord {
    IdempotencyRecord {
        key: text.to_owned(),
        principal: "ann".to_owned(),
        operation: "commitTable".to_owned(),
        request_hash: Hash::of(request_text.as_bytes()),
    }
}

#[tokio::test]
async fn a_repeated_request_commits_once() {
    let (_directory, repository) = repository().await;
    let record = keyed("k", "r");
    assert!(repository.replayed(&record).await.unwrap().is_none());
    let create =
        CommitRequest { idempotency: Some(record.clone()), ..request("main", vec![create("a", table("1"))]) };
    let first = repository.commit(create.clone()).await.unwrap();
    let again = repository.commit(create.clone()).await.unwrap();
    assert_eq!((again.hash, &again.contents), (first.hash, &first.contents));
    // One whose operations would apply again is stopped by the record, too.
    let overwrite = Op::Put { key: key("b"), content: table("2"), expected: None };
    let blind = CommitRequest { operations: vec![overwrite], ..create.clone() };
    assert_eq!(repository.commit(blind).await.unwrap().hash, first.hash);
    assert_eq!(repository.replayed(&record).await.unwrap().unwrap().hash, first.hash);
    let reused = CommitRequest { idempotency: Some(keyed("k", "other")), ..create };
    assert!(matches!(repository.commit(reused).await, Err(CatalogError::KeyReused(_))));
    assert_eq!(repository.log(head(&repository, "main").await, 10).await.unwrap().0.len(), 1);
}

/// Many writers on two replicas over one database: every acknowledged commit is in the log once, and every state of the log can be
/// read, though only the last of each batch was stored.
async fn concurrent_commits_land_once(store: Arc<dyn Store>) {
    const WRITERS: usize = 24;
    const ROUNDS: usize = 5;
    let replicas = [over(Arc::clone(&store)).await, over(store).await];
    let writers = (0..WRITERS).map(|writer| {
        let repository = replicas[writer % 2].clone();
        tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            for round in 0..ROUNDS {
                acknowledged.push(set(&repository, "main", &format!("t{writer}"), &round.to_string()).await);
            }
            acknowledged
        })
    });
    let mut acknowledged = Vec::new();
    for writer in writers.collect::<Vec<_>>() {
        acknowledged.extend(writer.await.unwrap());
    }
    let fresh = over(Arc::clone(&replicas[0].shared.store)).await;
    let (log, _) = fresh.log(head(&fresh, "main").await, 10_000).await.unwrap();
    let mut logged: Vec<Hash> = log.iter().map(|commit| commit.hash).collect();
    logged.sort_unstable();
    acknowledged.sort_unstable();
    assert_eq!(logged, acknowledged);
    let mut model = BTreeMap::new();
    for commit in log.iter().rev() {
        model.extend(commit.operations.iter().cloned());
        let state =
            fresh.entries(commit.hash, &EntryRange { limit: 1000, ..EntryRange::default() }).await.unwrap().0;
        let state: BTreeMap<_, _> = state.into_iter().map(|(key, content)| (key, Some(content))).collect();
        assert_eq!(state, model);
    }
    let events = fresh.events(0, 10_000).await.unwrap();
    let numbers: Vec<i64> = events.iter().map(|event| event.number).collect();
    assert_eq!(numbers, (1..=(WRITERS * ROUNDS) as i64).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_commits_land_once_in_sqlite() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&directory.path().join("catalog.db")).await.unwrap();
    concurrent_commits_land_once(Arc::new(store)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_commits_land_once_in_postgres() {
    let server = Postgres::start().await.unwrap();
    let store = store::open(&server.url()).await.unwrap();
    concurrent_commits_land_once(store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_racing_creates_one_wins() {
    let (_directory, repository) = repository().await;
    let racers = (0..16).map(|racer| {
        let repository = repository.clone();
        let create = create("a", table(&racer.to_string()));
        tokio::spawn(async move { repository.commit(request("main", vec![create])).await })
    });
    let mut won = 0;
    for racer in racers.collect::<Vec<_>>() {
        match racer.await.unwrap() {
            Ok(_) => won += 1,
            Err(error) => assert_eq!(conflict_types(error), ["KEY_EXISTS"]),
        }
    }
    assert_eq!(won, 1);
}

fn merging(branch: &str, source: MergeSource) -> MergeRequest {
    MergeRequest {
        branch: branch.to_owned(),
        expected_head: None,
        source,
        meta: Meta { committer: "bob".to_owned(), message: "merge".to_owned(), ..Meta::default() },
        default_mode: MergeMode::Normal,
        modes: BTreeMap::new(),
        reconciled: Vec::new(),
        dry_run: false,
        idempotency: None,
    }
}

#[tokio::test]
async fn a_merge_takes_over_what_the_source_changed() {
    let (_directory, repository) = repository().await;
    let base = set(&repository, "main", "a", "1").await;
    repository.create_reference("dev", false, base).await.unwrap();
    set(&repository, "dev", "b", "dev").await;
    let from = set(&repository, "dev", "c", "dev").await;
    let target = set(&repository, "main", "d", "main").await;

    let dry = MergeRequest { dry_run: true, ..merging("main", MergeSource::Merge(from)) };
    let dry = repository.merge(dry).await.unwrap();
    assert!(dry.successful() && !dry.applied && dry.hash == target);
    let merged = repository.merge(merging("main", MergeSource::Merge(from))).await.unwrap();
    assert!(merged.applied && merged.base == Some(base));
    let commit = repository.commit_at(merged.hash).await.unwrap();
    assert_eq!((commit.parents, commit.operations.len()), (vec![target, from], 2));
    for (name, from) in [("a", "1"), ("b", "dev"), ("c", "dev"), ("d", "main")] {
        assert_eq!(read(&repository, "main", name).await.unwrap().0["metadataLocation"], from);
    }
    // The merge is the next one's base: only what came after it is merged again.
    assert_eq!(repository.merge_base(merged.hash, from).await.unwrap(), from);
    let nothing = repository.merge(merging("main", MergeSource::Merge(from))).await.unwrap();
    assert!(nothing.successful() && !nothing.applied && nothing.hash == merged.hash);
    let more = set(&repository, "dev", "b", "dev2").await;
    let again = repository.merge(merging("main", MergeSource::Merge(more))).await.unwrap();
    assert_eq!(again.details.len(), 1);
}

#[tokio::test]
async fn a_merge_of_keys_changed_on_both_sides_conflicts_unless_told() {
    let (_directory, repository) = repository().await;
    let base = set(&repository, "main", "a", "1").await;
    repository.create_reference("dev", false, base).await.unwrap();
    let from = set(&repository, "dev", "a", "dev").await;
    let target = set(&repository, "main", "a", "main").await;
    let merged = repository.merge(merging("main", MergeSource::Merge(from))).await.unwrap();
    assert!(!merged.successful() && !merged.applied && merged.hash == target);
    assert_eq!(conflict_types(merged.into_error("main")), ["VALUE_DIFFERS"]);
    for (mode, expected) in [(MergeMode::Drop, "main"), (MergeMode::Force, "dev")] {
        let branch = format!("keeps-{expected}");
        repository.create_reference(&branch, false, target).await.unwrap();
        let told = MergeRequest {
            modes: BTreeMap::from([(key("a"), mode)]),
            ..merging(&branch, MergeSource::Merge(from))
        };
        assert!(repository.merge(told).await.unwrap().applied);
        assert_eq!(read(&repository, &branch, "a").await.unwrap().0["metadataLocation"], expected);
    }
}

#[tokio::test]
async fn a_transplant_repeats_commits_with_their_authors() {
    let (_directory, repository) = repository().await;
    let base = set(&repository, "main", "a", "1").await;
    repository.create_reference("dev", false, base).await.unwrap();
    let picked = [set(&repository, "dev", "b", "1").await, set(&repository, "dev", "b", "2").await];
    set(&repository, "dev", "c", "1").await;
    set(&repository, "main", "d", "1").await;
    let moved = repository.merge(merging("main", MergeSource::Transplant(picked.to_vec()))).await.unwrap();
    assert!(moved.applied);
    let (log, _) = repository.log(moved.hash, 10).await.unwrap();
    assert_eq!(log.len(), 4);
    assert_eq!((log[0].meta.committer.as_str(), log[0].parents.len()), ("bob", 1));
    assert_eq!(read(&repository, "main", "b").await.unwrap().0["metadataLocation"], "2");
    assert_eq!(read(&repository, "main", "c").await, None);
    let again =
        repository.merge(merging("main", MergeSource::Transplant(picked[..1].to_vec()))).await.unwrap();
    assert!(!again.successful() && !again.applied);
    assert_eq!(head(&repository, "main").await, moved.hash);
}
