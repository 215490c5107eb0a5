//! Garbage collection: what to ask for, and what came of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::iceberg::TableIdent;

/// Body of `POST /v1/tenants/{tenant}/gc`, which starts a collection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GcRequest {
    /// Only say what would go.
    pub dry_run: bool,
    /// What is younger stays in any case, in seconds; 7 days if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub safety_age_s: Option<u64>,
    /// How old states of references may be, in seconds; their whole history is kept if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history_s: Option<u64>,
    /// The same by reference.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub history_of: BTreeMap<String, u64>,
    /// Only this table's files, and nothing of the database; everything if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<GcTable>,
}

/// A table whose folder is searched for files that nothing needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GcTable {
    /// Its name.
    pub ident: TableIdent,
    /// The reference where it has that name.
    pub reference: String,
    /// More folders that hold files of this table alone, such as that of `write.data.path`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub folders: Vec<String>,
}

/// The newest collection of a tenant: answer of `POST` and `GET /v1/tenants/{tenant}/gc`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct GcRun {
    /// Unique per collection.
    pub id: String,
    /// How it is doing.
    pub state: GcState,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What it did, once it is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<GcReport>,
}

/// State of a collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum GcState {
    /// Under way.
    Running,
    /// Ended; there is a report.
    Done,
    /// Ended early; what it removed until then was garbage.
    Failed,
}

/// What a collection kept and removed, or would in a dry run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct GcReport {
    /// Nothing was removed.
    pub dry_run: bool,
    /// RFC 3339.
    pub started_at: String,
    /// RFC 3339.
    pub finished_at: String,
    /// Branches and tags.
    pub references: u64,
    /// Commits whose states are kept.
    pub states_kept: u64,
    /// Commits and tree nodes in the database.
    pub objects_kept: u64,
    /// Those that no reference reaches.
    pub objects_removed: u64,
    /// Their bytes.
    pub object_bytes_removed: u64,
    /// Files that a kept state needs.
    pub files_kept: u64,
    /// Files that nothing needs but that are too young to judge.
    pub files_young: u64,
    /// Files outside tables' folders, which are left alone.
    pub files_foreign: u64,
    /// Files that were written again, or went, while this looked; left alone.
    #[serde(default)]
    pub files_changed: u64,
    /// Files removed.
    pub files_removed: u64,
    /// Their bytes.
    pub bytes_removed: u64,
    /// The first thousand of them, and why.
    pub removed: Vec<GcFile>,
    /// Files of kept states that can't be read. While there are any, no file is removed.
    pub unreadable: Vec<GcUnreadable>,
}

/// A removed file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct GcFile {
    /// Where.
    pub location: String,
    /// Size.
    pub bytes: u64,
    /// Why.
    pub reason: String,
}

/// A file that a kept state needs and that can't be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct GcUnreadable {
    /// Where.
    pub location: String,
    /// Why.
    pub reason: String,
}
