//! S3 and what speaks like it.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{StreamExt as _, stream::BoxStream};
use object_store::{
    ObjectStore as _, ObjectStoreExt as _,
    aws::{AmazonS3, AmazonS3Builder},
    path::Path,
};

use super::{FileError, Location, StoredFile};
use crate::{CatalogError, config::S3Config};

/// Listed objects that wait to be taken.
const LISTED_AHEAD: usize = 1024;

/// One bucket.
pub(super) struct S3Files {
    store: AmazonS3,
}

impl S3Files {
    /// Prepares access; asks the server nothing.
    pub(super) fn open(bucket: &str, config: &S3Config) -> Result<Self, String> {
        let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
        if let Some(endpoint) = &config.endpoint {
            builder = builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http:"));
        }
        if let Some(region) = &config.region {
            builder = builder.with_region(region);
        }
        if let Some((key_id, secret)) = &config.credentials {
            builder = builder.with_access_key_id(key_id).with_secret_access_key(secret);
        }
        let builder = builder.with_virtual_hosted_style_request(!config.path_style);
        Ok(Self { store: builder.build().map_err(|error| error.to_string())? })
    }

    /// Writes an object; durable when the server acknowledged it.
    pub(super) async fn write(&self, location: &Location, bytes: Bytes) -> Result<(), FileError> {
        let path = path("writing", location)?;
        self.store
            .put(&path, bytes.into())
            .await
            .map(|_| ())
            .map_err(|error| failed("writing", location, &error))
    }

    /// Reads an object of at most `limit` bytes.
    pub(super) async fn read(&self, location: &Location, limit: u64) -> Result<Bytes, FileError> {
        let path = path("reading", location)?;
        let answer = self.store.get(&path).await.map_err(|error| failed("reading", location, &error))?;
        if answer.meta.size > limit {
            let reason = format!("larger than {limit} bytes");
            return Err(FileError::Failed { action: "reading", location: location.clone(), reason });
        }
        answer.bytes().await.map_err(|error| failed("reading", location, &error))
    }

    /// All objects below a location.
    pub(super) fn list(&self, root: Location) -> BoxStream<'static, Result<StoredFile, CatalogError>> {
        let prefix = match path("listing", &root) {
            Ok(prefix) => prefix,
            Err(error) => {
                let error = CatalogError::Unavailable(error.to_string());
                return futures::stream::once(async { Err(error) }).boxed();
            }
        };
        // The stream borrows the store, so a task owns both.
        let (store, (files, mut listed)) = (self.store.clone(), tokio::sync::mpsc::channel(LISTED_AHEAD));
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

    /// Deletes an object, if it is there.
    pub(super) async fn delete(&self, location: &Location) -> Result<(), FileError> {
        let path = path("deleting", location)?;
        match self.store.delete(&path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed("deleting", location, &error)),
        }
    }
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
    Path::parse(location.path()).map_err(|error| FileError::Failed {
        action,
        location: location.clone(),
        reason: error.to_string(),
    })
}

fn failed(action: &'static str, location: &Location, error: &object_store::Error) -> FileError {
    match error {
        object_store::Error::NotFound { .. } => FileError::Missing(location.clone()),
        _ => FileError::Failed { action, location: location.clone(), reason: error.to_string() },
    }
}
