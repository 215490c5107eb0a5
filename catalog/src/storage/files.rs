//! What holds files: a file system, a bucket.

use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::aws::AwsCredentialProvider;

use super::{Location, StoredFile};
use crate::CatalogError;

/// Where files lie. All kinds answer alike: a write is durable when it returns, deleting what is absent is no error.
#[async_trait::async_trait]
pub(crate) trait Files: Send + Sync {
    /// Writes a new file.
    async fn write(&self, location: &Location, bytes: Bytes) -> Result<(), FileError>;

    /// Writes over a file that may be there: readers see the one or the other.
    async fn replace(&self, location: &Location, bytes: Bytes) -> Result<(), FileError>;

    /// Reads a file of at most `limit` bytes.
    async fn read(&self, location: &Location, limit: u64) -> Result<Bytes, FileError>;

    /// A file as it is now.
    async fn look(&self, location: &Location) -> Result<StoredFile, FileError>;

    /// Deletes a file, if it is there.
    async fn delete(&self, location: &Location) -> Result<(), FileError>;

    /// All files below a folder, in no order.
    fn list(&self, folder: Location) -> BoxStream<'static, Result<StoredFile, CatalogError>>;

    /// Whose keys reach them, where keys are needed.
    fn identity(&self) -> Option<AwsCredentialProvider> {
        None
    }
}

/// A file that can't be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
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

impl FileError {
    /// What failed at a file.
    pub(super) fn failed(action: &'static str, location: &Location, reason: impl ToString) -> Self {
        Self::Failed { action, location: location.clone(), reason: reason.to_string() }
    }
}

impl From<FileError> for CatalogError {
    fn from(error: FileError) -> Self {
        Self::Unavailable(error.to_string())
    }
}
