//! Whether what clients were told, what they saw and what is there fit together.
//!
//! The database's journal says where each branch was from when to when, so nothing has to be guessed: each acknowledged commit came
//! into a history once, between its request and its answer; each refused one never did; each read saw a state of its time.

mod graph;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{
    bucket::Object,
    database::Moved,
    history::{Change, History, Read, Saw, Verdict, What},
    ledger::Count,
    world::{TENANT, World},
};
use crate::{
    CatalogError,
    storage::Location,
    store::{EventRow, Hash, Store as _},
    version::{Commit, Content, EntryRange, Key},
};
use graph::Graph;

/// More entries than any state has.
const ALL: usize = 10_000;

/// All that doesn't fit, in words.
pub(super) async fn check(world: &World) -> Result<Vec<String>, CatalogError> {
    let repository = world.repository();
    let journal = world.database.journal();
    let graph = Graph::read(&repository, &journal).await?;
    let files = Files(world.bucket.all());
    let history = std::mem::take(&mut *world.history());
    let mut wrong = history.wrong.clone();
    changes(&history, &graph, &journal, &files, &mut wrong);
    for read in &history.reads {
        wrong.extend(stale(read, &graph, &journal));
    }
    for (hash, commit) in &graph.commits {
        metadata(*hash, commit, &graph, &files, &mut wrong);
    }
    wrong.extend(overwritten(&journal, &graph));
    let events = world.database.events(TENANT, 0, u32::MAX).await?;
    wrong.extend(announced(&events, &graph));
    // The trees and the logs, as somebody reads them who was never there.
    for reference in repository.references().await? {
        let range = EntryRange { limit: ALL, ..EntryRange::default() };
        let (entries, _) = repository.entries(reference.hash, &range).await?;
        let state: BTreeMap<Key, Content> = entries.into_iter().collect();
        if state != *graph.state(reference.hash) {
            wrong.push(format!("the tree of '{}' isn't what its commits add up to", reference.name));
        }
    }
    Ok(wrong)
}

/// Metadata files.
struct Files(BTreeMap<Location, Object>);

impl Files {
    fn of(&self, content: &Content) -> Option<&Object> {
        let location = content.0.get("metadataLocation")?.as_str()?;
        self.0.get(&location.parse().ok()?)
    }

    fn property(&self, content: &Content, name: &str) -> Option<String> {
        let document: Value = serde_json::from_slice(&self.of(content)?.bytes).ok()?;
        Some(document["properties"][name].as_str()?.to_owned())
    }
}

/// Which change made each commit: by its message, or by what its tables' documents say. A merge brings others' documents along.
fn makers(graph: &Graph, files: &Files) -> BTreeMap<String, BTreeSet<Hash>> {
    let mut makers: BTreeMap<String, BTreeSet<Hash>> = BTreeMap::new();
    for (hash, commit) in &graph.commits {
        makers.entry(commit.meta.message.clone()).or_default().insert(*hash);
        let put = commit.operations.iter().filter_map(|(_, content)| content.as_ref());
        for content in put.filter(|_| commit.parents.len() == 1) {
            if let Some(name) = files.property(content, "change") {
                makers.entry(name).or_default().insert(*hash);
            }
        }
    }
    makers
}

fn changes(history: &History, graph: &Graph, journal: &[Moved], files: &Files, wrong: &mut Vec<String>) {
    let makers = makers(graph, files);
    let nothing = BTreeSet::new();
    for change in &history.changes {
        let landed: Vec<Count> = match change.what {
            What::Commit => {
                let made = makers.get(&change.name).unwrap_or(&nothing);
                made.iter().filter_map(|hash| graph.landed.get(hash).copied()).collect()
            }
            What::Branch => moves(journal, &change.branch).take(1).map(|moved| moved.at).collect(),
            What::NoBranch => {
                let gone = moves(journal, &change.branch).filter(|moved| moved.to.is_none());
                gone.map(|moved| moved.at).collect()
            }
        };
        wrong.extend(misjudged(change, &landed));
    }
}

/// What is wrong between what was said of a change and when it came about.
fn misjudged(change: &Change, landed: &[Count]) -> Option<String> {
    let (name, branch) = (&change.name, &change.branch);
    let say = |what: &str| Some(format!("{name} on '{branch}' ({:?}) {what}", change.what));
    let within = |at: &Count| change.began < *at && *at < change.ended;
    match (change.verdict, landed) {
        (_, [_, _, ..]) => say("came about more than once"),
        (Verdict::Acknowledged, []) => say("was acknowledged and is lost"),
        (Verdict::Acknowledged, [at]) if !within(at) => say("was acknowledged when it had not come about"),
        // Somebody else's deletion is no contradiction.
        (Verdict::Refused, [_]) if change.what != What::NoBranch => say("was refused and came about"),
        _ => None,
    }
}

/// Moves of a branch, in order.
fn moves<'a>(journal: &'a [Moved], branch: &'a str) -> impl Iterator<Item = &'a Moved> {
    journal.iter().filter(move |moved| moved.reference == branch)
}

/// Branches that went where what they held before is lost.
fn overwritten(journal: &[Moved], graph: &Graph) -> Vec<String> {
    let (mut heads, mut wrong) = (BTreeMap::new(), Vec::new());
    for moved in journal {
        let Some(to) = moved.to else {
            heads.remove(&moved.reference);
            continue;
        };
        let before = heads.insert(&moved.reference, to);
        if before.is_some_and(|before| !graph.descends(to, before)) {
            wrong.push(format!("'{}' lost commits when it moved", moved.reference));
        }
    }
    wrong
}

/// Where a branch was between two counts, from the last place before the first on.
fn places(journal: &[Moved], branch: &str, began: Count, ended: Count) -> Vec<Option<Hash>> {
    let before = moves(journal, branch).take_while(|moved| moved.at < began).last();
    let during = moves(journal, branch).filter(|moved| began < moved.at && moved.at < ended);
    let first = before.and_then(|moved| moved.to);
    std::iter::once(first).chain(during.map(|moved| moved.to)).collect()
}

/// A read of a state that the branch didn't have at the time.
fn stale(read: &Read, graph: &Graph, journal: &[Moved]) -> Option<String> {
    let places = places(journal, &read.branch, read.began, read.ended);
    let fits = match &read.saw {
        Saw::Head(head) => places.contains(head),
        Saw::Table(key, location) => places.iter().any(|place| {
            let content = place.and_then(|hash| graph.state(hash).get(key));
            let there = content.and_then(|content| content.0.get("metadataLocation")?.as_str());
            there == location.as_deref()
        }),
    };
    (!fits).then(|| format!("a read of '{}' saw what it wasn't at the time: {:?}", read.branch, read.saw))
}

/// What is wrong with a commit's time and its tables' files.
fn metadata(hash: Hash, commit: &Commit, graph: &Graph, files: &Files, wrong: &mut Vec<String>) {
    let name = &commit.meta.message;
    for parent in commit.parents.iter().filter_map(|parent| graph.commits.get(parent)) {
        if commit.time <= parent.time {
            wrong.push(format!("'{name}' is not later than its parent '{}'", parent.meta.message));
        }
    }
    let landed = graph.landed.get(&hash).copied().unwrap_or_default();
    let before = commit.parents.first().map(|parent| graph.state(*parent));
    for (key, content) in &commit.operations {
        let Some(content) = content.as_ref().filter(|content| content.content_type() == "ICEBERG_TABLE")
        else {
            continue;
        };
        match files.of(content) {
            None => wrong.push(format!("'{name}' leads to a file of {key} that never was")),
            Some(file) if file.written > landed => {
                wrong.push(format!("'{name}' could be seen before its file of {key} was there"));
            }
            Some(file) if file.deleted.is_some() => {
                wrong.push(format!("'{name}' leads to a file of {key} that was deleted"));
            }
            Some(_) => {}
        }
        if commit.parents.len() == 1 {
            let count = |content: &Content| files.property(content, "count")?.parse::<u64>().ok();
            let expected = before
                .and_then(|before| before.get(key))
                .map_or(Some(0), |former| count(former).map(|count| count + 1));
            if count(content) != expected {
                wrong.push(format!("'{name}' counts {:?} in {key}, not {expected:?}", count(content)));
            }
        }
    }
}

/// Each commit has one event, in the order in which they came about, and no number is left out.
fn announced(events: &[EventRow], graph: &Graph) -> Vec<String> {
    let mut wrong = Vec::new();
    if events.iter().zip(1..).any(|(event, number)| event.number != number) {
        wrong.push("numbers of events are left out".to_owned());
    }
    let data = events.iter().filter(|event| matches!(event.kind.as_str(), "commit" | "merge"));
    let hash = |event: &EventRow| {
        let body: Value = serde_json::from_slice(&event.body).ok()?;
        body["hash"].as_str()?.parse::<Hash>().ok()
    };
    let told: Vec<Hash> = data.filter_map(hash).collect();
    let once: BTreeSet<Hash> = told.iter().copied().collect();
    if once.len() != told.len() || !once.iter().eq(graph.landed.keys()) {
        wrong.push("events and commits are not the same".to_owned());
    }
    if !told.is_sorted_by_key(|hash| graph.landed.get(hash)) {
        wrong.push("events are not in the order of their commits".to_owned());
    }
    wrong
}
