//! A repository against a map per commit: random histories of commits, branches and merges.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{
    EntryRange, Hash, Key, MergeMode, MergeRequest, MergeSource, Meta, NO_ANCESTOR, Op, Repository,
    suite::{key, repository, request, table},
};

type State = BTreeMap<Key, String>;

#[derive(Clone, Debug)]
enum Step {
    Put { branch: usize, keys: Vec<u8>, value: u8 },
    Delete { branch: usize, key: u8 },
    Branch { from: usize },
    Merge { from: usize, into: usize },
    Reset { branch: usize, to: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let branch = 0..4usize;
    let step = prop_oneof![
        6 => (branch.clone(), prop::collection::vec(0..12u8, 1..4), any::<u8>())
            .prop_map(|(branch, keys, value)| Step::Put { branch, keys, value }),
        2 => (branch.clone(), 0..12u8).prop_map(|(branch, key)| Step::Delete { branch, key }),
        2 => branch.clone().prop_map(|from| Step::Branch { from }),
        3 => (branch.clone(), branch.clone()).prop_map(|(from, into)| Step::Merge { from, into }),
        1 => (branch.clone(), branch).prop_map(|(branch, to)| Step::Reset { branch, to }),
    ];
    prop::collection::vec(step, 1..40)
}

/// Every commit's state, parents and the branches' heads, as plain maps.
struct Model {
    states: BTreeMap<Hash, State>,
    parents: BTreeMap<Hash, Vec<Hash>>,
    branches: Vec<Hash>,
}

impl Model {
    fn ancestors(&self, hash: Hash) -> BTreeSet<Hash> {
        let (mut found, mut waiting) = (BTreeSet::new(), vec![hash]);
        while let Some(hash) = waiting.pop() {
            if found.insert(hash) {
                waiting.extend(self.parents.get(&hash).into_iter().flatten());
            }
        }
        found
    }

    /// The keys that a merge would change, or nothing if one was changed on both sides.
    fn merge(&self, base: Hash, from: Hash, into: Hash) -> Option<State> {
        let (base, from, mut merged) = (&self.states[&base], &self.states[&from], self.states[&into].clone());
        let keys: BTreeSet<&Key> = base.keys().chain(from.keys()).collect();
        for key in keys.into_iter().filter(|key| base.get(*key) != from.get(*key)) {
            let present = merged.get(key);
            if present == from.get(key) {
                continue;
            }
            if present != base.get(key) {
                return None;
            }
            match from.get(key) {
                Some(value) => merged.insert(key.clone(), value.clone()),
                None => merged.remove(key),
            };
        }
        Some(merged)
    }

    fn add(&mut self, branch: usize, hash: Hash, parents: Vec<Hash>, state: State) {
        assert!(self.parents.insert(hash, parents).is_none(), "a commit is new");
        self.states.insert(hash, state);
        self.branches[branch] = hash;
    }
}

fn name(branch: usize) -> String {
    if branch == 0 { "main".to_owned() } else { format!("branch-{branch}") }
}

async fn take(repository: &Repository, model: &mut Model, step: &Step) {
    let count = model.branches.len();
    match step {
        Step::Put { branch, keys, value } => {
            let branch = branch % count;
            let keys: BTreeSet<Key> = keys.iter().map(|number| key(&format!("k{number}"))).collect();
            // With the id as value, states compare as text.
            let content = table(&value.to_string()).with_id("same");
            put_or_delete(repository, model, branch, &keys, Some(&(content, value.to_string()))).await;
        }
        Step::Delete { branch, key: number } => {
            let branch = branch % count;
            let wanted = key(&format!("k{number}"));
            if model.states[&model.branches[branch]].contains_key(&wanted) {
                put_or_delete(repository, model, branch, &BTreeSet::from([wanted]), None).await;
            }
        }
        Step::Branch { from } if count < 4 => {
            let at = model.branches[from % count];
            repository.create_reference(&name(count), false, at).await.unwrap();
            model.branches.push(at);
        }
        Step::Branch { .. } => {}
        Step::Reset { branch, to } => {
            let (branch, to) = (branch % count, model.branches[to % count]);
            let from = model.branches[branch];
            repository.assign_reference(&name(branch), Some(from), to).await.unwrap();
            model.branches[branch] = to;
        }
        Step::Merge { from, into } => {
            merge(repository, model, model.branches[from % count], into % count).await;
        }
    }
}

async fn put_or_delete(
    repository: &Repository,
    model: &mut Model,
    branch: usize,
    keys: &BTreeSet<Key>,
    value: Option<&(super::Content, String)>,
) {
    let head = model.branches[branch];
    let mut state = model.states[&head].clone();
    let mut operations = Vec::new();
    let present = repository.get(head, &Vec::from_iter(keys.clone())).await.unwrap();
    for (key, present) in keys.iter().zip(present) {
        let (key, expected) = (key.clone(), Some(present));
        match value {
            Some((content, text)) => {
                state.insert(key.clone(), text.clone());
                operations.push(Op::Put { key, content: content.clone(), expected });
            }
            None => {
                state.remove(&key);
                operations.push(Op::Delete { key, expected });
            }
        }
    }
    let hash = repository.commit(request(&name(branch), operations)).await.unwrap().hash;
    if state == model.states[&head] {
        assert_eq!(hash, head, "a commit that changes nothing is none");
    } else {
        model.add(branch, hash, vec![head], state);
    }
}

async fn merge(repository: &Repository, model: &mut Model, from: Hash, into: usize) {
    let head = model.branches[into];
    let request = MergeRequest {
        branch: name(into),
        expected_head: Some(head),
        source: MergeSource::Merge(from),
        meta: Meta::default(),
        default_mode: MergeMode::Normal,
        modes: BTreeMap::new(),
        reconciled: Vec::new(),
        dry_run: false,
        idempotency: None,
    };
    let merged = repository.merge(request).await.unwrap();
    let common: BTreeSet<Hash> =
        model.ancestors(from).intersection(&model.ancestors(head)).copied().collect();
    let base = merged.base.unwrap();
    assert!(common.contains(&base), "the base is common");
    let better = common.iter().any(|other| *other != base && model.ancestors(*other).contains(&base));
    assert!(!better, "no other common ancestor descends from the base");
    match model.merge(base, from, head) {
        _ if base == from => assert!(!merged.applied && merged.hash == head),
        Some(state) => {
            assert!(merged.applied);
            model.add(into, merged.hash, vec![head, from], state);
        }
        None => assert!(!merged.applied && !merged.successful()),
    }
}

async fn check(steps: Vec<Step>) {
    let (_directory, repository) = repository().await;
    let mut model = Model {
        states: BTreeMap::from([(*NO_ANCESTOR, State::new())]),
        parents: BTreeMap::from([(*NO_ANCESTOR, Vec::new())]),
        branches: vec![*NO_ANCESTOR],
    };
    for step in &steps {
        take(&repository, &mut model, step).await;
    }
    for (branch, hash) in model.branches.iter().enumerate() {
        assert_eq!(repository.resolve(&name(branch)).await.unwrap().hash, *hash);
    }
    for (hash, expected) in &model.states {
        let all = EntryRange { limit: 100, ..EntryRange::default() };
        let (entries, _) = repository.entries(*hash, &all).await.unwrap();
        let location = |content: &super::Content| content.0["metadataLocation"].as_str().unwrap().to_owned();
        let state: State = entries.iter().map(|(key, content)| (key.clone(), location(content))).collect();
        assert_eq!(&state, expected);
        for other in &model.branches {
            let keys: BTreeSet<&Key> = expected.keys().chain(model.states[other].keys()).collect();
            let differing =
                keys.into_iter().filter(|key| expected.get(*key) != model.states[other].get(*key));
            let found = repository.diff(*hash, *other).await.unwrap();
            assert!(differing.eq(found.iter().map(|(key, ..)| key)));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_repository_is_a_map_per_commit(steps in steps()) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(check(steps));
    }
}
