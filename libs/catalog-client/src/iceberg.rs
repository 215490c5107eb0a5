//! Iceberg REST: the bodies Firn itself sends or reads. Table metadata and updates stay JSON documents, so nothing is lost.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Separator of namespace levels in a path segment or query.
pub const NAMESPACE_SEPARATOR: char = '\u{1f}';

/// A table's or view's identifier.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TableIdent {
    /// Levels of the namespace, at least one.
    pub namespace: Vec<String>,
    /// Name within the namespace.
    pub name: String,
}

impl TableIdent {
    /// An identifier in a namespace of one level.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: vec![namespace.into()], name: name.into() }
    }
}

impl fmt::Display for TableIdent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for level in &self.namespace {
            write!(f, "{level}.")?;
        }
        f.write_str(&self.name)
    }
}

/// Answer of loadTable, createTable and commitTable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadTableResult {
    /// Where the metadata document lies; null for a staged create.
    #[serde(rename = "metadata-location")]
    pub metadata_location: Option<String>,
    /// The metadata document.
    pub metadata: Value,
    /// Settings for the client's file access.
    #[serde(default)]
    pub config: BTreeMap<String, String>,
}

/// Body of createTable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CreateTableRequest {
    /// Name within the namespace of the path.
    pub name: String,
    /// Wanted location, or the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// Iceberg schema.
    pub schema: Value,
    /// Partition spec.
    #[serde(rename = "partition-spec", default, skip_serializing_if = "Option::is_none")]
    pub partition_spec: Option<Value>,
    /// Sort order.
    #[serde(rename = "write-order", default, skip_serializing_if = "Option::is_none")]
    pub write_order: Option<Value>,
    /// True: answer metadata, create nothing yet.
    #[serde(rename = "stage-create", default)]
    pub stage_create: bool,
    /// Table properties; `format-version` picks the version.
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
}

/// One table's part of a commit: `requirements` and `updates` as the specification writes them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableChange {
    /// The table; optional in commitTable, where the path says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identifier: Option<TableIdent>,
    /// What must hold, each with a `type`. Firn adds `assert-property` (`key`, `value`: expected text, or null for absent).
    pub requirements: Vec<Value>,
    /// What changes, each with an `action`.
    pub updates: Vec<Value>,
}

/// Body of `transactions/commit`: all tables or none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CommitTransactionRequest {
    /// One change per table.
    #[serde(rename = "table-changes")]
    pub table_changes: Vec<TableChange>,
}
