//! A loaded table: one immutable view of its metadata document.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use arrow::datatypes::{Field, SchemaRef};
use firn_catalog_client::{
    TenantClient,
    iceberg::{LoadTableResult, TableIdent},
};
use iceberg::spec::{
    DEFAULT_SCHEMA_NAME_MAPPING, ManifestContentType, ManifestFile, PartitionSpec, Schema,
    SchemaRef as IcebergSchemaRef,
};
use serde_json::Value;

use crate::{
    FileIo, TableError, TableErrorKind,
    commit::expirable,
    deletes::{DeleteIndex, FileDeletes},
    manifests::{self, LiveFile, live_files},
    schema::{NameIds, arrow_field, arrow_schema},
};

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
    /// What the metadata says of the current schema; each commit asks several times.
    schema: OnceLock<IcebergSchemaRef>,
    arrow_schema: OnceLock<SchemaRef>,
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
    /// Delete files that apply to it: each is read whenever the file is.
    pub delete_files: usize,
    /// Rows that deletion vectors and position delete files for it alone delete. Files that name several data files, and
    /// equality deletes, don't tell without being read.
    pub deleted_rows: u64,
}

/// Manifests with live files.
pub(crate) struct LiveManifests {
    pub(crate) data: Vec<ManifestFile>,
    pub(crate) deletes: Vec<ManifestFile>,
}

impl Table {
    /// Loads `ident` at `reference`.
    pub async fn load(
        client: &TenantClient,
        file_io: &FileIo,
        reference: &str,
        ident: &TableIdent,
    ) -> Result<Self, TableError> {
        let loaded = client.load_table(reference, ident).await?;
        Ok(Self::from_loaded(client, file_io, reference, ident, loaded))
    }

    pub(crate) fn from_loaded(
        client: &TenantClient,
        file_io: &FileIo,
        reference: &str,
        ident: &TableIdent,
        loaded: LoadTableResult,
    ) -> Self {
        let inner = TableInner {
            client: client.clone(),
            file_io: file_io.with_table_config(&loaded.config),
            reference: reference.to_owned(),
            ident: ident.clone(),
            metadata: loaded.metadata,
            schema: OnceLock::new(),
            arrow_schema: OnceLock::new(),
        };
        Self { inner: Arc::new(inner) }
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
        if let Some(schema) = self.inner.arrow_schema.get() {
            return Ok(Arc::clone(schema));
        }
        let schema = arrow_schema(&*self.iceberg_schema()?)?;
        Ok(Arc::clone(self.inner.arrow_schema.get_or_init(|| schema)))
    }

    /// Table properties.
    #[must_use]
    pub fn properties(&self) -> BTreeMap<String, String> {
        text_map(&self.inner.metadata["properties"])
    }

    /// Current snapshot of `main`, if any.
    #[must_use]
    pub fn current_snapshot(&self) -> Option<SnapshotInfo> {
        self.snapshot(self.inner.metadata["current-snapshot-id"].as_i64()?)
    }

    /// All snapshots, oldest first.
    #[must_use]
    pub fn snapshots(&self) -> Vec<SnapshotInfo> {
        let mut snapshots =
            self.snapshot_documents().iter().filter_map(SnapshotInfo::parse).collect::<Vec<_>>();
        snapshots.sort_by_key(|snapshot| (snapshot.sequence_number, snapshot.timestamp_ms));
        snapshots
    }

    /// The snapshot that was current at an instant (milliseconds since the epoch), by the snapshot log.
    #[must_use]
    pub fn snapshot_at(&self, timestamp_ms: i64) -> Option<SnapshotInfo> {
        let log = self.inner.metadata["snapshot-log"].as_array()?;
        let entry = log
            .iter()
            .rev()
            .find(|entry| entry["timestamp-ms"].as_i64().is_some_and(|at| at <= timestamp_ms))?;
        self.snapshot(entry["snapshot-id"].as_i64()?)
    }

    /// Live data files of a snapshot (current if none given).
    pub async fn data_files(&self, snapshot_id: Option<i64>) -> Result<Vec<DataFileEntry>, TableError> {
        let (specs, schema) = (self.partition_specs()?, self.iceberg_schema()?);
        let manifests = self.live_manifests(snapshot_id).await?;
        let deletes = DeleteIndex::load(self, &manifests.deletes).await?;
        let files = live_files(self.file_io(), &manifests.data).await?;
        files.iter().map(|file| DataFileEntry::new(file, &deletes.of(file)?, &specs, &schema)).collect()
    }

    /// Snapshots that [`crate::Operation::ExpireSnapshots`] would remove, oldest first.
    #[must_use]
    pub fn expirable_snapshots(&self, older_than_ms: i64, keep_last: usize) -> Vec<SnapshotInfo> {
        let expirable = expirable(&self.inner.metadata, older_than_ms, keep_last);
        self.snapshots().into_iter().filter(|snapshot| expirable.contains(&snapshot.id)).collect()
    }

    pub(crate) fn uuid(&self) -> &str {
        self.inner.metadata["table-uuid"].as_str().unwrap_or_default()
    }

    pub(crate) fn format_version(&self) -> i64 {
        self.inner.metadata["format-version"].as_i64().unwrap_or(2)
    }

    pub(crate) fn location(&self) -> Result<&str, TableError> {
        let location =
            self.inner.metadata["location"].as_str().map(|location| location.trim_end_matches('/'));
        location.ok_or_else(|| self.malformed("it has no location", None))
    }

    /// Folder of data and delete files.
    pub(crate) fn data_path(&self) -> Result<String, TableError> {
        match self.properties().get("write.data.path") {
            Some(path) => Ok(path.trim_end_matches('/').to_owned()),
            None => Ok(format!("{}/data", self.location()?)),
        }
    }

    /// Current schema; types that Firn does not know make it `Unsupported`.
    pub(crate) fn iceberg_schema(&self) -> Result<IcebergSchemaRef, TableError> {
        if let Some(schema) = self.inner.schema.get() {
            return Ok(Arc::clone(schema));
        }
        let current = &self.inner.metadata["current-schema-id"];
        let schemas = self.inner.metadata["schemas"].as_array();
        let schema = schemas
            .and_then(|schemas| schemas.iter().find(|schema| &schema["schema-id"] == current))
            .ok_or_else(|| self.malformed("its current schema is missing", None))?;
        let schema = serde_json::from_value(schema.clone());
        let schema = schema
            .map_err(|error| self.malformed("its schema has types that are not supported", Some(error)))?;
        Ok(Arc::clone(self.inner.schema.get_or_init(|| Arc::new(schema))))
    }

    pub(crate) fn partition_specs(&self) -> Result<BTreeMap<i32, PartitionSpec>, TableError> {
        let specs = self.inner.metadata["partition-specs"].as_array().map_or(&[][..], Vec::as_slice);
        let parsed = specs.iter().map(|spec| {
            let spec: PartitionSpec = serde_json::from_value(spec.clone())?;
            Ok((spec.spec_id(), spec))
        });
        parsed
            .collect::<Result<_, serde_json::Error>>()
            .map_err(|error| self.malformed("a partition spec of it is not supported", Some(error)))
    }

    pub(crate) fn default_partition_spec(&self) -> Result<PartitionSpec, TableError> {
        let id = self.inner.metadata["default-spec-id"].as_i64().and_then(|id| i32::try_from(id).ok());
        let mut specs = self.partition_specs()?;
        let spec = id.and_then(|id| specs.remove(&id));
        spec.ok_or_else(|| self.malformed("its default partition spec is missing", None))
    }

    pub(crate) fn snapshot(&self, id: i64) -> Option<SnapshotInfo> {
        self.snapshot_document(id).and_then(SnapshotInfo::parse)
    }

    pub(crate) fn snapshot_documents(&self) -> &[Value] {
        self.inner.metadata["snapshots"].as_array().map_or(&[][..], Vec::as_slice)
    }

    /// The given snapshot, or the current one; `None` only if the table has none. `NotFound` for an unknown id.
    pub(crate) fn resolve_snapshot(&self, id: Option<i64>) -> Result<Option<i64>, TableError> {
        match id {
            None => Ok(self.current_snapshot().map(|snapshot| snapshot.id)),
            Some(id) if self.snapshot_document(id).is_some() => Ok(Some(id)),
            Some(id) => Err(TableError::new(
                TableErrorKind::NotFound,
                format!("table {} has no snapshot {id}; it may have expired", self.ident()),
            )),
        }
    }

    /// Where a snapshot lists its manifests.
    pub(crate) fn manifest_list(&self, snapshot_id: i64) -> Option<String> {
        self.snapshot_document(snapshot_id)?["manifest-list"].as_str().map(str::to_owned)
    }

    /// All manifests of a snapshot (current if none given).
    pub(crate) async fn manifests(&self, snapshot_id: Option<i64>) -> Result<Vec<ManifestFile>, TableError> {
        let Some(id) = self.resolve_snapshot(snapshot_id)? else { return Ok(Vec::new()) };
        let list = self.manifest_list(id).ok_or_else(|| {
            TableError::unsupported(format!(
                "snapshot {id} of table {} has no manifest list (format 1)",
                self.ident()
            ))
        })?;
        let manifests = manifests::load_manifest_list(self.file_io(), &list, self.format_version()).await?;
        Ok(manifests.as_ref().clone())
    }

    /// The manifests of a snapshot that list live files: of data, and of deletes.
    pub(crate) async fn live_manifests(&self, snapshot_id: Option<i64>) -> Result<LiveManifests, TableError> {
        let manifests = self.manifests(snapshot_id).await?;
        let live = manifests
            .into_iter()
            .filter(|manifest| manifest.has_added_files() || manifest.has_existing_files());
        let (data, deletes) = live.partition(|manifest| manifest.content == ManifestContentType::Data);
        Ok(LiveManifests { data, deletes })
    }

    /// Field ids for files that have none, if the table has a name mapping.
    pub(crate) fn name_ids(&self) -> Result<Option<Arc<NameIds>>, TableError> {
        let Some(property) = self.properties().remove(DEFAULT_SCHEMA_NAME_MAPPING) else { return Ok(None) };
        let parsed = NameIds::parse(&property);
        parsed.map(|names| Some(Arc::new(names))).map_err(|error| {
            self.malformed("its property 'schema.name-mapping.default' is no name mapping", Some(error))
        })
    }

    /// All schemas that can be parsed, newest first.
    fn schemas(&self) -> Vec<Schema> {
        let documents = self.inner.metadata["schemas"].as_array().map_or(&[][..], Vec::as_slice);
        let parsed =
            documents.iter().filter_map(|schema| serde_json::from_value::<Schema>(schema.clone()).ok());
        let mut schemas = parsed.collect::<Vec<_>>();
        schemas.sort_by_key(|schema| std::cmp::Reverse(schema.schema_id()));
        schemas
    }

    /// The newest schema that has all columns by which `spec` partitions: a table may have dropped some since.
    pub(crate) fn schema_of_spec(&self, spec: &PartitionSpec) -> Result<IcebergSchemaRef, TableError> {
        let current = self.iceberg_schema()?;
        let has_columns = |schema: &Schema| spec.partition_type(schema).is_ok();
        if has_columns(&current) {
            return Ok(current);
        }
        Ok(self.schemas().into_iter().find(has_columns).map_or(current, Arc::new))
    }

    /// A top-level column that an earlier schema had, as the newest of them had it.
    pub(crate) fn former_column(&self, id: i32) -> Result<Field, TableError> {
        let mut columns = self.schemas().into_iter();
        let column = columns
            .find_map(|schema| schema.as_struct().fields().iter().find(|field| field.id == id).cloned());
        if let Some(column) = column {
            return arrow_field(&column);
        }
        Err(TableError::unsupported(format!(
            "table {} has equality deletes by column {id}, which is nested or unknown; rewrite the table with the engine that \
             wrote them",
            self.ident()
        )))
    }

    fn snapshot_document(&self, id: i64) -> Option<&Value> {
        self.snapshot_documents().iter().find(|snapshot| snapshot["snapshot-id"].as_i64() == Some(id))
    }

    fn malformed(&self, what: &str, error: Option<serde_json::Error>) -> TableError {
        TableError {
            kind: TableErrorKind::Unsupported,
            context: format!("cannot use table {}: {what}", self.ident()),
            source: error.map(Into::into),
        }
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table")
            .field("ident", &self.inner.ident)
            .field("reference", &self.inner.reference)
            .field("snapshot", &self.inner.metadata["current-snapshot-id"])
            .finish_non_exhaustive()
    }
}

impl SnapshotInfo {
    fn parse(document: &Value) -> Option<Self> {
        let mut summary = text_map(&document["summary"]);
        // Format 1 allows a snapshot without a summary; `overwrite` is what allows the fewest conclusions.
        let operation = summary.remove("operation").unwrap_or_else(|| "overwrite".to_owned());
        Some(Self {
            id: document["snapshot-id"].as_i64()?,
            parent_id: document["parent-snapshot-id"].as_i64(),
            sequence_number: document["sequence-number"].as_i64().unwrap_or(0),
            timestamp_ms: document["timestamp-ms"].as_i64()?,
            operation,
            summary,
        })
    }
}

impl DataFileEntry {
    pub(crate) fn new(
        file: &LiveFile,
        deletes: &FileDeletes,
        specs: &BTreeMap<i32, PartitionSpec>,
        schema: &IcebergSchemaRef,
    ) -> Result<Self, TableError> {
        let (entry, spec) = (&file.entry, specs.get(&file.spec_id));
        let mut partition = BTreeMap::new();
        // A spec whose source column was dropped has no type any more; the file is still readable.
        if let Some(types) = spec.and_then(|spec| spec.partition_type(schema).ok()) {
            for (field, value) in types.fields().iter().zip(entry.data_file.partition().iter()) {
                let json =
                    value.cloned().map_or(Ok(Value::Null), |value| value.try_into_json(&field.field_type));
                let json = json.map_err(|error| {
                    let location = entry.file_path();
                    TableError::caused(
                        TableErrorKind::Invalid,
                        format!("{location} has a malformed partition"),
                        error,
                    )
                })?;
                partition.insert(field.name.clone(), json);
            }
        }
        Ok(Self {
            location: entry.file_path().to_owned(),
            record_count: entry.record_count(),
            size_bytes: entry.file_size_in_bytes(),
            partition,
            spec_id: file.spec_id,
            sequence_number: file.sequence_number(),
            added_snapshot_id: entry.snapshot_id.unwrap_or(0),
            delete_files: deletes.count(),
            deleted_rows: deletes.known_rows(),
        })
    }
}

fn text_map(object: &Value) -> BTreeMap<String, String> {
    let entries = object.as_object().into_iter().flatten();
    entries.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}
