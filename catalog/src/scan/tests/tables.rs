//! Tables of files that are only in manifests, planned by the whole way from the manifest list on.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::{
    CatalogConfig, CatalogError, S3Config,
    manifests::{FieldSummary, sample_files, sample_files::SampleFile, samples},
    metadata::Document,
    scan::{Part, Pinned, Planned, Scan, ScanRequest},
    storage::Storage,
};

pub(super) const TENANT: &str = "acme";

/// A warehouse of its own.
pub(super) struct World {
    folder: tempfile::TempDir,
    pub(super) storage: Storage,
    made: AtomicUsize,
}

/// A manifest of a snapshot.
pub(super) struct Manifest {
    pub(super) spec_id: i64,
    /// Ids and Avro types of the partition fields.
    pub(super) partition: Vec<(i64, &'static str)>,
    /// Also the id of the snapshot that added it.
    pub(super) sequence_number: i64,
    pub(super) files: Vec<SampleFile>,
    /// Ranges of the partition fields.
    pub(super) summaries: Option<Vec<FieldSummary>>,
}

impl Manifest {
    /// Of an unpartitioned table.
    pub(super) fn plain(sequence_number: i64, files: Vec<SampleFile>) -> Self {
        Self { spec_id: 0, partition: Vec::new(), sequence_number, files, summaries: None }
    }
}

impl World {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = CatalogConfig {
            database_url: String::new(),
            warehouse: format!("file://{}", folder.path().display()),
            s3: S3Config::default(),
            region: "local".to_owned(),
            cache_bytes: 1 << 20,
            signing_key: firn_auth::SigningKey::generate(),
            public_url: String::new(),
        };
        let storage = Storage::open(&config).unwrap();
        Self { folder, storage, made: AtomicUsize::default() }
    }

    fn path(&self, name: &str) -> String {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        format!("file://{}/{TENANT}/t/{name}-{number}.avro", self.folder.path().display())
    }

    /// A snapshot of manifests, as metadata has it.
    pub(super) async fn snapshot(&self, id: i64, parent: Option<i64>, manifests: &[Manifest]) -> Value {
        let mut listed = Vec::new();
        for manifest in manifests {
            let path = self.path("m");
            let Manifest { spec_id, partition, sequence_number, files, summaries } = manifest;
            let (bytes, mut one) =
                sample_files::manifest(&path, *spec_id, partition, *sequence_number, files);
            one.partitions = summaries.clone();
            self.storage.write_file(TENANT, &path, bytes).await.unwrap();
            listed.push(one);
        }
        let path = self.path("snap");
        self.storage.write_file(TENANT, &path, samples::list(id, &listed)).await.unwrap();
        json!({
            "snapshot-id": id, "parent-snapshot-id": parent, "sequence-number": id, "timestamp-ms": id,
            "manifest-list": path, "schema-id": 0, "summary": {"operation": "append"},
        })
    }

    pub(super) async fn plan(&self, document: &Document, request: Value) -> Result<Planned, CatalogError> {
        let (scan, _) = self.open(document, request).await?;
        scan.part(scan.whole()).await
    }

    pub(super) async fn open(
        &self,
        document: &Document,
        request: Value,
    ) -> Result<(Scan, Pinned), CatalogError> {
        let request: ScanRequest = serde_json::from_value(request).unwrap();
        let pinned = request.pin(document)?;
        let scan = Scan::open(&self.storage, TENANT, document, &pinned).await?;
        Ok((scan, pinned))
    }
}

/// Metadata with these columns (id, name, type), specs and snapshots; the last one is current.
pub(super) fn document(columns: &[(i64, &str, &str)], specs: &Value, snapshots: &[Value]) -> Document {
    let fields = columns
        .iter()
        .map(|(id, name, kind)| json!({"id": id, "name": name, "type": kind, "required": false}));
    let current = snapshots.last().map_or(json!(-1), |snapshot| snapshot["snapshot-id"].clone());
    let document = json!({
        "format-version": 3, "table-uuid": "u", "location": "file:///t",
        "schemas": [{"schema-id": 0, "type": "struct", "fields": fields.collect::<Vec<_>>()}],
        "current-schema-id": 0, "partition-specs": specs, "default-spec-id": 0,
        "snapshots": snapshots, "current-snapshot-id": current,
    });
    Document::parse_table(document.to_string().as_bytes()).unwrap()
}

/// File scan tasks and delete files of an answer that holds all.
pub(super) fn files(planned: Planned) -> (Vec<Value>, Vec<Value>) {
    match planned.part {
        Part::Files { tasks, deletes } => (tasks, deletes),
        Part::Portions(portions) => panic!("it is told in {} portions", portions.len()),
    }
}

/// Paths of the data files of an answer.
pub(super) fn paths(tasks: &[Value]) -> Vec<&str> {
    tasks.iter().map(|task| task["data-file"]["file-path"].as_str().unwrap()).collect()
}
