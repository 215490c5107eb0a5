//! Events: what happened to a repository, in the order in which it happened.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::{Commit, Key};
use crate::{
    CatalogError,
    store::{EventRow, Hash, NewEvent},
};

/// One event. It was written in the transaction of what it tells of.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// From 1, without gaps, in commit order within the repository.
    pub number: i64,
    /// `commit`, `merge`, `transplant`, `reference-created`, `reference-assigned` or `reference-deleted`.
    pub kind: String,
    /// When, by the database's clock.
    pub time: DateTime<Utc>,
    /// What: the reference, where it is and where it was; for commits also who, why and which keys.
    pub body: Value,
}

impl TryFrom<EventRow> for Event {
    type Error = CatalogError;

    fn try_from(row: EventRow) -> Result<Self, Self::Error> {
        let number = row.number;
        let damaged =
            |what| CatalogError::Internal(format!("event {number} is damaged: its {what} can't be read"));
        let time = DateTime::from_timestamp_micros(row.created_at_us).ok_or_else(|| damaged("time"))?;
        let body = serde_json::from_slice(&row.body).map_err(|_| damaged("body"))?;
        Ok(Self { number, kind: row.kind, time, body })
    }
}

/// More keys than this are counted, not listed.
const MAX_KEYS: usize = 100;

pub(super) fn commit_event(kind: &'static str, reference: &str, commit: &Commit) -> NewEvent {
    let keys: Vec<&Vec<String>> = commit.operations.iter().take(MAX_KEYS).map(|(Key(key), _)| key).collect();
    new(
        kind,
        &json!({
            "reference": reference,
            "hash": commit.hash.to_string(),
            "parents": commit.parents.iter().map(Hash::to_string).collect::<Vec<_>>(),
            "committer": commit.meta.committer,
            "message": commit.meta.message,
            "keys": keys,
            "keyCount": commit.operations.len(),
        }),
    )
}

pub(super) fn reference_event(
    kind: &'static str,
    name: &str,
    tag: bool,
    from: Option<Hash>,
    to: Option<Hash>,
) -> NewEvent {
    let (hash, previous) = (to.map(|hash| hash.to_string()), from.map(|hash| hash.to_string()));
    new(kind, &json!({"reference": name, "tag": tag, "hash": hash, "previousHash": previous}))
}

fn new(kind: &'static str, body: &Value) -> NewEvent {
    NewEvent { kind, body: Bytes::from(body.to_string()) }
}
