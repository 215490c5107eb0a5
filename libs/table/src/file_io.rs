//! Files by location: `file:///…`, `file:/…` and `s3://bucket/…`, through `object_store`.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::TableError;

/// How to reach S3; for local files nothing is needed. A table's `config` from the catalog overrides it.
#[derive(Clone, Debug, Default)]
pub struct StorageConfig {
    /// Endpoint of an S3-compatible server, or AWS's own if absent.
    pub endpoint: Option<String>,
    /// Region.
    pub region: Option<String>,
    /// Path-style requests.
    pub path_style: bool,
    /// Access key id and secret; from the environment if absent.
    pub credentials: Option<(String, String)>,
}

/// Reads, writes, lists and deletes files by location. Cheap to clone; stores are cached per bucket and credentials.
#[derive(Clone)]
pub struct FileIo {}

impl FileIo {
    /// File access with `config` as default.
    #[must_use]
    pub fn new(_config: StorageConfig) -> Self {
        todo!()
    }

    /// The same, with a table's `config` (`s3.endpoint`, `s3.access-key-id` …) on top.
    #[must_use]
    pub fn with_table_config(&self, _config: &BTreeMap<String, String>) -> Self {
        todo!()
    }

    /// Reads a whole file.
    pub async fn read(&self, _location: &str) -> Result<Bytes, TableError> {
        todo!()
    }

    /// Writes a new file durably: for local files file and folder are synced; a file that exists is an error.
    pub async fn write_new(&self, _location: &str, _bytes: Bytes) -> Result<(), TableError> {
        todo!()
    }

    /// Deletes a file; one that is absent is no error.
    pub async fn delete(&self, _location: &str) -> Result<(), TableError> {
        todo!()
    }

    /// Locations and sizes of all files below a location, recursively.
    pub async fn list(&self, _location: &str) -> Result<Vec<(String, u64)>, TableError> {
        todo!()
    }
}
