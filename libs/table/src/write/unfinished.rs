//! New files that nothing leads to yet.

use std::collections::HashMap;

use bytes::Bytes;
use tokio::{runtime::Handle, task::JoinHandle};

use super::WrittenFile;
use crate::{FileIo, Pace, TableError, TableErrorKind, file_io::FileSink};

/// New files that are to be removed unless they are kept. Work that is given up in its midst, as when a lease is lost, drops them, and
/// then they are removed in the background; only what a process leaves that ends there is left to orphan removal.
pub(crate) struct UnfinishedFiles {
    left: Left,
    /// How fast they are written.
    pace: Option<Pace>,
}

/// What there is to remove.
struct Left {
    file_io: FileIo,
    /// A file that is being opened, which goes on even if nobody waits for it any more.
    opening: Option<JoinHandle<Result<FileSink, TableError>>>,
    /// Open ones by their number.
    sinks: HashMap<usize, FileSink>,
    /// Of all that were opened.
    locations: Vec<String>,
}

impl UnfinishedFiles {
    pub(crate) fn new(file_io: &FileIo, pace: Option<Pace>) -> Self {
        Self { left: Left::none(file_io), pace }
    }

    /// Files that are closed, but not yet committed.
    pub(crate) fn of(file_io: &FileIo, files: &[WrittenFile]) -> Self {
        let mut unfinished = Self::new(file_io, None);
        unfinished.left.locations.extend(files.iter().map(|file| file.location.clone()));
        unfinished
    }

    /// Appends to a file, which is opened first if it isn't yet.
    pub(super) async fn write(
        &mut self,
        file: usize,
        location: &str,
        bytes: Bytes,
    ) -> Result<(), TableError> {
        if !self.left.sinks.contains_key(&file) {
            self.left.open(file, location).await?;
        }
        if let Some(pace) = &self.pace {
            pace.spend(bytes.len() as u64).await;
        }
        match self.left.sinks.get_mut(&file).filter(|_| !bytes.is_empty()) {
            Some(sink) => sink.write(bytes).await,
            None => Ok(()),
        }
    }

    /// Makes a file durable.
    pub(super) async fn close(&mut self, file: usize) -> Result<(), TableError> {
        match self.left.sinks.remove(&file) {
            Some(sink) => sink.close().await,
            None => Ok(()),
        }
    }

    /// The files stay.
    pub(crate) fn keep(mut self) {
        self.left.locations.clear();
    }

    /// The files go.
    pub(crate) async fn remove(mut self) {
        self.left.take().remove().await;
    }
}

impl Drop for UnfinishedFiles {
    fn drop(&mut self) {
        if self.left.is_empty() {
            return;
        }
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(self.left.take().remove());
        }
    }
}

impl Left {
    fn none(file_io: &FileIo) -> Self {
        Self { file_io: file_io.clone(), opening: None, sinks: HashMap::new(), locations: Vec::new() }
    }

    fn is_empty(&self) -> bool {
        self.opening.is_none() && self.locations.is_empty()
    }

    fn take(&mut self) -> Self {
        let none = Self::none(&self.file_io);
        std::mem::replace(self, none)
    }

    async fn open(&mut self, file: usize, location: &str) -> Result<(), TableError> {
        let (file_io, opened) = (self.file_io.clone(), location.to_owned());
        let opening = self.opening.insert(tokio::spawn(async move { file_io.create(&opened).await }));
        let sink = opening.await;
        self.opening = None;
        let sink = sink.map_err(|error| {
            TableError::caused(TableErrorKind::Storage, format!("cannot create {location}"), error)
        });
        // Only now it is certain that the file is this one's.
        self.sinks.insert(file, sink??);
        self.locations.push(location.to_owned());
        Ok(())
    }

    async fn remove(self) {
        if let Some(Ok(Ok(sink))) = futures::future::OptionFuture::from(self.opening).await {
            sink.abort().await;
        }
        for sink in self.sinks.into_values() {
            sink.abort().await;
        }
        self.file_io.delete_unreferenced(&self.locations).await;
    }
}
