//! A commit's bytes: the format byte 2, then JSON.
//!
//! Beside what a [`Commit`] shows, a stored one has the root of its state, its depth (distance to the empty repository along first
//! parents) and a jump: an ancestor chosen so that any ancestor is found in a logarithmic number of steps (Myers, "An
//! applicative random-access stack", 1983).

use std::{borrow::Cow, collections::BTreeMap, sync::LazyLock};

use bytes::Bytes;
use chrono::DateTime;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Commit, Content, Key, Meta};
use crate::store::Hash;

const FORMAT: u8 = 2;

/// Nessie's hash of the state before any commit.
pub(crate) static NO_ANCESTOR: LazyLock<Hash> =
    LazyLock::new(|| firn_catalog_client::nessie::NO_ANCESTOR.parse().unwrap_or(Hash([0; 32])));

/// A commit and what leads from it to its state and ancestors.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct StoredCommit {
    pub(super) commit: Commit,
    /// Only commits whose tree is stored have one: see [`super::state`].
    pub(super) root: Option<Hash>,
    pub(super) depth: u64,
    pub(super) jump: Hash,
    /// Random: two commits that are otherwise equal have different hashes, so that one that is in the database was written by
    /// the request that made it.
    pub(super) request: String,
}

#[derive(Serialize, Deserialize)]
struct Wire<'a> {
    parents: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    root: Option<String>,
    depth: u64,
    jump: String,
    request: String,
    time_us: i64,
    committer: String,
    authors: Vec<String>,
    author_time_us: Option<i64>,
    message: String,
    properties: BTreeMap<String, Vec<String>>,
    operations: Vec<WireOperation<'a>>,
}

#[derive(Serialize, Deserialize)]
struct WireOperation<'a> {
    key: Cow<'a, [String]>,
    content: Option<Cow<'a, Value>>,
}

/// Why bytes are no commit.
#[derive(Debug, thiserror::Error)]
#[error("a commit is damaged: {0}")]
pub(super) struct CommitError(String);

impl StoredCommit {
    /// The bytes; sets the commit's hash to theirs.
    pub(super) fn seal(&mut self) -> Bytes {
        let commit = &self.commit;
        let operations = commit.operations.iter().map(|(Key(key), content)| WireOperation {
            key: Cow::Borrowed(key),
            content: content.as_ref().map(|content| Cow::Borrowed(&**content.0)),
        });
        let wire = Wire {
            parents: commit.parents.iter().map(Hash::to_string).collect(),
            root: self.root.map(|root| root.to_string()),
            depth: self.depth,
            jump: self.jump.to_string(),
            request: self.request.clone(),
            time_us: commit.time.timestamp_micros(),
            committer: commit.meta.committer.clone(),
            authors: commit.meta.authors.clone(),
            author_time_us: commit.meta.author_time.map(|time| time.timestamp_micros()),
            message: commit.meta.message.clone(),
            properties: commit.meta.properties.clone(),
            operations: operations.collect(),
        };
        let mut bytes = vec![FORMAT];
        // JSON of strings and numbers can't fail to be written to memory.
        drop(serde_json::to_writer(&mut bytes, &wire));
        self.commit.hash = Hash::of(&bytes);
        Bytes::from(bytes)
    }

    pub(super) fn decode(hash: Hash, bytes: &[u8]) -> Result<Self, CommitError> {
        let damaged = |what: &dyn std::fmt::Display| CommitError(format!("{hash}: {what}"));
        let [FORMAT, json @ ..] = bytes else { return Err(damaged(&"its format is unknown")) };
        let wire: Wire = serde_json::from_slice(json).map_err(|error| damaged(&error))?;
        let parse = |text: &String| text.parse::<Hash>().map_err(|error| damaged(&error));
        let time = |us| DateTime::from_timestamp_micros(us).ok_or_else(|| damaged(&"a time is out of range"));
        let operation = |WireOperation { key, content }: WireOperation<'_>| {
            (Key(key.into_owned()), content.map(|content| Content::new(content.into_owned())))
        };
        Ok(Self {
            commit: Commit {
                hash,
                parents: wire.parents.iter().map(parse).collect::<Result<_, _>>()?,
                time: time(wire.time_us)?,
                meta: Meta {
                    committer: wire.committer,
                    authors: wire.authors,
                    author_time: wire.author_time_us.map(time).transpose()?,
                    message: wire.message,
                    properties: wire.properties,
                },
                operations: wire.operations.into_iter().map(operation).collect(),
            },
            root: wire.root.as_ref().map(parse).transpose()?,
            depth: wire.depth,
            jump: parse(&wire.jump)?,
            request: wire.request,
        })
    }

    /// The first parent: the state that the operations changed.
    pub(super) fn parent(&self) -> Hash {
        self.commit.parents.first().copied().unwrap_or(*NO_ANCESTOR)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use chrono::Utc;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_sealed_commit_reads_back() {
        let time = DateTime::from_timestamp_micros(Utc::now().timestamp_micros()).unwrap();
        let meta = Meta { message: "why".into(), author_time: Some(time), ..Meta::default() };
        let content = Content::new(json!({"type": "UDF", "unknown": [1, null]}));
        let operations = vec![(Key(vec!["a".into()]), Some(content)), (Key(vec!["b".into()]), None)];
        let commit = Commit { hash: Hash([0; 32]), parents: vec![*NO_ANCESTOR], time, meta, operations };
        let request = "r".to_owned();
        let mut stored = StoredCommit { commit, root: None, depth: 1, jump: *NO_ANCESTOR, request };
        for root in [None, Some(Hash([1; 32]))] {
            stored.root = root;
            let bytes = stored.seal();
            assert_eq!(StoredCommit::decode(stored.commit.hash, &bytes).unwrap(), stored);
            assert!(StoredCommit::decode(stored.commit.hash, &bytes[..bytes.len() - 1]).is_err());
        }
        assert_ne!(*NO_ANCESTOR, Hash([0; 32]));
    }
}
