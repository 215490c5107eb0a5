//! Durable writes of local files: a file counts as written once it and the folders that name it are synced.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use bytes::Bytes;

/// Creates the file, which must not exist, writes and syncs it.
pub(super) async fn write_new(path: PathBuf, bytes: Bytes) -> io::Result<()> {
    blocking(move || {
        let mut file = create_new(&path)?;
        let written = file.write_all(&bytes).and_then(|()| sync(&file, &path));
        if written.is_err() {
            // Half a file under a name that nobody knows yet; failing to remove it leaves an orphan, no harm.
            let _ = fs::remove_file(&path);
        }
        written
    })
    .await
}

/// Puts a file in the place of another at once: readers see the one or the other.
pub(super) async fn replace(path: PathBuf, bytes: Bytes) -> io::Result<()> {
    blocking(move || {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let beside = path.with_file_name(name);
        // What an earlier try left behind.
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = create_new(&beside)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&beside, &path)?;
        path.parent().map_or(Ok(()), sync_folder)
    })
    .await
}

/// Opens a file that must not exist, creating and syncing its folders.
pub(super) fn create_new(path: &Path) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        create_folders(folder)?;
    }
    OpenOptions::new().write(true).create_new(true).open(path)
}

/// Syncs a file and the folder that names it.
pub(super) fn sync(file: &File, path: &Path) -> io::Result<()> {
    file.sync_all()?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// Runs blocking file work off the async threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Like `create_dir_all`, but each new folder is durable in its parent before it is used.
fn create_folders(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        create_folders(parent)?;
    }
    match fs::create_dir(folder) {
        Ok(()) => folder.parent().map_or(Ok(()), sync_folder),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
