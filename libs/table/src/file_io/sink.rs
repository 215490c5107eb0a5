//! One new file, written in pieces.

use std::{fs::File, io::Write, path::PathBuf, sync::Arc};

use bytes::Bytes;
use object_store::{ObjectStore, buffered::BufWriter};
use tokio::io::AsyncWriteExt;

use super::local;
use crate::{TableError, TableErrorKind};

/// Bytes of one part of an S3 upload; fewer are sent with one PUT.
const PART_BYTES: usize = 8 << 20;

/// A file being written. Dropping it leaves a partial local file (an orphan) or an unfinished upload.
pub(crate) struct FileSink {
    location: String,
    target: Target,
}

enum Target {
    Local { path: PathBuf, file: Arc<File> },
    Object(Box<BufWriter>),
}

impl FileSink {
    pub(super) async fn local(location: &str, path: PathBuf) -> Result<Self, TableError> {
        let created = path.clone();
        let file = local::blocking(move || local::create_new(&created)).await.map_err(|error| {
            TableError::caused(TableErrorKind::Storage, format!("cannot create {location}"), error)
        })?;
        Ok(Self { location: location.to_owned(), target: Target::Local { path, file: Arc::new(file) } })
    }

    pub(super) fn object(
        location: &str,
        store: Arc<dyn ObjectStore>,
        path: object_store::path::Path,
    ) -> Self {
        let writer = BufWriter::with_capacity(store, path, PART_BYTES);
        Self { location: location.to_owned(), target: Target::Object(Box::new(writer)) }
    }

    pub(crate) async fn write(&mut self, bytes: Bytes) -> Result<(), TableError> {
        let written = match &mut self.target {
            Target::Local { file, .. } => {
                let file = Arc::clone(file);
                local::blocking(move || (&*file).write_all(&bytes)).await
            }
            Target::Object(writer) => writer.put(bytes).await.map_err(std::io::Error::from),
        };
        written.map_err(|error| self.failed("write", error))
    }

    /// Makes the file durable.
    pub(crate) async fn close(mut self) -> Result<(), TableError> {
        let closed = match &mut self.target {
            Target::Local { path, file } => {
                let (path, file) = (path.clone(), Arc::clone(file));
                local::blocking(move || local::sync(&file, &path)).await
            }
            Target::Object(writer) => writer.shutdown().await,
        };
        closed.map_err(|error| self.failed("close", error))
    }

    /// Gives the file up: what was written is removed, an upload is aborted.
    pub(crate) async fn abort(mut self) {
        let aborted = match &mut self.target {
            Target::Local { path, .. } => {
                let path = path.clone();
                local::blocking(move || std::fs::remove_file(path)).await
            }
            Target::Object(writer) => writer.abort().await.map_err(std::io::Error::from),
        };
        if let Err(error) = aborted {
            let location = self.location.as_str();
            tracing::warn!(
                location,
                error = &error as &dyn std::error::Error,
                "unfinished file stays behind"
            );
        }
    }

    fn failed(&self, verb: &str, error: std::io::Error) -> TableError {
        TableError::caused(TableErrorKind::Storage, format!("cannot {verb} {}", self.location), error)
    }
}
