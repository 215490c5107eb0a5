//! S3 and what speaks like it.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use firn_runtime::{reload::Live, s3};
use futures::{StreamExt as _, stream::BoxStream};
use moka::sync::Cache;
use object_store::{
    CredentialProvider, ObjectStore as _, ObjectStoreExt as _,
    aws::{AmazonS3, AmazonS3Builder, AwsCredential, AwsCredentialProvider},
    path::Path,
};

use super::{FileError, Files, Location, StoredFile};
use crate::{CatalogError, config::S3Config};

/// Listed objects that wait to be taken.
const LISTED_AHEAD: usize = 1024;

/// Buckets whose connections are kept.
const MAX_BUCKETS: u64 = 1024;

/// All buckets of the warehouse.
pub(super) struct S3Files {
    config: S3Config,
    identity: AwsCredentialProvider,
    buckets: Cache<String, AmazonS3>,
}

impl S3Files {
    /// Prepares access; asks the server nothing.
    pub(super) fn open(config: &S3Config) -> Result<Self, String> {
        let probe = builder("any", config);
        let identity: AwsCredentialProvider = match &config.credentials {
            Some(keys) => {
                let identity = Arc::new(Keys(keys.clone()));
                let probe = probe.with_credentials(identity.clone()).build();
                probe.map_err(|error| error.to_string())?;
                identity
            }
            None => probe.build().map_err(|error| error.to_string())?.credentials().clone(),
        };
        Ok(Self { config: config.clone(), identity, buckets: Cache::new(MAX_BUCKETS) })
    }

    /// The bucket of a location.
    fn store(&self, action: &'static str, location: &Location) -> Result<AmazonS3, FileError> {
        let bucket = location.bucket().unwrap_or_default();
        let open = || builder(bucket, &self.config).with_credentials(self.identity.clone()).build();
        self.buckets
            .try_get_with_by_ref(bucket, open)
            .map_err(|error: Arc<object_store::Error>| FileError::failed(action, location, error))
    }
}

#[async_trait::async_trait]
impl Files for S3Files {
    fn identity(&self) -> Option<AwsCredentialProvider> {
        Some(self.identity.clone())
    }

    /// Durable when the server acknowledged it.
    async fn write(&self, location: &Location, bytes: Bytes) -> Result<(), FileError> {
        let path = path("writing", location)?;
        self.store("writing", location)?
            .put(&path, bytes.into())
            .await
            .map(|_| ())
            .map_err(|error| failed("writing", location, &error))
    }

    /// A PUT replaces as it writes.
    async fn replace(&self, location: &Location, bytes: Bytes) -> Result<(), FileError> {
        self.write(location, bytes).await
    }

    async fn read(&self, location: &Location, limit: u64) -> Result<Bytes, FileError> {
        let path = path("reading", location)?;
        let store = self.store("reading", location)?;
        let answer = store.get(&path).await.map_err(|error| failed("reading", location, &error))?;
        if answer.meta.size > limit {
            let reason = format!("larger than {limit} bytes");
            return Err(FileError::failed("reading", location, reason));
        }
        answer.bytes().await.map_err(|error| failed("reading", location, &error))
    }

    fn list(&self, root: Location) -> BoxStream<'static, Result<StoredFile, CatalogError>> {
        let opened = path("listing", &root).and_then(|path| Ok((path, self.store("listing", &root)?)));
        let (prefix, store) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let error = CatalogError::Unavailable(error.to_string());
                return futures::stream::once(async { Err(error) }).boxed();
            }
        };
        // The stream borrows the store, so a task owns both.
        let (files, mut listed) = tokio::sync::mpsc::channel(LISTED_AHEAD);
        tokio::spawn(async move {
            let mut objects = store.list(Some(&prefix));
            while let Some(object) = objects.next().await {
                let file = match object {
                    Ok(object) => Ok(StoredFile {
                        location: root.in_bucket(object.location.as_ref()),
                        bytes: object.size,
                        modified_ms: object.last_modified.timestamp_millis(),
                    }),
                    Err(error) => Err(CatalogError::Unavailable(format!("listing '{root}': {error}"))),
                };
                // Who no longer listens needs nothing.
                if files.send(file).await.is_err() {
                    return;
                }
            }
        });
        futures::stream::poll_fn(move |context| listed.poll_recv(context)).boxed()
    }

    async fn look(&self, location: &Location) -> Result<StoredFile, FileError> {
        let path = path("looking at", location)?;
        let found = self.store("looking at", location)?.head(&path).await;
        let found = found.map_err(|error| failed("looking at", location, &error))?;
        let (bytes, modified_ms) = (found.size, found.last_modified.timestamp_millis());
        Ok(StoredFile { location: location.clone(), bytes, modified_ms })
    }

    async fn delete(&self, location: &Location) -> Result<(), FileError> {
        let path = path("deleting", location)?;
        match self.store("deleting", location)?.delete(&path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed("deleting", location, &error)),
        }
    }
}

/// The configured keys, as they are at the time.
#[derive(Debug)]
struct Keys(Live<(String, String)>);

#[async_trait::async_trait]
impl CredentialProvider for Keys {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let (key_id, secret_key) = self.0.get().as_ref().clone();
        Ok(Arc::new(AwsCredential { key_id, secret_key, token: None }))
    }
}

/// Access to a bucket, but for the keys.
fn builder(bucket: &str, config: &S3Config) -> AmazonS3Builder {
    s3::bucket(bucket, config.endpoint.as_deref(), config.region.as_deref(), config.path_style)
}

/// What clients need to reach the bucket. Keys are theirs to bring.
pub(super) fn table_config(config: &S3Config) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    let mut set = |key: &str, value: &str| settings.insert(key.to_owned(), value.to_owned());
    if let Some(endpoint) = &config.endpoint {
        set("s3.endpoint", endpoint);
    }
    if let Some(region) = &config.region {
        // Java reads the second, PyIceberg, DuckDB and Go the first.
        set("s3.region", region);
        set("client.region", region);
    }
    set("s3.path-style-access", if config.path_style { "true" } else { "false" });
    settings
}

fn path(action: &'static str, location: &Location) -> Result<Path, FileError> {
    Path::parse(location.path()).map_err(|error| FileError::failed(action, location, error))
}

fn failed(action: &'static str, location: &Location, error: &object_store::Error) -> FileError {
    match error {
        object_store::Error::NotFound { .. } => FileError::Missing(location.clone()),
        _ => FileError::failed(action, location, error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn configured_keys_are_those_of_the_moment() {
        let keys = Live::new(("one".to_owned(), "1".to_owned()));
        let config = S3Config { credentials: Some(keys.clone()), ..S3Config::default() };
        let identity = S3Files::open(&config).unwrap().identity().unwrap();
        assert_eq!(identity.get_credential().await.unwrap().key_id, "one");
        keys.set(("two".to_owned(), "2".to_owned()));
        let now = identity.get_credential().await.unwrap();
        assert_eq!((now.key_id.as_str(), now.secret_key.as_str()), ("two", "2"));
    }
}
