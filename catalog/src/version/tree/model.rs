//! The tree against a map: random histories must lead to the same keys, differences and roots.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, sync::Arc};

use firn_runtime::clock::SystemClock;
use proptest::prelude::*;
use serde_json::json;

use super::{
    super::{
        Content, EntryRange, Key,
        archive::Archive,
        node::{Node, Slot},
        workspace::{EMPTY_ROOT, Workspace},
    },
    diff, diff_page, entries, get, update,
};
use crate::store::{Hash, SqliteStore};

type Model = BTreeMap<Key, Content>;

fn key(number: u16) -> Key {
    let namespace = format!("n{}", number % 7);
    if number.is_multiple_of(5) {
        Key(vec![namespace, format!("t{number}")])
    } else {
        Key(vec![format!("t{number}")])
    }
}

fn content(value: u8) -> Content {
    Content::new(json!({"type": "ICEBERG_TABLE", "id": value.to_string(), "metadataLocation": "x"}))
}

/// Batches of edits; `None` removes.
fn histories() -> impl Strategy<Value = Vec<Vec<(u16, Option<u8>)>>> {
    let edit = (0..1500u16, prop::option::weighted(0.6, 0..4u8));
    let small = prop::collection::vec(edit.clone(), 0..12);
    let large = prop::collection::vec(edit, 100..700);
    prop::collection::vec(prop_oneof![4 => small, 1 => large], 1..10)
}

async fn workspace() -> (tempfile::TempDir, Workspace) {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&directory.path().join("catalog.db")).await.unwrap();
    (directory, Workspace::new(Archive::new(Arc::new(store), 0), Arc::new(SystemClock), Arc::from("test")))
}

/// Every node on its level, with its bounds where the rule puts them.
async fn check_shape(workspace: &Workspace, root: Hash) {
    let mut level = vec![root];
    while !level.is_empty() {
        let mut below = Vec::new();
        for (index, hash) in level.iter().enumerate() {
            let node: Arc<Node> = workspace.node(*hash).await.unwrap();
            assert!(node.entries.is_sorted_by(|(a, _), (b, _)| a < b));
            assert!(!node.entries.is_empty() || *hash == *EMPTY_ROOT);
            let ends = node.entries.iter().map(|(key, _)| key.ends_node(node.level)).collect::<Vec<_>>();
            if let Some((last, inner)) = ends.split_last() {
                assert!(inner.iter().all(|end| !end), "a boundary inside a node");
                assert!(*last || index + 1 == level.len(), "a node ends without a boundary");
            }
            for (key, slot) in &node.entries {
                if let Slot::Child(child) = slot {
                    let child_node = workspace.node(*child).await.unwrap();
                    assert_eq!((child_node.last_key(), child_node.level), (Some(key), node.level - 1));
                    below.push(*child);
                }
            }
        }
        level = below;
    }
}

async fn check_history(history: Vec<Vec<(u16, Option<u8>)>>) {
    let (_directory, mut workspace) = workspace().await;
    let mut states: Vec<(Hash, Model)> = vec![(*EMPTY_ROOT, Model::new())];
    for batch in history {
        let (root, mut model) = states.last().cloned().unwrap();
        let edits: BTreeMap<Key, Option<Content>> =
            batch.into_iter().map(|(number, value)| (key(number), value.map(content))).collect();
        for (key, content) in &edits {
            match content {
                Some(content) => model.insert(key.clone(), content.clone()),
                None => model.remove(key),
            };
        }
        let root = update(&mut workspace, root, edits).await.unwrap();
        check_shape(&workspace, root).await;
        let all = EntryRange { limit: usize::MAX, ..EntryRange::default() };
        assert_eq!(entries(&workspace, root, &all).await.unwrap().0, Vec::from_iter(model.clone()));
        let at_once = model.iter().map(|(key, content)| (key.clone(), Some(content.clone()))).collect();
        assert_eq!(
            update(&mut workspace, *EMPTY_ROOT, at_once).await.unwrap(),
            root,
            "one state has one root"
        );
        for number in (0..1500).step_by(37) {
            assert_eq!(get(&workspace, root, &key(number)).await.unwrap(), model.get(&key(number)).cloned());
        }
        states.push((root, model));
    }
    for pair in states.windows(2).chain(states.chunks(states.len())) {
        let ((from, old), (to, new)) = (pair.first().unwrap(), pair.last().unwrap());
        let keys: std::collections::BTreeSet<&Key> = old.keys().chain(new.keys()).collect();
        let expected: Vec<_> = keys
            .into_iter()
            .filter(|key| old.get(key) != new.get(key))
            .map(|key| (key.clone(), old.get(key).cloned(), new.get(key).cloned()))
            .collect();
        assert_eq!(diff(&workspace, *from, *to).await.unwrap(), expected);
        let (mut listed, mut after) = (Vec::new(), None);
        loop {
            let page = EntryRange { after: after.clone(), limit: 50, ..EntryRange::default() };
            let (found, more) = diff_page(&workspace, *from, *to, &page).await.unwrap();
            listed.extend(found);
            if !more {
                break;
            }
            after = listed.last().map(|(key, ..)| key.clone());
        }
        assert_eq!(listed, expected, "in pages");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_tree_is_the_map_it_was_made_of(history in histories()) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(check_history(history));
    }
}

#[tokio::test]
async fn bounds_and_pages_cut_a_listing() {
    let (_directory, mut workspace) = workspace().await;
    let model: Model = (0..800).map(|number| (key(number), content(1))).collect();
    let edits = model.iter().map(|(key, content)| (key.clone(), Some(content.clone()))).collect();
    let root = update(&mut workspace, *EMPTY_ROOT, edits).await.unwrap();
    let (prefix, min, max) = (Key(vec!["n3".into()]), key(100), key(30));
    let ranges = [
        EntryRange { prefix: Some(prefix.clone()), ..EntryRange::default() },
        EntryRange { min: Some(min.clone()), max: Some(max.clone()), ..EntryRange::default() },
        EntryRange { prefix: Some(Key(vec!["absent".into()])), ..EntryRange::default() },
        EntryRange::default(),
    ];
    for range in ranges {
        let expected: Vec<Key> = model
            .keys()
            .filter(|key| range.prefix.as_ref().is_none_or(|prefix| key.starts_with(prefix)))
            .filter(|key| range.min.as_ref().is_none_or(|min| *key >= min))
            .filter(|key| range.max.as_ref().is_none_or(|max| *key <= max))
            .cloned()
            .collect();
        let (mut listed, mut after) = (Vec::new(), None);
        loop {
            let page = EntryRange { after: after.clone(), limit: 7, ..range.clone() };
            let (found, more) = entries(&workspace, root, &page).await.unwrap();
            listed.extend(found.into_iter().map(|(key, _)| key));
            if !more {
                break;
            }
            after = listed.last().cloned();
        }
        assert_eq!(listed, expected, "{range:?}");
    }
}

#[tokio::test]
async fn differences_within_bounds_are_those_within_bounds() {
    let (_directory, mut workspace) = workspace().await;
    let edits = (0..800).map(|number| (key(number), Some(content(1)))).collect();
    let from = update(&mut workspace, *EMPTY_ROOT, edits).await.unwrap();
    let edits =
        (0..900).step_by(3).map(|number| (key(number), (number % 2 == 0).then(|| content(2)))).collect();
    let to = update(&mut workspace, from, edits).await.unwrap();
    let all = diff(&workspace, from, to).await.unwrap();
    for range in [
        EntryRange { prefix: Some(Key(vec!["n3".into()])), ..EntryRange::default() },
        EntryRange { min: Some(key(100)), max: Some(key(30)), ..EntryRange::default() },
        EntryRange { prefix: Some(Key(vec!["absent".into()])), ..EntryRange::default() },
    ] {
        let range = EntryRange { limit: usize::MAX, ..range };
        let expected = all.iter().filter(|(key, ..)| {
            range.prefix.as_ref().is_none_or(|prefix| key.starts_with(prefix))
                && range.min.as_ref().is_none_or(|min| key >= min)
                && range.max.as_ref().is_none_or(|max| key <= max)
        });
        let (found, more) = diff_page(&workspace, from, to, &range).await.unwrap();
        assert!(!more && found.iter().eq(expected), "{range:?}");
    }
}

#[tokio::test]
async fn a_change_of_one_key_makes_only_the_nodes_above_it() {
    let (_directory, mut workspace) = workspace().await;
    let edits = (0..20_000u32)
        .map(|number| (Key(vec![format!("t{number}")]), Some(content(1))))
        .collect::<BTreeMap<_, _>>();
    let root = update(&mut workspace, *EMPTY_ROOT, edits).await.unwrap();
    let depth = usize::from(workspace.node(root).await.unwrap().level) + 1;
    let before: Vec<Hash> = workspace.objects(Some(root)).into_iter().map(|(hash, _)| hash).collect();
    let edit = BTreeMap::from([(Key(vec!["t4711".into()]), Some(content(2)))]);
    let changed = update(&mut workspace, root, edit).await.unwrap();
    let made =
        workspace.objects(Some(changed)).into_iter().filter(|(hash, _)| !before.contains(hash)).count();
    assert_eq!(made, depth);
}
