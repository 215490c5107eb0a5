//! Random histories: nothing that a reference reaches is ever removed, and everything else is.

#![allow(clippy::unwrap_used)]

mod orphans;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use bytes::Bytes;
use chrono::TimeDelta;
use firn_auth::SigningKey;
use firn_catalog_client::GcReport;
use proptest::prelude::*;
use serde_json::json;

use super::{Settings, collect};
use crate::{
    CatalogConfig, S3Config,
    management::AppState,
    manifests::{ManifestFile, samples},
    store::Hash,
    version::{
        CommitRequest, Content, EntryRange, Key, MergeMode, MergeRequest, MergeSource, Meta, NO_ANCESTOR, Op,
        Repository,
    },
};

const TENANT: &str = "acme";

#[derive(Clone, Debug)]
enum Step {
    Create {
        branch: usize,
        table: u8,
    },
    Append {
        branch: usize,
        table: u8,
    },
    Drop {
        branch: usize,
        table: u8,
    },
    /// A snapshot that only has the newest file: the others stay needed by older states alone.
    Overwrite {
        branch: usize,
        table: u8,
    },
    Branch {
        from: usize,
    },
    Delete {
        branch: usize,
    },
    Reset {
        branch: usize,
        to: usize,
    },
    Merge {
        from: usize,
        into: usize,
    },
    /// A job that wrote files and never committed.
    Abandon {
        table: u8,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (branch, table) = (0..4usize, 0..4u8);
    let step = prop_oneof![
        3 => (branch.clone(), table.clone()).prop_map(|(branch, table)| Step::Create { branch, table }),
        4 => (branch.clone(), table.clone()).prop_map(|(branch, table)| Step::Append { branch, table }),
        1 => (branch.clone(), table.clone()).prop_map(|(branch, table)| Step::Drop { branch, table }),
        2 => (branch.clone(), table.clone()).prop_map(|(branch, table)| Step::Overwrite { branch, table }),
        2 => branch.clone().prop_map(|from| Step::Branch { from }),
        1 => branch.clone().prop_map(|branch| Step::Delete { branch }),
        1 => (branch.clone(), branch.clone()).prop_map(|(branch, to)| Step::Reset { branch, to }),
        2 => (branch.clone(), branch).prop_map(|(from, into)| Step::Merge { from, into }),
        1 => table.prop_map(|table| Step::Abandon { table }),
    ];
    prop::collection::vec(step, 1..30)
}

type State = BTreeMap<Key, String>;

/// A version of a table.
#[derive(Clone)]
struct Version {
    folder: String,
    manifests: Vec<ManifestFile>,
    /// All files that it consists of, itself included.
    files: BTreeSet<String>,
}

struct World {
    folder: tempfile::TempDir,
    config: CatalogConfig,
    state: AppState,
    /// How manifests spell the locations of data files.
    spell: fn(&str) -> String,
    repository: Repository,
    /// By metadata location.
    versions: BTreeMap<String, Version>,
    states: BTreeMap<Hash, State>,
    parents: BTreeMap<Hash, Vec<Hash>>,
    branches: BTreeMap<String, Hash>,
    made: usize,
}

async fn open(config: &CatalogConfig) -> AppState {
    AppState::open(config.clone(), config.signing_key.verifier()).await.unwrap()
}

/// What is older than `safety_age` goes unless something needs it.
fn settings(safety_age: TimeDelta) -> Settings {
    Settings { dry_run: false, safety_age, history: None, history_of: Vec::new(), folders: None }
}

fn key(table: u8) -> Key {
    Key(vec![format!("t{table}")])
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let warehouse = format!("file://{}", folder.path().join("warehouse").display());
        Self::over(folder, warehouse, S3Config::default()).await
    }

    async fn over(folder: tempfile::TempDir, warehouse: String, s3: S3Config) -> Self {
        let config = CatalogConfig {
            database_url: format!("sqlite:{}", folder.path().join("catalog.db").display()),
            warehouse,
            s3,
            region: "local".to_owned(),
            cache_bytes: 1 << 20,
            signing_key: SigningKey::generate(),
            public_url: String::new(),
        };
        let state = open(&config).await;
        state.versions.create(TENANT).await.unwrap();
        let repository = state.versions.repository(TENANT);
        Self {
            folder,
            config,
            state,
            spell: str::to_owned,
            repository,
            versions: BTreeMap::new(),
            states: BTreeMap::from([(*NO_ANCESTOR, State::new())]),
            parents: BTreeMap::new(),
            branches: BTreeMap::from([("main".to_owned(), *NO_ANCESTOR)]),
            made: 0,
        }
    }

    fn branch(&self, number: usize) -> (String, Hash) {
        let (name, hash) = self.branches.iter().nth(number % self.branches.len()).unwrap();
        (name.clone(), *hash)
    }

    async fn write(&self, location: &str, bytes: Bytes) {
        self.state.storage.write_file(TENANT, location, bytes).await.unwrap();
    }

    /// Writes one more snapshot with one more data file on top of some manifests; answers the metadata's location.
    async fn snapshot(&mut self, folder: &str, mut manifests: Vec<ManifestFile>) -> String {
        self.made += 1;
        let number = self.made;
        let place = |name: &str| format!("{folder}/{name}");
        let data = place(&format!("data/{number}.parquet"));
        self.write(&data, Bytes::from_static(b"rows")).await;
        let path = place(&format!("metadata/{number}-m0.avro"));
        let (bytes, listed) = samples::manifest(&path, number as i64, &[(self.spell)(&data)]);
        self.write(&path, bytes).await;
        manifests.push(listed);
        let list = place(&format!("metadata/snap-{number}.avro"));
        self.write(&list, samples::list(number as i64, &manifests)).await;
        let statistics = place(&format!("metadata/{number}.stats"));
        self.write(&statistics, Bytes::from_static(b"statistics")).await;
        let metadata = json!({
            "location": folder,
            "snapshots": [{"snapshot-id": number, "manifest-list": list}],
            "statistics": [{"snapshot-id": number, "statistics-path": statistics}],
        });
        let location = place(&format!("metadata/{number:05}.metadata.json"));
        self.write(&location, Bytes::from(metadata.to_string())).await;
        let mut files = BTreeSet::from([location.clone(), list, statistics]);
        for manifest in &manifests {
            files.insert(manifest.path.clone());
            let made = manifest.path.rsplit('/').next().unwrap().split('-').next().unwrap().to_owned();
            files.insert(place(&format!("data/{made}.parquet")));
        }
        self.versions.insert(location.clone(), Version { folder: folder.to_owned(), manifests, files });
        location
    }

    async fn commit(&mut self, branch: &str, key: Key, location: Option<String>) {
        let head = self.branches[branch];
        let present = self.repository.get(head, std::slice::from_ref(&key)).await.unwrap().remove(0);
        let mut state = self.states[&head].clone();
        let operation = match location {
            Some(location) => {
                state.insert(key.clone(), location.clone());
                let content = json!({"type": "ICEBERG_TABLE", "metadataLocation": location});
                Op::Put { key, content: Content::new(content), expected: Some(present) }
            }
            None => {
                state.remove(&key);
                Op::Delete { key, expected: Some(present) }
            }
        };
        let request = CommitRequest {
            branch: branch.to_owned(),
            expected_head: None,
            operations: vec![operation],
            meta: Meta::default(),
            idempotency: None,
        };
        let hash = self.repository.commit(request).await.unwrap().hash;
        self.add(branch, hash, vec![head], state);
    }

    fn add(&mut self, branch: &str, hash: Hash, parents: Vec<Hash>, state: State) {
        self.parents.insert(hash, parents);
        self.states.insert(hash, state);
        self.branches.insert(branch.to_owned(), hash);
    }

    async fn take(&mut self, step: &Step) {
        match step {
            Step::Create { branch, table } => {
                let (branch, head) = self.branch(*branch);
                if !self.states[&head].contains_key(&key(*table)) {
                    let folder = self.state.storage.new_location(TENANT, &[], &format!("t{table}"));
                    let location = self.snapshot(&folder, Vec::new()).await;
                    self.commit(&branch, key(*table), Some(location)).await;
                }
            }
            Step::Append { branch, table } | Step::Overwrite { branch, table } => {
                let (branch, head) = self.branch(*branch);
                if let Some(location) = self.states[&head].get(&key(*table)).cloned() {
                    let Version { folder, manifests, .. } = self.versions[&location].clone();
                    let kept = if matches!(step, Step::Append { .. }) { manifests } else { Vec::new() };
                    let location = self.snapshot(&folder, kept).await;
                    self.commit(&branch, key(*table), Some(location)).await;
                }
            }
            Step::Drop { branch, table } => {
                let (branch, head) = self.branch(*branch);
                if self.states[&head].contains_key(&key(*table)) {
                    self.commit(&branch, key(*table), None).await;
                }
            }
            Step::Branch { from } => {
                let (_, head) = self.branch(*from);
                self.made += 1;
                let name = format!("b{}", self.made);
                self.repository.create_reference(&name, self.made.is_multiple_of(3), head).await.unwrap();
                if self.made.is_multiple_of(3) {
                    // A tag: it counts as a root, and nothing is committed to it.
                    self.repository.delete_reference(&name, None).await.unwrap();
                } else {
                    self.branches.insert(name, head);
                }
            }
            Step::Delete { branch } => {
                let (name, _) = self.branch(*branch);
                if name != "main" {
                    self.repository.delete_reference(&name, None).await.unwrap();
                    self.branches.remove(&name);
                }
            }
            Step::Reset { branch, to } => {
                let ((name, _), (_, to)) = (self.branch(*branch), self.branch(*to));
                self.repository.assign_reference(&name, None, to).await.unwrap();
                self.branches.insert(name, to);
            }
            Step::Merge { from, into } => self.merge(*from, *into).await,
            Step::Abandon { table } => {
                let folder = self.state.storage.new_location(TENANT, &[], &format!("t{table}"));
                self.snapshot(&folder, Vec::new()).await;
            }
        }
    }

    async fn merge(&mut self, from: usize, into: usize) {
        let ((_, from), (into, head)) = (self.branch(from), self.branch(into));
        let request = MergeRequest {
            branch: into.clone(),
            expected_head: None,
            source: MergeSource::Merge(from),
            meta: Meta::default(),
            default_mode: MergeMode::Force,
            modes: BTreeMap::new(),
            reconciled: Vec::new(),
            dry_run: false,
            idempotency: None,
        };
        let merged = self.repository.merge(request).await.unwrap();
        if merged.applied {
            let all = EntryRange { limit: 100, ..EntryRange::default() };
            let (entries, _) = self.repository.entries(merged.hash, &all).await.unwrap();
            let state = entries.into_iter().map(|(key, content)| (key, location(&content))).collect();
            self.add(&into, merged.hash, vec![head, from], state);
        }
    }

    fn reachable(&self) -> BTreeSet<Hash> {
        let mut waiting: Vec<Hash> = self.branches.values().copied().collect();
        let mut found = BTreeSet::new();
        while let Some(hash) = waiting.pop() {
            if found.insert(hash) {
                waiting.extend(self.parents.get(&hash).into_iter().flatten());
            }
        }
        found
    }

    fn needed(&self, states: impl IntoIterator<Item = Hash>) -> BTreeSet<String> {
        let locations = states.into_iter().flat_map(|hash| self.states[&hash].values());
        locations.flat_map(|location| self.versions[location].files.iter().cloned()).collect()
    }

    async fn collect(&self, dry_run: bool, history: Option<TimeDelta>) -> GcReport {
        let settings = Settings { dry_run, history, ..settings(TimeDelta::zero()) };
        // A collection goes by the database alone: nothing may be found only because it is cached.
        let state = open(&self.config).await;
        let report = collect(&state, TENANT, &settings).await.unwrap();
        assert_eq!(report.unreadable, []);
        report
    }

    fn files(&self) -> BTreeSet<String> {
        let mut folders = vec![self.folder.path().join("warehouse")];
        let mut found = BTreeSet::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten() {
                let path: PathBuf = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    found.insert(format!("file://{}", path.display()));
                }
            }
        }
        found
    }
}

fn location(content: &Content) -> String {
    content.0["metadataLocation"].as_str().unwrap().to_owned()
}

async fn objects(world: &World) -> BTreeSet<Hash> {
    let ages = world.state.store.object_ages(TENANT, None, 100_000).await.unwrap();
    ages.into_iter().map(|object| object.hash).collect()
}

async fn states_are_whole(world: &World) {
    let fresh = open(&world.config).await.versions.repository(TENANT);
    let all = EntryRange { limit: 100, ..EntryRange::default() };
    for (name, hash) in &world.branches {
        assert_eq!(fresh.resolve(name).await.unwrap().hash, *hash);
        let (log, more) = fresh.log(*hash, 1000).await.unwrap();
        assert!(!more && log.iter().all(|commit| world.states.contains_key(&commit.hash)));
    }
    for hash in world.reachable() {
        let (entries, _) = fresh.entries(hash, &all).await.unwrap();
        let state: State = entries.iter().map(|(key, content)| (key.clone(), location(content))).collect();
        assert_eq!(state, world.states[&hash]);
    }
}

async fn check(steps: Vec<Step>) {
    let mut world = World::new().await;
    for step in &steps {
        world.take(step).await;
    }
    let (files, before) = (world.files(), objects(&world).await);
    let needed = world.needed(world.reachable());
    let dry = world.collect(true, None).await;
    assert_eq!((world.files(), objects(&world).await), (files, before), "a dry run removes nothing");

    let report = world.collect(false, None).await;
    assert_eq!(world.files(), needed, "files of reachable states, and no others");
    assert_eq!(report.files_removed, dry.files_removed);
    assert_eq!((report.objects_removed, report.objects_kept), (dry.objects_removed, dry.objects_kept));
    states_are_whole(&world).await;
    let commits = world.reachable().into_iter().filter(|hash| *hash != *NO_ANCESTOR);
    let left = objects(&world).await;
    let lost: Vec<&Hash> = world
        .parents
        .keys()
        .filter(|hash| left.contains(hash) && !world.reachable().contains(hash))
        .collect();
    assert_eq!(lost, Vec::<&Hash>::new(), "unreachable commits go");
    assert!(commits.into_iter().all(|hash| left.contains(&hash)));
    assert_eq!(world.collect(false, None).await.files_removed, 0, "once is enough");

    // Without history the heads' states stay, and every commit.
    world.collect(false, Some(TimeDelta::zero())).await;
    assert_eq!(world.files(), world.needed(world.branches.values().copied()));
    states_are_whole(&world).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_a_reference_reaches_stays_and_the_rest_goes(steps in steps()) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(check(steps));
    }
}

#[tokio::test]
async fn young_files_and_files_of_no_table_stay() {
    let mut world = World::new().await;
    world.take(&Step::Abandon { table: 1 }).await;
    let root = world.state.storage.tenant_root(TENANT).to_string();
    world.write(&format!("{root}/notes/readme.txt"), Bytes::from_static(b"mine")).await;
    let report = collect(&world.state, TENANT, &settings(TimeDelta::hours(1))).await.unwrap();
    assert_eq!((report.files_young, report.files_removed), (6, 0));
    let report = world.collect(false, None).await;
    assert_eq!((report.files_foreign, report.files_removed), (1, 5));
    assert_eq!(report.removed[0].reason, "its table was dropped or never committed");
    assert_eq!(world.files().len(), 1);
}

#[tokio::test]
async fn nothing_goes_while_a_kept_file_cannot_be_read() {
    let mut world = World::new().await;
    world.take(&Step::Create { branch: 0, table: 1 }).await;
    world.take(&Step::Abandon { table: 2 }).await;
    let list =
        world.files().into_iter().find(|file| file.contains("/t1-") && file.contains("snap-")).unwrap();
    std::fs::write(list.strip_prefix("file://").unwrap(), "broken").unwrap();
    let files = world.files();
    let report = collect(&world.state, TENANT, &settings(TimeDelta::zero())).await.unwrap();
    assert_eq!((report.unreadable.len(), report.files_removed), (1, 0));
    assert!(report.unreadable[0].location.ends_with("snap-1.avro"));
    assert_eq!(world.files(), files);
}

#[tokio::test]
async fn a_reference_to_a_commit_that_may_be_going_is_refused() {
    let world = World::new().await;
    let refused = Settings::of(&firn_catalog_client::GcRequest {
        safety_age_s: Some(60),
        ..firn_catalog_client::GcRequest::default()
    });
    assert!(refused.unwrap_err().to_string().contains("at least 3600 seconds"));
    // A commit that was made just now may be named, reached or not.
    let mut world = world;
    world.take(&Step::Create { branch: 0, table: 1 }).await;
    let (_, head) = world.branch(0);
    world.repository.assign_reference("main", None, *NO_ANCESTOR).await.unwrap();
    world.repository.create_reference("again", false, head).await.unwrap();
}
