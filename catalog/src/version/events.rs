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
    /// `commit`, `merge`, `transplant`, `reference-created`, `reference-assigned` or `reference-deleted`; others are for the
    /// audit log alone.
    pub kind: String,
    /// When, by the database's clock.
    pub time: DateTime<Utc>,
    /// What: the reference, where it is and where it was; for commits also who, why and which keys.
    pub body: Value,
}

impl Event {
    /// Whether it tells what happened to the repository, not who may do what there.
    #[must_use]
    pub fn is_of_data(&self) -> bool {
        matches!(self.kind.as_str(), "commit" | "merge" | "transplant") || self.kind.starts_with("reference-")
    }
}

/// Who makes a change, and in which request; for the audit log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actor {
    /// The principal's name; empty if the server itself does it.
    pub principal: String,
    /// The request's id, if there is a request.
    pub request_id: Option<String>,
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

pub(super) fn commit_event(kind: &'static str, reference: &str, commit: &Commit, actor: &Actor) -> NewEvent {
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
            "requestId": actor.request_id,
        }),
    )
}

pub(super) fn reference_event(
    kind: &'static str,
    name: &str,
    tag: bool,
    from: Option<Hash>,
    to: Option<Hash>,
    actor: &Actor,
) -> NewEvent {
    let (hash, previous) = (to.map(|hash| hash.to_string()), from.map(|hash| hash.to_string()));
    let Actor { principal, request_id } = actor;
    new(
        kind,
        &json!({
            "reference": name,
            "tag": tag,
            "hash": hash,
            "previousHash": previous,
            "principal": principal,
            "requestId": request_id,
        }),
    )
}

/// What somebody did beside the repository, for the audit log.
pub(crate) fn audit_event(kind: &'static str, actor: &Actor, details: &Value) -> NewEvent {
    let Actor { principal, request_id } = actor;
    new(kind, &json!({"principal": principal, "requestId": request_id, "details": details}))
}

fn new(kind: &'static str, body: &Value) -> NewEvent {
    NewEvent { kind, body: Bytes::from(body.to_string()) }
}
