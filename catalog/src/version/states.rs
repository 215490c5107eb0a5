//! States of long branches, whose trees are stored now and then only.

#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    CommitRequest, Content, EntryRange, Hash, Key, MergeMode, MergeRequest, MergeSource, Meta, NO_ANCESTOR,
    Op, Repository, VersionStore,
    state::MAX_COMMITS,
    suite::{key, request, table},
};
use crate::store::{SqliteStore, Store};

const COMMITS: usize = 2 * MAX_COMMITS + 44;
const KEYS: usize = 40;
const CACHE_BYTES: u64 = 1 << 20;

type Seen = BTreeMap<Key, String>;

/// A database with an empty repository `acme`.
async fn store() -> (tempfile::TempDir, Arc<dyn Store>) {
    let directory = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> =
        Arc::new(SqliteStore::open(&directory.path().join("catalog.db")).await.unwrap());
    VersionStore::new(Arc::clone(&store), CACHE_BYTES).create("acme").await.unwrap();
    (directory, store)
}

async fn seen(repository: &Repository, at: Hash) -> Seen {
    let range = EntryRange { limit: 1000, ..EntryRange::default() };
    let (entries, more) = repository.entries(at, &range).await.unwrap();
    assert!(!more);
    entries.into_iter().map(|(key, content)| (key, location(&content))).collect()
}

/// Numbers of commits where the tree may be stored, and their neighbours.
fn around_the_stored_ones() -> impl Iterator<Item = usize> {
    [1, 2].into_iter().flat_map(|times| times * MAX_COMMITS - 2..=times * MAX_COMMITS + 2).chain([COMMITS])
}

fn location(content: &Content) -> String {
    content.0["metadataLocation"].as_str().unwrap().to_owned()
}

/// The commit's number decides what it changes: one key in seven is removed, if it is there.
async fn change(repository: &Repository, branch: &str, number: usize, expected: &mut Seen) -> CommitRequest {
    let key = key(&format!("t{}", number * 7 % KEYS));
    let head = repository.resolve(branch).await.unwrap().hash;
    let present = repository.get(head, std::slice::from_ref(&key)).await.unwrap().pop().unwrap();
    assert_eq!(present.as_ref().map(location), expected.get(&key).cloned());
    let operation = if number.is_multiple_of(7) && expected.remove(&key).is_some() {
        Op::Delete { key, expected: Some(present) }
    } else {
        let location = format!("s3://lake/{branch}/{number}");
        expected.insert(key.clone(), location.clone());
        Op::Put { key, content: table(&location), expected: Some(present) }
    };
    request(branch, vec![operation])
}

async fn commit(repository: &Repository, branch: &str, number: usize, expected: &mut Seen) -> Hash {
    let request = change(repository, branch, number, expected).await;
    repository.commit(request).await.unwrap().hash
}

#[tokio::test]
async fn whoever_reads_a_state_sees_the_same() {
    let (_directory, store) = store().await;
    let opened = || VersionStore::new(Arc::clone(&store), CACHE_BYTES).repository("acme");
    let repository = opened();

    let mut states = BTreeMap::from([(0, (*NO_ANCESTOR, Seen::new()))]);
    let mut expected = Seen::new();
    for number in 1..=COMMITS {
        let hash = commit(&repository, "main", number, &mut expected).await;
        states.insert(number, (hash, expected.clone()));
    }
    // Few trees are stored, and each time only what changed of them.
    let ages = store.object_ages("acme", None, 10_000).await.unwrap();
    let commits = ages.iter().filter(|object| object.format == 2).count();
    assert_eq!(commits, COMMITS);
    assert!(ages.len() - commits < COMMITS / 20, "{} nodes", ages.len() - commits);

    for number in [0, 1, 2, 100, 300].into_iter().chain(around_the_stored_ones()) {
        let (hash, expected) = &states[&number];
        assert_eq!(&seen(&repository, *hash).await, expected, "after {number}, by the process that wrote it");
        let cold = opened();
        assert_eq!(&seen(&cold, *hash).await, expected, "after {number}, by another one");
        let keys: Vec<Key> = (0..KEYS).map(|number| key(&format!("t{number}"))).collect();
        let got = opened().get(*hash, &keys).await.unwrap();
        let got = keys.into_iter().zip(got);
        let got: Seen = got.filter_map(|(key, content)| Some((key, location(&content?)))).collect();
        assert_eq!(&got, expected, "key by key after {number}");
    }
    let differ = opened().diff(states[&131].0, states[&(COMMITS - 10)].0).await.unwrap();
    let (before, after) = (&states[&131].1, &states[&(COMMITS - 10)].1);
    let changed = before.keys().chain(after.keys()).filter(|key| before.get(*key) != after.get(*key));
    let changed: BTreeSet<&Key> = changed.collect();
    assert!(differ.iter().map(|(key, ..)| key).eq(changed));
}

fn merge(from: Hash, mode: MergeMode) -> MergeRequest {
    MergeRequest {
        branch: "main".to_owned(),
        expected_head: None,
        source: MergeSource::Merge(from),
        default_mode: mode,
        modes: BTreeMap::new(),
        reconciled: Vec::new(),
        dry_run: false,
        meta: Meta::default(),
        idempotency: None,
    }
}

/// A merge that conflicts makes a tree that nobody stores; the commits around it are in the same transaction or in the next.
#[tokio::test]
async fn commits_around_a_refused_merge_are_read_by_everybody() {
    let (_directory, store) = store().await;
    let opened = || VersionStore::new(Arc::clone(&store), CACHE_BYTES).repository("acme");
    let repository = opened();
    let mut expected = Seen::new();
    for number in 1..=10 {
        commit(&repository, "main", number, &mut expected).await;
    }
    let base = repository.resolve("main").await.unwrap().hash;
    repository.create_reference("dev", false, base).await.unwrap();
    let mut theirs = expected.clone();
    let from = commit(&repository, "dev", 11, &mut theirs).await;
    commit(&repository, "main", 11, &mut expected).await;

    let mut hashes = Vec::new();
    for round in 0..5 {
        let numbers = [12 + 2 * round, 13 + 2 * round];
        let first = change(&repository, "main", numbers[0], &mut expected).await;
        let second = change(&repository, "main", numbers[1], &mut expected).await;
        let (one, refused, two) = tokio::join!(
            repository.commit(first),
            repository.merge(merge(from, MergeMode::Normal)),
            repository.commit(second),
        );
        assert!(!refused.unwrap().applied);
        hashes.extend([one.unwrap().hash, two.unwrap().hash]);
    }
    let head = repository.resolve("main").await.unwrap().hash;
    assert!(hashes.contains(&head));
    assert_eq!(seen(&repository, head).await, expected);
    assert_eq!(seen(&opened(), head).await, expected);

    let merged = repository.merge(merge(from, MergeMode::Force)).await.unwrap();
    assert!(merged.applied);
    expected.insert(key("t37"), "s3://lake/dev/11".to_owned());
    let after = commit(&repository, "main", 40, &mut expected).await;
    assert_eq!(seen(&opened(), after).await, expected);
}
