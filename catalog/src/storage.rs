//! Metadata files: written durably before a commit can become visible, read through a cache bounded by bytes.
//!
//! A metadata file never changes once written, but for an erasure, which replaces it: then what is cached of the tenant is
//! forgotten. Every location is checked to lie within its tenant's root before anything is read, written or deleted there.

mod codec;
mod files;
mod list;
mod local;
mod location;
mod s3;
mod warehouse;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError, RwLock},
};

use bytes::Bytes;
use moka::policy::EvictionPolicy;
use object_store::aws::AwsCredentialProvider;
use uuid::Uuid;

use crate::{CatalogConfig, CatalogError};

use codec::MetadataCodec;
use local::LocalFiles;
use s3::S3Files;
use warehouse::Warehouse;

pub(crate) use files::{FileError, Files};
pub(crate) use list::StoredFile;
pub(crate) use location::Location;

/// Larger metadata files are refused rather than read into memory.
const MAX_METADATA_BYTES: u64 = 256 * 1024 * 1024;
/// Larger manifests and manifest lists are refused, too.
const MAX_MANIFEST_BYTES: u64 = 256 * 1024 * 1024;

/// The warehouse's files. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Storage {
    inner: Arc<Inner>,
}

struct Inner {
    files: Box<dyn Files>,
    warehouse: Warehouse,
    table_config: BTreeMap<String, String>,
    metadata: moka::future::Cache<String, Cached>,
    /// Which erasure's files a tenant has, as far as is known here.
    generations: RwLock<HashMap<String, i64>>,
}

/// A metadata file that lies within a tenant's root, decompressed.
#[derive(Clone)]
struct Cached {
    tenant: Arc<str>,
    /// The tenant's when its reading began.
    generation: i64,
    bytes: Bytes,
}

impl Storage {
    /// Opens the warehouse of a configuration; asks the storage nothing yet.
    pub(crate) fn open(config: &CatalogConfig) -> Result<Self, CatalogError> {
        let warehouse = parse(config)?;
        let refused = |reason: String| wrong(config, &reason);
        match warehouse.root("tenant").bucket() {
            None => Self::over(Box::new(LocalFiles), BTreeMap::new(), config),
            Some(_) => {
                let files = S3Files::open(&config.s3).map_err(refused)?;
                Self::over(Box::new(files), s3::table_config(&config.s3), config)
            }
        }
    }

    /// Over what holds a configuration's warehouse. `table_config` is what clients are told to reach it.
    pub(crate) fn over(
        files: Box<dyn Files>,
        table_config: BTreeMap<String, String>,
        config: &CatalogConfig,
    ) -> Result<Self, CatalogError> {
        let warehouse = parse(config)?;
        // The version store's objects take half of the memory, parsed documents an eighth, and metadata files the rest.
        let metadata = moka::future::Cache::builder()
            .weigher(|key: &String, cached: &Cached| {
                u32::try_from(key.len() + cached.bytes.len()).unwrap_or(u32::MAX)
            })
            .max_capacity(config.cache_bytes / 8 * 3)
            // What was written last is read next, though it was never read before.
            .eviction_policy(EvictionPolicy::lru())
            .build();
        Ok(Self {
            inner: Arc::new(Inner {
                files,
                warehouse,
                table_config,
                metadata,
                generations: RwLock::default(),
            }),
        })
    }

    /// Settings that a table's clients need for file access. No secrets.
    pub(crate) fn table_config(&self) -> &BTreeMap<String, String> {
        &self.inner.table_config
    }

    /// Root of all tenants' files; none if each has a bucket of its own.
    pub(crate) fn shared_root(&self) -> Option<&Location> {
        self.inner.warehouse.shared_root()
    }

    /// Root of a tenant's files, without trailing slash.
    pub(crate) fn tenant_root(&self, tenant: &str) -> Location {
        self.inner.warehouse.root(tenant)
    }

    /// Whether each tenant has a bucket of its own.
    pub(crate) fn has_own_buckets(&self) -> bool {
        self.shared_root().is_none()
    }

    /// The catalog's own keys for S3; none for local files.
    pub(crate) fn identity(&self) -> Option<AwsCredentialProvider> {
        self.inner.files.identity()
    }

    /// A fresh location for a table or view.
    pub(crate) fn new_location(&self, tenant: &str, namespace: &[String], name: &str) -> String {
        let mut location = self.tenant_root(tenant);
        for level in namespace {
            location = location.join(&location::plain_segment(level));
        }
        location.join(&format!("{}-{}", location::plain_segment(name), Uuid::new_v4())).to_string()
    }

    /// Refuses a location that does not lie within the tenant's root.
    pub(crate) fn check(&self, tenant: &str, text: &str) -> Result<Location, CatalogError> {
        let root = self.tenant_root(tenant);
        let location: Location = text.parse().map_err(|error| CatalogError::Invalid(format!("{error}")))?;
        if location.is_within(&root) {
            return Ok(location);
        }
        Err(CatalogError::Forbidden(format!(
            "the location '{text}' is outside the tenant's storage, {root}/"
        )))
    }

    /// Writes a new metadata file of a table or view at `location` and answers where. Durable when it returns. `codec` is the property
    /// that names its compression.
    pub(crate) async fn write_metadata(
        &self,
        tenant: &str,
        location: &str,
        previous: Option<&str>,
        codec: Option<&str>,
        bytes: Vec<u8>,
    ) -> Result<String, CatalogError> {
        let version = previous.and_then(version_of).map_or(0, |version| version.saturating_add(1));
        let codec = MetadataCodec::choose(codec, bytes.len());
        let name = format!("{version:05}-{}{}", Uuid::new_v4(), codec.suffix());
        let text = format!("{}/metadata/{name}", location.trim_end_matches('/'));
        let target = self.check(tenant, &text)?;
        let bytes = Bytes::from(bytes);
        let stored = codec.encode(bytes.clone()).await;
        let stored = stored.map_err(|error| FileError::failed("compressing", &target, error))?;
        self.inner.files.write(&target, stored).await?;
        let generation = self.generation(tenant);
        let cached = Cached { tenant: Arc::from(tenant), generation, bytes };
        self.inner.metadata.insert(text.clone(), cached).await;
        Ok(text)
    }

    /// Reads a metadata file of a tenant, decompressed. Concurrent readers of one file share one request.
    pub(crate) async fn read_metadata(&self, tenant: &str, text: &str) -> Result<Bytes, CatalogError> {
        let generation = self.generation(tenant);
        if let Some(cached) = self.inner.metadata.get(text).await
            && *cached.tenant == *tenant
        {
            if cached.generation == generation {
                return Ok(cached.bytes);
            }
            self.inner.metadata.invalidate(text).await;
        }
        let location = self.check(tenant, text)?;
        let load = async {
            let bytes = self.load(&location).await?;
            Ok(Cached { tenant: Arc::from(tenant), generation, bytes })
        };
        let loaded = match self.inner.metadata.try_get_with_by_ref(text, load).await {
            // Another reader began before the file was replaced.
            Ok(cached) if cached.generation < generation => self.load(&location).await.map_err(Arc::new),
            loaded => loaded.map(|cached| cached.bytes),
        };
        loaded.map_err(|error| match &*error {
            FileError::Missing(_) => {
                CatalogError::Invalid(format!("the metadata file {error}: it was deleted or never written"))
            }
            FileError::Failed { .. } => CatalogError::Unavailable(error.to_string()),
        })
    }

    /// Notes which erasure's files a tenant has. What was read of its metadata before another one is forgotten: it may have been
    /// replaced.
    pub(crate) fn note_generation(&self, tenant: &str, generation: i64) {
        if self.generation(tenant) != generation {
            let mut generations = self.inner.generations.write().unwrap_or_else(PoisonError::into_inner);
            generations.insert(tenant.to_owned(), generation);
        }
    }

    /// Rises whenever metadata files of the tenant were replaced; the same for all replicas.
    pub(crate) fn generation(&self, tenant: &str) -> i64 {
        let generations = self.inner.generations.read().unwrap_or_else(PoisonError::into_inner);
        generations.get(tenant).copied().unwrap_or_default()
    }

    /// Deletes a file of a commit that certainly lost. A failure leaves an orphan, which garbage collection finds.
    pub(crate) async fn delete_metadata(&self, tenant: &str, text: &str) {
        if let Err(error) = self.delete_file(tenant, text).await {
            tracing::warn!(tenant, location = text, %error, "a file of a lost commit stays behind");
        }
    }

    /// Deletes a file, if it is there.
    pub(crate) async fn delete_file(&self, tenant: &str, text: &str) -> Result<(), CatalogError> {
        self.inner.metadata.invalidate(text).await;
        let location = self.check(tenant, text)?;
        Ok(self.inner.files.delete(&location).await?)
    }

    /// Writes a new file, such as a manifest. Durable when it returns.
    pub(crate) async fn write_file(
        &self,
        tenant: &str,
        text: &str,
        bytes: Bytes,
    ) -> Result<(), CatalogError> {
        Ok(self.inner.files.write(&self.check(tenant, text)?, bytes).await?)
    }

    /// Writes a file over the one that may be there. Durable when it returns.
    pub(crate) async fn replace_file(
        &self,
        tenant: &str,
        text: &str,
        bytes: Bytes,
    ) -> Result<(), CatalogError> {
        Ok(self.inner.files.replace(&self.check(tenant, text)?, bytes).await?)
    }

    /// Reads a manifest or manifest list, past the cache.
    pub(crate) async fn read_file(&self, tenant: &str, text: &str) -> Result<Bytes, CatalogError> {
        let location = self.check(tenant, text)?;
        let read = self.inner.files.read(&location, MAX_MANIFEST_BYTES).await;
        read.map_err(|error| match &error {
            FileError::Missing(_) => {
                CatalogError::Invalid(format!("the file {error}: it was deleted or never written"))
            }
            FileError::Failed { .. } => CatalogError::Unavailable(error.to_string()),
        })
    }

    async fn load(&self, location: &Location) -> Result<Bytes, FileError> {
        let stored = self.inner.files.read(location, MAX_METADATA_BYTES).await?;
        let plain = MetadataCodec::of(location.name()).decode(stored, MAX_METADATA_BYTES).await;
        plain.map_err(|error| FileError::failed("decompressing", location, error))
    }
}

fn parse(config: &CatalogConfig) -> Result<Warehouse, CatalogError> {
    Warehouse::parse(&config.warehouse).map_err(|reason| wrong(config, &reason))
}

fn wrong(config: &CatalogConfig, reason: &str) -> CatalogError {
    CatalogError::Invalid(format!("warehouse '{}': {reason}", config.warehouse))
}

/// The number before the first dash of a metadata file's name.
fn version_of(location: &str) -> Option<u32> {
    location.rsplit('/').next()?.split('-').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn storage(folder: &tempfile::TempDir) -> Storage {
        let config = CatalogConfig {
            database_url: String::new(),
            warehouse: format!("file://{}", folder.path().display()),
            s3: crate::config::S3Config::default(),
            region: "local".to_owned(),
            cache_bytes: 1 << 20,
            signing_key: firn_auth::SigningKey::generate(),
            public_url: String::new(),
        };
        Storage::open(&config).unwrap()
    }

    #[tokio::test]
    async fn a_written_file_is_read_back_and_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let storage = storage(&folder);
        let table = storage.new_location("acme", &["a/b".to_owned()], "t 1");
        let first = storage.write_metadata("acme", &table, None, None, b"{}".to_vec()).await.unwrap();
        let second =
            storage.write_metadata("acme", &table, Some(&first), None, b"[]".to_vec()).await.unwrap();
        assert!(first.contains("/acme/a_b/t_1-") && first.contains("/metadata/00000-"), "{first}");
        assert!(second.contains("/metadata/00001-"), "{second}");
        storage.inner.metadata.invalidate_all();
        assert_eq!(storage.read_metadata("acme", &first).await.unwrap(), "{}");
        storage.delete_metadata("acme", &first).await;
        assert!(storage.read_metadata("acme", &first).await.is_err());
        assert_eq!(storage.read_metadata("acme", &second).await.unwrap(), "[]");
    }

    #[tokio::test]
    async fn what_is_forgotten_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let storage = storage(&folder);
        let table = storage.new_location("acme", &["a".to_owned()], "t");
        let file = storage.write_metadata("acme", &table, None, None, b"{}".to_vec()).await.unwrap();
        std::fs::write(file.strip_prefix("file://").unwrap(), "[]").unwrap();
        assert_eq!(storage.read_metadata("acme", &file).await.unwrap(), "{}", "it is cached");
        storage.note_generation("other", 1);
        assert_eq!(
            storage.read_metadata("acme", &file).await.unwrap(),
            "{}",
            "another tenant's files changed"
        );
        storage.note_generation("acme", 1);
        assert_eq!(storage.read_metadata("acme", &file).await.unwrap(), "[]");
    }

    #[tokio::test]
    async fn other_tenants_files_are_out_of_reach() {
        let folder = tempfile::tempdir().unwrap();
        let storage = storage(&folder);
        let table = storage.new_location("acme", &["a".to_owned()], "t");
        let file = storage.write_metadata("acme", &table, None, None, b"{}".to_vec()).await.unwrap();
        let read = storage.read_metadata("other", &file).await;
        assert!(matches!(read, Err(CatalogError::Forbidden(_))));
        let written = storage.write_metadata("other", &table, None, None, b"{}".to_vec()).await;
        assert!(matches!(written, Err(CatalogError::Forbidden(_))));
        assert_eq!(storage.read_metadata("acme", &file).await.unwrap(), "{}");
    }

    #[tokio::test]
    async fn compressed_metadata_of_others_is_read() {
        use std::io::Write as _;
        let folder = tempfile::tempdir().unwrap();
        let storage = storage(&folder);
        let path = folder.path().join("acme/00000-x.gz.metadata.json");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut zip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        zip.write_all(b"{\"a\":1}").unwrap();
        std::fs::write(&path, zip.finish().unwrap()).unwrap();
        let location = format!("file:{}", path.display());
        assert_eq!(storage.read_metadata("acme", &location).await.unwrap(), "{\"a\":1}");
    }

    #[tokio::test]
    async fn compressed_metadata_is_named_so_and_read() {
        let folder = tempfile::tempdir().unwrap();
        let storage = storage(&folder);
        let table = storage.new_location("acme", &["a".to_owned()], "t");
        let plain = format!("{{\"a\":\"{}\"}}", "x".repeat(100_000)).into_bytes();
        let file = storage.write_metadata("acme", &table, None, None, plain.clone()).await.unwrap();
        assert!(file.ends_with(".gz.metadata.json"), "{file}");
        let stored = std::fs::read(file.strip_prefix("file://").unwrap()).unwrap();
        assert!(stored.starts_with(&[0x1f, 0x8b]) && stored.len() < 1000, "{} bytes", stored.len());
        storage.inner.metadata.invalidate_all();
        assert_eq!(storage.read_metadata("acme", &file).await.unwrap(), plain);
        let next = storage.write_metadata("acme", &table, Some(&file), Some("none"), plain.clone()).await;
        let next = next.unwrap();
        assert!(next.contains("/metadata/00001-") && !next.ends_with(".gz.metadata.json"), "{next}");
        assert_eq!(std::fs::read(next.strip_prefix("file://").unwrap()).unwrap(), plain);
    }
}
