//! The object stores behind locations, one per bucket and credentials.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use datafusion::execution::object_store::ObjectStoreUrl;
use firn_runtime::s3;
use moka::sync::Cache;
use object_store::{ObjectStore, local::LocalFileSystem};

use super::{Location, ResolvedFile, StorageConfig};
use crate::{TableError, TableErrorKind};

/// Stores kept open; vended credentials change by the hour, so old ones must go.
const MAX_STORES: u64 = 64;

/// Distinguishes stores of one bucket under different credentials within DataFusion's registry.
static NEXT_STORE: AtomicU64 = AtomicU64::new(0);

#[derive(Clone, PartialEq, Eq, Hash)]
struct StoreKey {
    bucket: String,
    config: StorageConfig,
    session_token: Option<String>,
}

#[derive(Clone)]
struct CachedStore {
    store: Arc<dyn ObjectStore>,
    url: ObjectStoreUrl,
}

pub(super) struct StoreCache {
    local: CachedStore,
    s3: Cache<StoreKey, CachedStore>,
}

impl StoreCache {
    pub(super) fn new() -> Self {
        let local =
            CachedStore { store: Arc::new(LocalFileSystem::new()), url: ObjectStoreUrl::local_filesystem() };
        Self { local, s3: Cache::new(MAX_STORES) }
    }

    pub(super) fn resolve(
        &self,
        location: &Location,
        config: &StorageConfig,
        session_token: Option<&str>,
    ) -> Result<ResolvedFile, TableError> {
        let cached = match location {
            Location::Local { .. } => self.local.clone(),
            Location::S3 { bucket, .. } => self.s3(bucket, config, session_token)?,
        };
        Ok(ResolvedFile { store: cached.store, url: cached.url, path: location.path()? })
    }

    fn s3(
        &self,
        bucket: &str,
        config: &StorageConfig,
        session_token: Option<&str>,
    ) -> Result<CachedStore, TableError> {
        let key = StoreKey {
            bucket: bucket.to_owned(),
            config: config.clone(),
            session_token: session_token.map(str::to_owned),
        };
        self.s3.try_get_with(key.clone(), || open_s3(&key)).map_err(|error: Arc<TableError>| {
            TableError::caused(error.kind, format!("cannot open bucket {bucket}"), error)
        })
    }
}

fn open_s3(key: &StoreKey) -> Result<CachedStore, TableError> {
    let StorageConfig { endpoint, region, path_style, .. } = &key.config;
    let mut builder = s3::bucket(&key.bucket, endpoint.as_deref(), region.as_deref(), *path_style);
    if let Some((id, secret)) = &key.config.credentials {
        builder = builder.with_access_key_id(id).with_secret_access_key(secret);
    }
    if let Some(token) = &key.session_token {
        builder = builder.with_token(token);
    }
    let store = builder.build().map_err(|error| {
        TableError::caused(
            TableErrorKind::Storage,
            format!("the settings for s3://{} are incomplete", key.bucket),
            error,
        )
    })?;
    let number = NEXT_STORE.fetch_add(1, Ordering::Relaxed);
    let url = ObjectStoreUrl::parse(format!("firn-s3-{number}://{}", key.bucket)).map_err(|error| {
        TableError::caused(TableErrorKind::Invalid, format!("'{}' is not a bucket name", key.bucket), error)
    })?;
    Ok(CachedStore { store: Arc::new(store), url })
}
