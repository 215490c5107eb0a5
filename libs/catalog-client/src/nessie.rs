//! Nessie REST v2: the bodies Firn itself sends or reads.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The hash of the state before any commit, the same as in Nessie.
pub const NO_ANCESTOR: &str = "2e1cfa82b035c26cbbbdae632cea070514eb8b773f616aaeaf668e2f0be8f10d";

/// A branch, a tag, or a detached commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "UPPERCASE")]
pub enum Reference {
    /// Moves with commits.
    Branch {
        /// Name.
        name: String,
        /// Head.
        hash: String,
    },
    /// Stays.
    Tag {
        /// Name.
        name: String,
        /// Commit.
        hash: String,
    },
    /// No name.
    Detached {
        /// Commit.
        hash: String,
    },
}

impl Reference {
    /// The commit it points to.
    #[must_use]
    pub fn hash(&self) -> &str {
        match self {
            Self::Branch { hash, .. } | Self::Tag { hash, .. } | Self::Detached { hash } => hash,
        }
    }

    /// Its name, `DETACHED` if it has none.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Branch { name, .. } | Self::Tag { name, .. } => name,
            Self::Detached { .. } => "DETACHED",
        }
    }
}

/// A content key: 1 to 20 non-empty elements.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ContentKey {
    /// Elements.
    pub elements: Vec<String>,
}

/// Who, when and why of a commit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommitMeta {
    /// Set by the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// Who committed: the principal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub committer: Option<String>,
    /// Authors.
    #[serde(default)]
    pub authors: Vec<String>,
    /// Why.
    pub message: String,
    /// RFC 3339, set by the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit_time: Option<String>,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author_time: Option<String>,
    /// Free properties; a promotion's receipt lies here.
    #[serde(default)]
    pub all_properties: BTreeMap<String, Vec<String>>,
    /// One or two parents, set by the server.
    #[serde(default)]
    pub parent_commit_hashes: Vec<String>,
}

/// One entry of a commit log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogEntry {
    /// The commit.
    pub commit_meta: CommitMeta,
    /// Its operations, with `fetch=ALL`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operations: Option<Vec<Value>>,
    /// First parent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_commit_hash: Option<String>,
}

/// One key of a state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Key.
    pub name: ContentKey,
    /// `ICEBERG_TABLE`, `NAMESPACE` …
    #[serde(rename = "type")]
    pub content_type: String,
    /// Id of the content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_id: Option<String>,
    /// The content itself, if asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Value>,
}

/// One key that differs between two states.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DiffEntry {
    /// Key.
    pub key: ContentKey,
    /// Content on the from side.
    #[serde(default)]
    pub from: Option<Value>,
    /// Content on the to side.
    #[serde(default)]
    pub to: Option<Value>,
}

/// What to merge into a branch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MergeRequest {
    /// Reference to merge from.
    pub from_ref_name: String,
    /// Commit to merge from.
    pub from_hash: String,
    /// Message; built from the merged commits if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Author, message and properties of the merge commit; wins over `message`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit_meta: Option<CommitMeta>,
    /// Only say what would happen.
    #[serde(default)]
    pub dry_run: bool,
    /// Firn's own: which tables that both sides changed are merged.
    #[serde(default)]
    pub table_merge: TableMerge,
}

/// Which tables that both sides of a merge changed are merged, by replaying one side's changes onto the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum TableMerge {
    /// Those where one side only added or rewrote files, or changed properties that the other left alone.
    #[default]
    All,
    /// Only those whose files the target rewrote without changing rows, as maintenance does.
    Rewrites,
    /// None: they conflict.
    None,
}

/// How a merge went. Conflicts are a 409 with the same details, unless `returnConflictAsResult`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MergeResponse {
    /// Head of the target afterwards.
    #[serde(default)]
    pub resultant_target_hash: Option<String>,
    /// Merge base.
    #[serde(default)]
    pub common_ancestor: Option<String>,
    /// Target.
    pub target_branch: String,
    /// Whether the target moved.
    pub was_applied: bool,
    /// Whether it would have, or did.
    pub was_successful: bool,
    /// A verdict per key.
    #[serde(default)]
    pub details: Vec<Value>,
}
