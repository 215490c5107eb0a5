//! Files on local disks or on S3.

use bytes::Bytes;

use super::{Location, local::LocalFiles, s3::S3Files};
use crate::CatalogError;

/// Where files lie. Both kinds answer alike: a write is durable when it returns, deleting what is absent is no error.
pub(super) enum Files {
    Local(LocalFiles),
    S3(Box<S3Files>),
}

/// A file that can't be read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    /// It isn't there.
    #[error("'{0}' does not exist")]
    Missing(Location),
    /// Storage failed; the file may be there or not.
    #[error("{action} '{location}': {reason}")]
    Failed {
        /// What was attempted.
        action: &'static str,
        /// Where.
        location: Location,
        /// Why it failed.
        reason: String,
    },
}

impl From<FileError> for CatalogError {
    fn from(error: FileError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl Files {
    /// Writes a new file.
    pub(super) async fn write(&self, location: &Location, bytes: Bytes) -> Result<(), FileError> {
        match self {
            Self::Local(files) => files.write(location, bytes).await,
            Self::S3(files) => files.write(location, bytes).await,
        }
    }

    /// Writes a file over the one that may be there.
    pub(super) async fn replace(&self, location: &Location, bytes: Bytes) -> Result<(), FileError> {
        match self {
            Self::Local(files) => files.replace(location, bytes).await,
            Self::S3(files) => files.write(location, bytes).await,
        }
    }

    /// Reads a file of at most `limit` bytes.
    pub(super) async fn read(&self, location: &Location, limit: u64) -> Result<Bytes, FileError> {
        match self {
            Self::Local(files) => files.read(location, limit).await,
            Self::S3(files) => files.read(location, limit).await,
        }
    }

    /// Deletes a file, if it is there.
    pub(super) async fn delete(&self, location: &Location) -> Result<(), FileError> {
        match self {
            Self::Local(files) => files.delete(location).await,
            Self::S3(files) => files.delete(location).await,
        }
    }
}
