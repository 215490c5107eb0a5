//! What every store must do, run on every backend.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use firn_tests::{Authority, Postgres};

use super::{
    DocumentPut, DocumentSelection, Hash, IdempotencyRow, NewEvent, ReferenceMove, Refusal, SqliteStore,
    Store, StoreError, Write, Written, open,
};

/// Runs the suite on a database that is empty and can be opened again and again.
pub(crate) async fn conform(open: impl AsyncFn() -> Arc<dyn Store>) {
    let store = open().await;
    repositories_and_references(&*store).await;
    a_refused_write_leaves_nothing(&*store).await;
    objects(&*store).await;
    sweeps_spare_what_was_needed_since(&*store).await;
    documents(&*store).await;
    idempotency(&*store).await;
    events(&*store).await;
    racing_swaps_have_one_winner(Arc::clone(&store)).await;
    events_of_concurrent_writers_have_no_gaps(Arc::clone(&store)).await;
    store.ping().await.unwrap();
    store.close().await;
    assert!(matches!(store.ping().await, Err(StoreError::Unavailable(_))));

    let reopened = open().await;
    let names: Vec<String> =
        reopened.references("swaps").await.unwrap().into_iter().map(|row| row.name).collect();
    assert_eq!(names, ["main"], "a reopened store has everything");
    reopened.close().await;
}

fn hash(text: &str) -> Hash {
    Hash::of(text.as_bytes())
}

fn moved(name: &str, from: Option<&str>, to: Option<&str>) -> ReferenceMove {
    ReferenceMove { name: name.to_owned(), tag: false, from: from.map(hash), to: to.map(hash) }
}

fn writing(repository: &str) -> Write {
    Write { repository: repository.to_owned(), ..Write::default() }
}

async fn create(store: &dyn Store, repository: &str) {
    let references = vec![moved("main", None, Some("0"))];
    let write = Write { create_repository: true, references, ..writing(repository) };
    assert_eq!(store.write(&write).await.unwrap(), Written::Done);
}

async fn repositories_and_references(store: &dyn Store) {
    assert_eq!(store.heads("refs", &["main".to_owned()]).await.unwrap(), None);
    create(store, "refs").await;
    let tag = ReferenceMove { tag: true, ..moved("Z/tag'1", None, Some("t")) };
    let references = vec![tag, moved("dev", None, Some("1"))];
    let write = Write { references, raise_access_epoch: true, ..writing("refs") };
    assert_eq!(store.write(&write).await.unwrap(), Written::Done);

    let names: Vec<String> = ["main", "dev", "absent"].map(str::to_owned).to_vec();
    let heads = store.heads("refs", &names).await.unwrap().unwrap();
    assert_eq!(heads.access_epoch, 1);
    let found: BTreeSet<(String, Hash)> =
        heads.references.into_iter().map(|row| (row.name, row.hash)).collect();
    assert_eq!(found, BTreeSet::from([("main".to_owned(), hash("0")), ("dev".to_owned(), hash("1"))]));
    assert_eq!(store.heads("refs", &[]).await.unwrap().unwrap().references, []);

    let all = store.references("refs").await.unwrap();
    let all: Vec<(&str, bool)> = all.iter().map(|row| (row.name.as_str(), row.tag)).collect();
    assert_eq!(all, [("Z/tag'1", true), ("dev", false), ("main", false)], "names are ordered by bytes");

    let refused = |name: &str, found: Option<&str>| {
        Written::Refused(Refusal::Reference { name: name.to_owned(), found: found.map(hash) })
    };
    let cases = [
        (moved("dev", None, Some("2")), refused("dev", Some("1"))),
        (moved("dev", Some("0"), Some("2")), refused("dev", Some("1"))),
        (moved("dev", Some("0"), None), refused("dev", Some("1"))),
        (moved("none", Some("0"), Some("2")), refused("none", None)),
        (ReferenceMove { tag: true, ..moved("dev", Some("1"), Some("2")) }, refused("dev", Some("1"))),
        (ReferenceMove { tag: true, ..moved("dev", Some("1"), None) }, refused("dev", Some("1"))),
        (moved("dev", Some("1"), Some("1")), Written::Done),
        (moved("dev", Some("1"), None), Written::Done),
        (moved("dev", Some("1"), None), refused("dev", None)),
    ];
    for (reference, expected) in cases {
        let write = Write { references: vec![reference.clone()], ..writing("refs") };
        assert_eq!(store.write(&write).await.unwrap(), expected, "{reference:?}");
    }
}

async fn a_refused_write_leaves_nothing(store: &dyn Store) {
    create(store, "refused").await;
    let write = Write {
        references: vec![moved("a", None, Some("1")), moved("main", Some("elsewhere"), Some("1"))],
        documents: vec![put("refused", "k", None, Some("x"))],
        objects: vec![(hash("o"), Bytes::from_static(b"o"))],
        idempotency: vec![key_row("k", "r")],
        events: vec![event("commit", 1)],
        raise_access_epoch: true,
        ..writing("refused")
    };
    assert!(matches!(store.write(&write).await.unwrap(), Written::Refused(Refusal::Reference { .. })));
    let heads = store.heads("refused", &["a".to_owned()]).await.unwrap().unwrap();
    assert_eq!((heads.access_epoch, heads.references.len()), (0, 0));
    assert_eq!(store.objects("refused", &[hash("o")]).await.unwrap(), []);
    assert_eq!(store.idempotency("refused", "k").await.unwrap(), None);
    assert_eq!(store.events("refused", 0, 10).await.unwrap(), []);
    assert_eq!(store.documents("refused", DocumentSelection::All).await.unwrap(), []);
    let unknown = Write { events: vec![event("commit", 1)], ..writing("no such repository") };
    assert_eq!(store.write(&unknown).await.unwrap(), Written::Refused(Refusal::Repository));
}

async fn objects(store: &dyn Store) {
    create(store, "objects").await;
    let large = Bytes::from(vec![7; 3_000_000]);
    let objects = vec![(hash("a"), large.clone()), (hash("b"), Bytes::new()), (hash("a"), large.clone())];
    let write = Write { objects, ..writing("objects") };
    for _ in 0..2 {
        assert_eq!(store.write(&write).await.unwrap(), Written::Done, "an object may be written again");
    }
    let mut found = store.objects("objects", &[hash("b"), hash("absent"), hash("a")]).await.unwrap();
    found.sort_by_key(|(_, data)| data.len());
    assert_eq!(found, [(hash("b"), Bytes::new()), (hash("a"), large)]);
    assert_eq!(store.objects("refs", &[hash("a")]).await.unwrap(), [], "objects belong to their repository");
    assert_eq!(store.objects("objects", &[]).await.unwrap(), []);
}

fn put(kind: &str, key: &str, expected_version: Option<i64>, body: Option<&str>) -> DocumentPut {
    let body = body.map(|body| Bytes::from(body.to_owned()));
    DocumentPut {
        kind: kind.to_owned(),
        tenant: "acme".to_owned(),
        key: key.to_owned(),
        expected_version,
        body,
    }
}

async fn sweeps_spare_what_was_needed_since(store: &dyn Store) {
    create(store, "swept").await;
    let data = |text: &str| (hash(text), Bytes::from(text.to_owned()));
    let put = |objects| Write { objects, ..writing("swept") };
    store.write(&put(vec![data("\u{1}a"), data("\u{2}bb"), data("\u{1}c")])).await.unwrap();
    let first = store.object_ages("swept", None, 2).await.unwrap();
    let rest = store.object_ages("swept", Some(first[1].hash), 2).await.unwrap();
    let all: Vec<_> = first.into_iter().chain(rest).collect();
    assert!(all.is_sorted_by_key(|object| object.hash) && all.iter().all(|object| object.age_us >= 0));
    let commit = all.iter().find(|object| object.hash == hash("\u{2}bb")).unwrap();
    assert_eq!((commit.format, commit.bytes), (2, 3));

    while store.object_ages("swept", None, 9).await.unwrap().iter().any(|object| object.age_us < 2) {}
    store.write(&put(vec![data("\u{1}c")])).await.unwrap();
    assert_eq!(store.delete_objects("swept", &all).await.unwrap(), 2, "one was needed again");
    let left = store.object_ages("swept", None, 9).await.unwrap();
    assert_eq!(left.iter().map(|object| object.hash).collect::<Vec<_>>(), [hash("\u{1}c")]);
    assert_eq!(store.object_ages("refs", None, 9).await.unwrap(), [], "of one repository alone");
}

async fn documents(store: &dyn Store) {
    let refused = Written::Refused(Refusal::Document { kind: "lease".to_owned(), key: "a".to_owned() });
    let cases = [
        (put("lease", "a", Some(1), Some("x")), refused.clone()),
        (put("lease", "a", Some(0), Some("one")), Written::Done),
        (put("lease", "a", Some(0), Some("x")), refused.clone()),
        (put("lease", "a", Some(1), Some("two")), Written::Done),
        (put("lease", "a", Some(1), Some("x")), refused.clone()),
        (put("lease", "a", None, Some("three")), Written::Done),
        (put("lease", "b", None, Some("other")), Written::Done),
        (put("lease", "c", Some(0), Some("gone")), Written::Done),
        (put("lease", "c", Some(1), None), Written::Done),
        (put("lease", "a", Some(1), None), refused),
    ];
    for (document, expected) in cases {
        let write = Write { documents: vec![document.clone()], ..Write::default() };
        assert_eq!(store.write(&write).await.unwrap(), expected, "{document:?}");
    }
    let one = store.documents("lease", DocumentSelection::One { tenant: "acme", key: "a" }).await.unwrap();
    let [one] = one.as_slice() else { panic!("one document, not {one:?}") };
    assert_eq!((one.version, one.body.as_ref()), (3, b"three".as_slice()));
    let year_2020_us = 1_577_836_800_000_000;
    assert!(one.updated_at_us > year_2020_us && one.read_at_us >= one.updated_at_us);
    for selection in [DocumentSelection::Tenant("acme"), DocumentSelection::All] {
        let found = store.documents("lease", selection).await.unwrap();
        assert_eq!(found.iter().map(|row| row.key.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    }
    assert_eq!(store.documents("lease", DocumentSelection::Tenant("other")).await.unwrap(), []);
}

fn key_row(key: &str, request: &str) -> IdempotencyRow {
    IdempotencyRow {
        key: key.to_owned(),
        principal: "ann".to_owned(),
        operation: "commitTable".to_owned(),
        request_hash: hash(request),
        commit_hash: Some(hash("commit")),
        error: None,
    }
}

async fn idempotency(store: &dyn Store) {
    create(store, "keys").await;
    let first = key_row("k", "request");
    let refusal =
        IdempotencyRow { commit_hash: None, error: Some("409 gone".to_owned()), ..key_row("e", "request") };
    let write = Write { idempotency: vec![first.clone(), refusal.clone()], ..writing("keys") };
    assert_eq!(store.write(&write).await.unwrap(), Written::Done);
    let again = Write { idempotency: vec![key_row("k", "another")], ..writing("keys") };
    let refused = Written::Refused(Refusal::Idempotency { key: "k".to_owned() });
    assert_eq!(store.write(&again).await.unwrap(), refused);
    assert_eq!(store.idempotency("keys", "k").await.unwrap(), Some(first));
    assert_eq!(store.idempotency("keys", "e").await.unwrap(), Some(refusal));
    assert_eq!(store.idempotency("keys", "absent").await.unwrap(), None);
    assert_eq!(store.idempotency("refs", "k").await.unwrap(), None);
}

fn event(kind: &'static str, number: usize) -> NewEvent {
    NewEvent { kind, body: Bytes::from(number.to_string()) }
}

async fn events(store: &dyn Store) {
    create(store, "events").await;
    for numbers in [[1, 2], [3, 4]] {
        let events = numbers.map(|number| event("commit", number)).to_vec();
        assert_eq!(store.write(&Write { events, ..writing("events") }).await.unwrap(), Written::Done);
    }
    let found = store.events("events", 1, 2).await.unwrap();
    let found: Vec<(i64, &[u8])> = found.iter().map(|row| (row.number, row.body.as_ref())).collect();
    assert_eq!(found, [(2, b"2".as_slice()), (3, b"3".as_slice())]);
    assert_eq!(store.events("events", 4, 10).await.unwrap(), []);
    create(store, "eventless").await;
    let last = store.last_events().await.unwrap();
    let of = |name: &str| last.iter().find(|(found, _)| found == name).map(|(_, number)| *number);
    assert_eq!([of("events"), of("eventless"), of("no such repository")], [Some(4), Some(0), None]);
}

async fn racing_swaps_have_one_winner(store: Arc<dyn Store>) {
    create(&*store, "swaps").await;
    for round in 0..10 {
        let racers = (0..8).map(|racer| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let (from, to) = (round.to_string(), (round + 1).to_string());
                let object = (hash(&format!("{round} {racer}")), Bytes::from_static(b"x"));
                let references = vec![moved("main", Some(&from), Some(&to))];
                store.write(&Write { references, objects: vec![object], ..writing("swaps") }).await.unwrap()
            })
        });
        let mut won = 0;
        for racer in racers.collect::<Vec<_>>() {
            won += usize::from(racer.await.unwrap() == Written::Done);
        }
        let names: Vec<Hash> = (0..8).map(|racer| hash(&format!("{round} {racer}"))).collect();
        assert_eq!((won, store.objects("swaps", &names).await.unwrap().len()), (1, 1));
    }
}

async fn events_of_concurrent_writers_have_no_gaps(store: Arc<dyn Store>) {
    create(&*store, "numbers").await;
    let writers = (0..16).map(|writer| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let references = vec![moved(&format!("branch-{writer}"), None, Some("0"))];
            store
                .write(&Write { references, events: vec![event("commit", writer)], ..writing("numbers") })
                .await
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        assert_eq!(writer.await.unwrap().unwrap(), Written::Done);
    }
    let numbers: Vec<i64> =
        store.events("numbers", 0, 100).await.unwrap().iter().map(|row| row.number).collect();
    assert_eq!(numbers, (1..=16).collect::<Vec<_>>());
}

/// What a newer version did to the database, and whether this one still works on it.
const EXPANDED: &str = "INSERT INTO catalog_floors (number, oldest) VALUES (98, 1)";

async fn expanded_schema_is_served_by_the_version_before(url: &str) {
    open(url).await.unwrap().ping().await.unwrap();
}

async fn newer_schema_is_refused(url: &str) {
    let error = open(url).await.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(error.contains("schema 99"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_conforms() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("catalog.db");
    let url = format!("sqlite:{}", path.display());
    conform(async || open(&url).await.unwrap()).await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    sqlx::query(super::migrate::RECORD).bind(98).execute(&pool).await.unwrap();
    sqlx::query(EXPANDED).execute(&pool).await.unwrap();
    expanded_schema_is_served_by_the_version_before(&url).await;
    sqlx::query(super::migrate::RECORD).bind(99).execute(&pool).await.unwrap();
    newer_schema_is_refused(&url).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_conforms() {
    let server = Postgres::start().await.unwrap();
    let url = server.url();
    conform(async || open(&url).await.unwrap()).await;
    let pool = sqlx::PgPool::connect(&url).await.unwrap();
    sqlx::query(super::migrate::RECORD).bind(98_i64).execute(&pool).await.unwrap();
    sqlx::query(EXPANDED).execute(&pool).await.unwrap();
    expanded_schema_is_served_by_the_version_before(&url).await;
    sqlx::query(super::migrate::RECORD).bind(99_i64).execute(&pool).await.unwrap();
    newer_schema_is_refused(&url).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_keeps_what_it_acknowledged_through_a_crash() {
    let mut server = Postgres::start().await.unwrap();
    let store = open(&server.url()).await.unwrap();
    create(&*store, "crash").await;
    server.kill().unwrap();
    server.restart().await.unwrap();
    // The pool's old connections are dead, which a read finds out by itself.
    let heads = store.heads("crash", &["main".to_owned()]).await.unwrap();
    assert_eq!(heads.unwrap().references[0].hash, hash("0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_with_tls_is_trusted_by_its_authority_and_for_its_name() {
    let (ours, theirs) = (Authority::new().unwrap(), Authority::new().unwrap());
    let mut server = Postgres::start().await.unwrap();
    server.require_tls(&ours.issue("postgres", &["IP:127.0.0.1"]).unwrap()).await.unwrap();
    let url = |mode: &str, ca: &Authority| {
        format!("{}?sslmode={mode}&sslrootcert={}", server.url(), ca.file().display())
    };
    let store = open(&url("verify-full", &ours)).await.unwrap();
    create(&*store, "tls").await;
    assert!(store.heads("tls", &["main".to_owned()]).await.unwrap().is_some());
    let refused = |url: String| async move { open(&url).await.err().map(|error| error.to_string()) };
    assert!(refused(url("verify-full", &theirs)).await.unwrap().contains("certificate"));
    let elsewhere = url("verify-full", &ours).replace("127.0.0.1", "localhost");
    assert!(refused(elsewhere).await.unwrap().contains("certificate"));
    assert!(refused(url("disable", &ours)).await.is_some(), "the server takes no plain connection");
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_goes_on_with_another_password() {
    let server = Postgres::start().await.unwrap();
    server.psql("CREATE ROLE keeper LOGIN SUPERUSER PASSWORD 'one'").unwrap();
    let url = |password: &str| server.url().replace("postgres:firn@", &format!("keeper:{password}@"));
    let store = open(&url("one")).await.unwrap();
    create(&*store, "rotated").await;
    server.psql("ALTER ROLE keeper PASSWORD 'two'").unwrap();
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'keeper'";
    server.psql(kill).unwrap();
    assert!(store.ping().await.is_err(), "the old password is good no more");
    assert!(store.reconnect("nonsense").is_err());
    store.reconnect(&url("two")).unwrap();
    assert!(store.heads("rotated", &["main".to_owned()]).await.unwrap().is_some());
}

#[tokio::test]
async fn sqlite_goes_on_after_a_full_disk() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("catalog.db")).await.unwrap();
    create(&store, "full").await;
    let write = |text: String| Write { objects: vec![(hash(&text), text.into())], ..writing("full") };
    // The limit is the writing connection's own, as if the disk had filled up and been freed since.
    sqlx::query("PRAGMA max_page_count = 1").execute(&store.writer).await.unwrap();
    assert!(store.write(&write("x".repeat(100_000))).await.is_err());
    assert_eq!(store.write(&write("small".to_owned())).await.unwrap(), Written::Done);
    assert_eq!(store.objects("full", &[hash("small")]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_unusable_url_says_what_to_do() {
    let cases = [
        ("mysql://x", "starts with 'sqlite:' or 'postgres:'"),
        ("sqlite:/no/such/folder/catalog.db", "folder must exist"),
        ("postgres://127.0.0.1:1/x", "127.0.0.1:1"),
    ];
    for (url, what) in cases {
        let error = open(url).await.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(what), "{url}: {error}");
    }
}
