//! Local files, synced with their folders.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read as _, Write as _},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use futures::stream::BoxStream;

use super::{
    FileError, Files, Location, StoredFile,
    list::{self, modified_ms},
};
use crate::CatalogError;

/// The local file system.
pub(super) struct LocalFiles;

#[async_trait::async_trait]
impl Files for LocalFiles {
    /// File and folders are synced when it returns.
    async fn write(&self, location: &Location, bytes: Bytes) -> Result<(), FileError> {
        run(location, "writing", move |path| write_synced(path, &bytes)).await
    }

    async fn replace(&self, location: &Location, bytes: Bytes) -> Result<(), FileError> {
        run(location, "replacing", move |path| {
            let fresh = path.with_added_extension(uuid::Uuid::new_v4().simple().to_string());
            write_synced(&fresh, &bytes)?;
            fs::rename(&fresh, path)?;
            sync_folder(path.parent().unwrap_or(Path::new("/")))
        })
        .await
    }

    async fn read(&self, location: &Location, limit: u64) -> Result<Bytes, FileError> {
        run(location, "reading", move |path| {
            let mut bytes = Vec::new();
            File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
            if bytes.len() as u64 > limit {
                return Err(io::Error::new(ErrorKind::FileTooLarge, format!("larger than {limit} bytes")));
            }
            Ok(Bytes::from(bytes))
        })
        .await
    }

    /// A link is `Missing`, as it is for a listing.
    async fn look(&self, location: &Location) -> Result<StoredFile, FileError> {
        let metadata = run(location, "looking at", |path| {
            let metadata = fs::symlink_metadata(path)?;
            let found = (metadata.len(), modified_ms(&metadata)?);
            if metadata.is_file() { Ok(found) } else { Err(ErrorKind::NotFound.into()) }
        });
        let (bytes, modified_ms) = metadata.await?;
        Ok(StoredFile { location: location.clone(), bytes, modified_ms })
    }

    async fn delete(&self, location: &Location) -> Result<(), FileError> {
        run(location, "deleting", |path| match fs::remove_file(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            outcome => outcome,
        })
        .await
    }

    fn list(&self, folder: Location) -> BoxStream<'static, Result<StoredFile, CatalogError>> {
        list::local(folder)
    }
}

async fn run<T: Send + 'static>(
    location: &Location,
    action: &'static str,
    work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> Result<T, FileError> {
    let path = PathBuf::from(format!("/{}", location.path()));
    match tokio::task::spawn_blocking(move || work(&path)).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) if error.kind() == ErrorKind::NotFound => Err(FileError::Missing(location.clone())),
        Ok(Err(error)) => Err(FileError::failed(action, location, error)),
        Err(error) => Err(FileError::failed(action, location, error)),
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    make_folders(folder)?;
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if written.is_err() {
        // Best effort: a half file under a name that nothing refers to is only an orphan.
        drop(fs::remove_file(path));
        return written;
    }
    sync_folder(folder)
}

/// Creates missing folders from the top, each synced into its parent: a file is only as durable as the way to it.
fn make_folders(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let Some(parent) = folder.parent() else { return Ok(()) };
    make_folders(parent)?;
    match fs::create_dir(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => sync_folder(parent),
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
