//! Listing files: all of a tenant for garbage collection, all of the warehouse for a rebuild.

use std::{fs, io, path::Path, time::UNIX_EPOCH};

use futures::{StreamExt as _, stream::BoxStream};
use tokio::sync::mpsc;

use super::{FileError, Location, Storage};
use crate::CatalogError;

/// Files that wait to be taken.
const AHEAD: usize = 1024;

/// A file as its storage lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredFile {
    pub(crate) location: Location,
    pub(crate) bytes: u64,
    /// When it was written, in milliseconds since the epoch, by the storage's clock.
    pub(crate) modified_ms: i64,
}

impl Storage {
    /// All files below a tenant's root, in no order.
    pub(crate) fn list(&self, tenant: &str) -> BoxStream<'static, Result<StoredFile, CatalogError>> {
        self.list_below(self.tenant_root(tenant))
    }

    /// A table's metadata file that lies below a place, or right beside the way to it: then the place is another table's, or
    /// in one. Whoever is given a place that holds another one's reaches both. `own` is the file that took the place.
    pub(crate) async fn occupant(
        &self,
        tenant: &str,
        place: &Location,
        own: Option<&Location>,
    ) -> Result<Option<Location>, CatalogError> {
        let root = self.tenant_root(tenant);
        let around = place.folders().take_while(|folder| folder.is_within(&root));
        let around = around.map(|folder| folder.join("metadata"));
        let searched: Vec<_> =
            around.chain([place.clone()]).map(|folder| self.first_metadata(folder, own)).collect();
        Ok(futures::future::try_join_all(searched).await?.into_iter().flatten().next())
    }

    async fn first_metadata(
        &self,
        folder: Location,
        own: Option<&Location>,
    ) -> Result<Option<Location>, CatalogError> {
        let mut files = self.list_below(folder);
        while let Some(file) = files.next().await {
            let location = file?.location;
            if location.name().ends_with(".metadata.json") && Some(&location) != own {
                return Ok(Some(location));
            }
        }
        Ok(None)
    }

    /// A file as it is now; none if it is gone.
    pub(crate) async fn look(&self, location: &Location) -> Result<Option<StoredFile>, CatalogError> {
        match self.inner.files.look(location).await {
            Ok(file) => Ok(Some(file)),
            Err(FileError::Missing(_)) => Ok(None),
            Err(error @ FileError::Failed { .. }) => Err(CatalogError::Unavailable(error.to_string())),
        }
    }

    /// All files below a folder, in no order.
    pub(crate) fn list_below(
        &self,
        folder: Location,
    ) -> BoxStream<'static, Result<StoredFile, CatalogError>> {
        self.inner.files.list(folder)
    }
}

/// All files below a folder of the local file system.
pub(super) fn local(root: Location) -> BoxStream<'static, Result<StoredFile, CatalogError>> {
    let (files, mut listed) = mpsc::channel(AHEAD);
    tokio::task::spawn_blocking(move || {
        let path = format!("/{}", root.path());
        if let Err(error) = walk(Path::new(&path), &root, &files) {
            let text = format!("listing '{root}': {error}");
            // Who no longer listens needs no error.
            drop(files.blocking_send(Err(CatalogError::Unavailable(text))));
        }
    });
    futures::stream::poll_fn(move |context| listed.poll_recv(context)).boxed()
}

type Sender = mpsc::Sender<Result<StoredFile, CatalogError>>;

/// Stops without an error when nobody listens any more.
fn walk(folder: &Path, location: &Location, files: &Sender) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        // Links are nobody's that Firn made, and lead out of the tenant's folder.
        let Ok(name) = entry.file_name().into_string() else { continue };
        let kind = entry.file_type()?;
        let location = location.join(&name);
        if kind.is_dir() {
            walk(&entry.path(), &location, files)?;
        } else if kind.is_file() {
            let metadata = match entry.metadata() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                metadata => metadata?,
            };
            let file = StoredFile { location, bytes: metadata.len(), modified_ms: modified_ms(&metadata)? };
            if files.blocking_send(Ok(file)).is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// When a file was written, in milliseconds since the epoch.
pub(super) fn modified_ms(metadata: &fs::Metadata) -> io::Result<i64> {
    let since = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
