//! The version store: what Git is for files, for a tenant's catalog entries.
//!
//! Both HTTP APIs stand on [`Repository`] and on nothing below it.

mod apply;
mod archive;
mod content;
mod count;
mod draft;
mod events;
mod garbage;
mod group;
mod heads;
mod history;
mod inspect;
mod key;
mod merge;
mod node;
mod reference;
mod repository;
mod state;
mod stored;
mod syntax;
mod tree;
mod workspace;

#[cfg(test)]
mod faults;
#[cfg(test)]
mod model;
#[cfg(test)]
mod states;
#[cfg(test)]
mod suite;

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};

pub use crate::store::Hash;

pub(crate) use events::audit_event;
pub use events::{Actor, Event};
pub(crate) use garbage::{Marks, Root, SAFETY_AGE};
pub use merge::{Contested, MergeDetail, MergeMode, MergeRequest, MergeSource, Merged, Reconciled};
pub(crate) use reference::EXPIRY;
pub use repository::{Repository, VersionStore};
pub(crate) use stored::NO_ANCESTOR;
pub(crate) use syntax::{MAIN, named_reference};

/// 1 to 20 non-empty elements.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub Vec<String>);

/// A content: Nessie's JSON object with `type` (`ICEBERG_TABLE`, `ICEBERG_VIEW`, `NAMESPACE`, `UDF` or unknown) and `id`.
/// Tables and views carry `metadataLocation`, namespaces `elements` and `properties`.
#[derive(Clone, Debug, PartialEq)]
pub struct Content(pub Arc<content::Json>);

/// A branch or tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedRef {
    /// Name.
    pub name: String,
    /// True for a tag.
    pub tag: bool,
    /// Where it points.
    pub hash: Hash,
}

/// A reference expression after it was looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The branch or tag it named; `None` for a bare hash.
    pub reference: Option<NamedRef>,
    /// The commit it means.
    pub hash: Hash,
    /// True if the expression is a branch's plain name, so that one can commit to it.
    pub writable: bool,
}

/// One change of a commit.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Sets a key. With `expected`, conflicts unless the key's content at the head equals it (`Some(None)`: must be absent).
    Put {
        /// Key.
        key: Key,
        /// Content; an `id` is given if it has none.
        content: Content,
        /// What must be there, beside the check against the expected head.
        expected: Option<Option<Content>>,
    },
    /// Removes a key, with the same check.
    Delete {
        /// Key.
        key: Key,
        /// What must be there.
        expected: Option<Option<Content>>,
    },
    /// Conflicts if the key changed since the expected head.
    Unchanged {
        /// Key.
        key: Key,
    },
}

/// Author, message and properties of a commit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Meta {
    /// Principal.
    pub committer: String,
    /// Authors; the committer if empty.
    pub authors: Vec<String>,
    /// Author time; commit time if absent.
    pub author_time: Option<DateTime<Utc>>,
    /// Why.
    pub message: String,
    /// Free properties.
    pub properties: BTreeMap<String, Vec<String>>,
}

/// A commit to a branch.
#[derive(Clone, Debug)]
pub struct CommitRequest {
    /// Branch.
    pub branch: String,
    /// Head the caller saw: keys that changed since conflict. `None`: only `expected` of each operation counts.
    pub expected_head: Option<Hash>,
    /// Changes, at most one per key.
    pub operations: Vec<Op>,
    /// Author, message, properties.
    pub meta: Meta,
    /// Written in the same transaction; answers of a replay come from it.
    pub idempotency: Option<IdempotencyRecord>,
}

/// Key, principal, operation and request hash of a request that must not run twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyRecord {
    /// The client's key.
    pub key: String,
    /// Principal.
    pub principal: String,
    /// Operation, such as `commitTable`.
    pub operation: String,
    /// SHA-256 of the request.
    pub request_hash: Hash,
}

/// A commit as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Commit {
    /// Its hash.
    pub hash: Hash,
    /// One or two parents.
    pub parents: Vec<Hash>,
    /// When.
    pub time: DateTime<Utc>,
    /// Author, message, properties.
    pub meta: Meta,
    /// Changes against the first parent: content, or `None` for a removal.
    pub operations: Vec<(Key, Option<Content>)>,
}

/// What a commit made.
#[derive(Clone, Debug)]
pub struct Committed {
    /// The new commit; the head itself if nothing changed.
    pub hash: Hash,
    /// Contents put, with their ids.
    pub contents: Vec<(Key, Content)>,
}

/// Why a key conflicts.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyConflict {
    /// Key.
    pub key: Key,
    /// Nessie's conflict type, such as `VALUE_DIFFERS`, `KEY_EXISTS`, `KEY_DOES_NOT_EXIST`, `NAMESPACE_ABSENT`.
    pub conflict_type: &'static str,
    /// In words.
    pub message: String,
}

/// Bounds of an entry listing.
#[derive(Clone, Debug, Default)]
pub struct EntryRange {
    /// Only keys with this prefix of elements.
    pub prefix: Option<Key>,
    /// From this key on, inclusive.
    pub min: Option<Key>,
    /// Up to this key, inclusive.
    pub max: Option<Key>,
    /// After this key, exclusive (paging).
    pub after: Option<Key>,
    /// At most this many.
    pub limit: usize,
}
