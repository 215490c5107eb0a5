//! Files by location: `file:///…`, `file:/…` and `s3://bucket/…`, through `object_store`.

mod local;
mod location;
mod sink;
mod stores;

use std::{borrow::Cow, collections::BTreeMap, ops::Range, sync::Arc};

use bytes::Bytes;
use datafusion::execution::object_store::ObjectStoreUrl;
use firn_runtime::reload::Live;
use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload};

use crate::{TableError, TableErrorKind, manifests::ManifestCache};
pub(crate) use location::{Location, root};
pub(crate) use sink::FileSink;
use stores::StoreCache;

/// How to reach S3; for local files nothing is needed. A table's `config` from the catalog overrides it.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
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

impl std::fmt::Debug for StorageConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let credentials = self.credentials.as_ref().map(|(id, _)| (id.as_str(), "<hidden>"));
        f.debug_struct("StorageConfig")
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("path_style", &self.path_style)
            .field("credentials", &credentials)
            .finish()
    }
}

/// Reads, writes, lists and deletes files by location. Cheap to clone; stores are cached per bucket and credentials.
#[derive(Clone)]
pub struct FileIo {
    config: StorageConfig,
    /// The process's own access key id and secret, where no table has others.
    keys: Option<Live<(String, String)>>,
    session_token: Option<String>,
    stores: Arc<StoreCache>,
    manifests: Arc<ManifestCache>,
}

/// A file that a listing found.
#[derive(Clone, Debug)]
pub(crate) struct StoredFile {
    pub(crate) location: String,
    pub(crate) size_bytes: u64,
    /// By the store's clock, milliseconds since the epoch.
    pub(crate) modified_ms: i64,
}

/// A location's store, with the URL under which DataFusion finds it and the path within it.
pub(crate) struct ResolvedFile {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) url: ObjectStoreUrl,
    pub(crate) path: object_store::path::Path,
}

impl FileIo {
    /// File access with `config` as default.
    #[must_use]
    pub fn new(config: StorageConfig) -> Self {
        Self {
            config,
            keys: None,
            session_token: None,
            stores: Arc::new(StoreCache::new()),
            manifests: Arc::new(ManifestCache::new()),
        }
    }

    /// The same with keys that may change as the process runs, where `config` has none.
    #[must_use]
    pub fn with_keys(self, keys: Option<Live<(String, String)>>) -> Self {
        Self { keys, ..self }
    }

    /// The same, with a table's `config` (`s3.endpoint`, `s3.access-key-id` …) on top.
    #[must_use]
    pub fn with_table_config(&self, config: &BTreeMap<String, String>) -> Self {
        let mut result = self.clone();
        if let Some(endpoint) = config.get("s3.endpoint") {
            result.config.endpoint = Some(endpoint.clone());
        }
        if let Some(region) = config.get("s3.region").or_else(|| config.get("client.region")) {
            result.config.region = Some(region.clone());
        }
        if let Some(path_style) = config.get("s3.path-style-access") {
            result.config.path_style = path_style.eq_ignore_ascii_case("true");
        }
        if let (Some(id), Some(secret)) = (config.get("s3.access-key-id"), config.get("s3.secret-access-key"))
        {
            result.config.credentials = Some((id.clone(), secret.clone()));
            result.session_token = config.get("s3.session-token").cloned();
        }
        result
    }

    /// Reads a whole file.
    pub async fn read(&self, location: &str) -> Result<Bytes, TableError> {
        let file = self.resolve(location)?;
        let read = async { file.store.get(&file.path).await?.bytes().await };
        read.await.map_err(|error| storage_error("read", location, error))
    }

    /// Whether a file is there.
    pub async fn exists(&self, location: &str) -> Result<bool, TableError> {
        let file = self.resolve(location)?;
        match file.store.head(&file.path).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(storage_error("look for", location, error)),
        }
    }

    /// Reads a part of a file.
    pub(crate) async fn read_range(&self, location: &str, range: Range<u64>) -> Result<Bytes, TableError> {
        let file = self.resolve(location)?;
        let read = file.store.get_range(&file.path, range).await;
        read.map_err(|error| storage_error("read", location, error))
    }

    /// Writes a new file durably: for local files file and folder are synced; a file that exists is an error.
    pub async fn write_new(&self, location: &str, bytes: Bytes) -> Result<(), TableError> {
        if let Location::Local { path, .. } = Location::parse(location)? {
            return local::write_new(path, bytes).await.map_err(|error| {
                TableError::caused(TableErrorKind::Storage, format!("cannot write {location}"), error)
            });
        }
        let file = self.resolve(location)?;
        file.store
            .put_opts(&file.path, PutPayload::from_bytes(bytes), PutMode::Create.into())
            .await
            .map_err(|error| storage_error("write", location, error))?;
        Ok(())
    }

    /// Puts a file in the place of one that is there, durably; readers see the one or the other, never a part.
    pub(crate) async fn replace(&self, location: &str, bytes: Bytes) -> Result<(), TableError> {
        if let Location::Local { path, .. } = Location::parse(location)? {
            return local::replace(path, bytes).await.map_err(|error| {
                TableError::caused(TableErrorKind::Storage, format!("cannot replace {location}"), error)
            });
        }
        let file = self.resolve(location)?;
        let put = file.store.put(&file.path, PutPayload::from_bytes(bytes)).await;
        put.map(drop).map_err(|error| storage_error("replace", location, error))
    }

    /// Deletes a file; one that is absent is no error.
    pub async fn delete(&self, location: &str) -> Result<(), TableError> {
        let file = self.resolve(location)?;
        match file.store.delete(&file.path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(storage_error("delete", location, error)),
        }
    }

    /// Locations and sizes of all files below a location, recursively.
    pub async fn list(&self, location: &str) -> Result<Vec<(String, u64)>, TableError> {
        let files = self.list_dated(location).await?;
        Ok(files.into_iter().map(|file| (file.location, file.size_bytes)).collect())
    }

    /// All files below a location, recursively.
    pub(crate) async fn list_dated(&self, location: &str) -> Result<Vec<StoredFile>, TableError> {
        let root = Location::parse(location)?;
        let file = self.resolve(location)?;
        file.store
            .list(Some(&file.path))
            .map_ok(|meta| StoredFile {
                location: root.sibling(meta.location.as_ref()),
                size_bytes: meta.size,
                modified_ms: meta.last_modified.timestamp_millis(),
            })
            .try_collect()
            .await
            .map_err(|error| storage_error("list", location, error))
    }

    /// Opens a new file for streaming; nothing is durable before [`FileSink::close`].
    pub(crate) async fn create(&self, location: &str) -> Result<FileSink, TableError> {
        if let Location::Local { path, .. } = Location::parse(location)? {
            return FileSink::local(location, path).await;
        }
        let file = self.resolve(location)?;
        Ok(FileSink::object(location, file.store, file.path))
    }

    /// Deletes files that nothing refers to; a failure leaves an orphan for maintenance and is only logged.
    pub(crate) async fn delete_unreferenced(&self, locations: &[String]) {
        for location in locations {
            if let Err(error) = self.delete(location).await {
                tracing::warn!(
                    location,
                    error = &error as &dyn std::error::Error,
                    "unreferenced file stays behind"
                );
            }
        }
    }

    pub(crate) fn resolve(&self, location: &str) -> Result<ResolvedFile, TableError> {
        self.stores.resolve(
            &Location::parse(location)?,
            &self.present_config(),
            self.session_token.as_deref(),
        )
    }

    /// How the files are reached at this moment, with the token of temporary credentials.
    pub(crate) fn access(&self) -> (StorageConfig, Option<String>) {
        (self.present_config().into_owned(), self.session_token.clone())
    }

    fn present_config(&self) -> Cow<'_, StorageConfig> {
        let mut config = Cow::Borrowed(&self.config);
        if let (None, Some(keys)) = (&config.credentials, &self.keys) {
            config.to_mut().credentials = Some(keys.get().as_ref().clone());
        }
        config
    }

    pub(crate) fn manifests(&self) -> &ManifestCache {
        &self.manifests
    }
}

fn storage_error(verb: &str, location: &str, error: object_store::Error) -> TableError {
    let kind = match error {
        object_store::Error::NotFound { .. } => TableErrorKind::NotFound,
        _ => TableErrorKind::Storage,
    };
    let context = match error {
        object_store::Error::NotFound { .. } => format!("cannot {verb} {location}: there is no such file"),
        object_store::Error::AlreadyExists { .. } => format!("cannot {verb} {location}: it exists already"),
        _ => format!("cannot {verb} {location}"),
    };
    TableError::caused(kind, context, error)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[tokio::test]
    async fn local_files_round_trip_and_are_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let io = FileIo::new(StorageConfig::default());
        let root = format!("file://{}", folder.path().display());
        let location = format!("{root}/a/b/one.bin");

        io.write_new(&location, Bytes::from_static(b"one")).await.unwrap();
        assert_eq!(io.read(&location).await.unwrap(), Bytes::from_static(b"one"));

        let again = io.write_new(&location, Bytes::from_static(b"two")).await.unwrap_err();
        assert_eq!(again.kind, TableErrorKind::Storage);
        assert!(again.context.contains("one.bin"), "{again}");
        assert_eq!(io.read(&location).await.unwrap(), Bytes::from_static(b"one"));

        assert_eq!(io.list(&root).await.unwrap(), vec![(location.clone(), 3)]);
        io.delete(&location).await.unwrap();
        io.delete(&location).await.unwrap();
        assert_eq!(io.read(&location).await.unwrap_err().kind, TableErrorKind::NotFound);
        assert_eq!(io.list(&root).await.unwrap(), vec![]);
    }

    #[tokio::test]
    async fn locations_keep_the_form_they_were_listed_with() {
        let folder = tempfile::tempdir().unwrap();
        let io = FileIo::new(StorageConfig::default());
        let root = format!("file:{}", folder.path().display());
        io.write_new(&format!("{root}/x y/one=1"), Bytes::from_static(b"1")).await.unwrap();
        assert_eq!(io.list(&root).await.unwrap(), vec![(format!("{root}/x y/one=1"), 1)]);
    }

    #[test]
    fn keys_are_those_of_the_moment_and_a_table_s_own_win() {
        let pair = |id: &str| (id.to_owned(), "secret".to_owned());
        let keys = Live::new(pair("one"));
        let io =
            FileIo::new(StorageConfig { region: Some("us-east-1".to_owned()), ..StorageConfig::default() });
        let io = io.with_keys(Some(keys.clone()));
        let config = [("s3.access-key-id", "own"), ("s3.secret-access-key", "x")];
        let config = config.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let own = io.with_table_config(&config);
        // Each set of keys has a store of its own.
        let store = |io: &FileIo| io.resolve("s3://bucket/key").unwrap().url.as_str().to_owned();
        let (first, first_own) = (store(&io), store(&own));
        assert!(store(&io) == first && first != first_own);
        keys.set(pair("two"));
        assert_ne!(store(&io), first);
        assert_eq!(store(&own), first_own);
    }

    #[tokio::test]
    async fn unknown_schemes_are_refused_by_name() {
        let io = FileIo::new(StorageConfig::default());
        let error = io.read("gs://bucket/file").await.unwrap_err();
        assert_eq!(error.kind, TableErrorKind::Unsupported);
        assert!(error.context.contains("gs://bucket/file"), "{error}");
    }
}
