//! A loaded table: one immutable view of its metadata document.

use std::{collections::BTreeMap, sync::Arc};

use arrow::datatypes::SchemaRef;
use firn_catalog_client::{TenantClient, iceberg::TableIdent};
use serde_json::Value;

use crate::{FileIo, TableError};

/// A table as it was when loaded. Cheap to clone.
#[derive(Clone)]
pub struct Table {
    pub(crate) inner: Arc<TableInner>,
}

pub(crate) struct TableInner {
    pub(crate) client: TenantClient,
    pub(crate) file_io: FileIo,
    pub(crate) reference: String,
    pub(crate) ident: TableIdent,
    pub(crate) metadata: Value,
}

/// A snapshot's line in the table's history.
#[derive(Clone, Debug, PartialEq)]
pub struct SnapshotInfo {
    /// Id.
    pub id: i64,
    /// Parent, if any.
    pub parent_id: Option<i64>,
    /// Data sequence number.
    pub sequence_number: i64,
    /// Milliseconds since the epoch.
    pub timestamp_ms: i64,
    /// `append`, `replace`, `overwrite` or `delete`.
    pub operation: String,
    /// The whole summary.
    pub summary: BTreeMap<String, String>,
}

/// A live data file of a snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct DataFileEntry {
    /// Location.
    pub location: String,
    /// Rows.
    pub record_count: u64,
    /// Bytes.
    pub size_bytes: u64,
    /// Partition values as Iceberg's single-value JSON, by partition field name.
    pub partition: BTreeMap<String, Value>,
    /// Partition spec.
    pub spec_id: i32,
    /// Data sequence number.
    pub sequence_number: i64,
    /// Snapshot that added it.
    pub added_snapshot_id: i64,
}

impl Table {
    /// Loads `ident` at `reference`.
    pub async fn load(_client: &TenantClient, _file_io: &FileIo, _reference: &str, _ident: &TableIdent) -> Result<Self, TableError> {
        todo!()
    }

    /// Its identifier.
    #[must_use]
    pub fn ident(&self) -> &TableIdent {
        &self.inner.ident
    }

    /// The reference it was loaded at.
    #[must_use]
    pub fn reference(&self) -> &str {
        &self.inner.reference
    }

    /// The metadata document.
    #[must_use]
    pub fn metadata(&self) -> &Value {
        &self.inner.metadata
    }

    /// The tenant's client it was loaded with.
    #[must_use]
    pub fn client(&self) -> &TenantClient {
        &self.inner.client
    }

    /// File access with the table's settings.
    #[must_use]
    pub fn file_io(&self) -> &FileIo {
        &self.inner.file_io
    }

    /// Current schema as Arrow, each field's metadata with `PARQUET:field_id`.
    pub fn arrow_schema(&self) -> Result<SchemaRef, TableError> {
        todo!()
    }

    /// Table properties.
    #[must_use]
    pub fn properties(&self) -> BTreeMap<String, String> {
        todo!()
    }

    /// Current snapshot of `main`, if any.
    #[must_use]
    pub fn current_snapshot(&self) -> Option<SnapshotInfo> {
        todo!()
    }

    /// All snapshots, oldest first.
    #[must_use]
    pub fn snapshots(&self) -> Vec<SnapshotInfo> {
        todo!()
    }

    /// The snapshot that was current at an instant (milliseconds since the epoch), by the snapshot log.
    #[must_use]
    pub fn snapshot_at(&self, _timestamp_ms: i64) -> Option<SnapshotInfo> {
        todo!()
    }

    /// Live data files of a snapshot (current if none given).
    pub async fn data_files(&self, _snapshot_id: Option<i64>) -> Result<Vec<DataFileEntry>, TableError> {
        todo!()
    }
}
