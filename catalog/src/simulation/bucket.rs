//! An object store in memory, and a process's way to it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use futures::{StreamExt as _, stream, stream::BoxStream};

use super::{
    chance::{Chance, Fate},
    ledger::{Count, Sequence},
    life::Life,
};
use crate::{
    CatalogError,
    storage::{FileError, Files, Location, StoredFile},
};

/// Objects by location, those that were deleted included. Cheap to clone.
#[derive(Clone)]
pub(super) struct Bucket {
    objects: Arc<Mutex<BTreeMap<Location, Object>>>,
    sequence: Sequence,
}

/// An object as it was last written.
#[derive(Clone)]
pub(super) struct Object {
    pub(super) bytes: Bytes,
    pub(super) written: Count,
    pub(super) deleted: Option<Count>,
}

impl Bucket {
    pub(super) fn new(sequence: &Sequence) -> Self {
        Self { objects: Arc::default(), sequence: sequence.clone() }
    }

    /// All objects that there ever were.
    pub(super) fn all(&self) -> BTreeMap<Location, Object> {
        self.objects().clone()
    }

    fn write(&self, location: &Location, bytes: Bytes) {
        let object = Object { bytes, written: self.sequence.next(), deleted: None };
        self.objects().insert(location.clone(), object);
    }

    fn read(&self, location: &Location) -> Option<Bytes> {
        let objects = self.objects();
        objects.get(location).filter(|object| object.deleted.is_none()).map(|object| object.bytes.clone())
    }

    fn delete(&self, location: &Location) {
        let at = self.sequence.next();
        if let Some(object) = self.objects().get_mut(location) {
            object.deleted.get_or_insert(at);
        }
    }

    fn below(&self, folder: &Location) -> Vec<StoredFile> {
        let objects = self.objects();
        let present = objects.iter().filter(|(_, object)| object.deleted.is_none());
        let below = present.filter(|(location, _)| location.is_within(folder));
        below.map(|(location, object)| stored(location, object.bytes.len())).collect()
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<Location, Object>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stored(location: &Location, bytes: usize) -> StoredFile {
    StoredFile { location: location.clone(), bytes: bytes as u64, modified_ms: 0 }
}

/// A process's way to the bucket: what is asked may fail, overtake, or be done without an answer.
#[derive(Clone)]
pub(super) struct Path {
    pub(super) bucket: Bucket,
    pub(super) chance: Chance,
    pub(super) life: Life,
}

impl Path {
    async fn change(
        &self,
        action: &'static str,
        location: &Location,
        change: impl FnOnce() + Send,
    ) -> Result<(), FileError> {
        self.chance.travel().await;
        self.life.goes_on().await;
        let fate = self.chance.fate();
        if matches!(fate, Fate::Done | Fate::LostAfter | Fate::LostAhead | Fate::LostWithin) {
            change();
        }
        self.chance.travel().await;
        self.life.goes_on().await;
        if fate == Fate::Done { Ok(()) } else { Err(failed(action, location)) }
    }

    async fn ask<T: Send>(
        &self,
        action: &'static str,
        location: &Location,
        answer: impl FnOnce() -> T + Send,
    ) -> Result<T, FileError> {
        self.chance.travel().await;
        self.life.goes_on().await;
        if self.chance.fails() {
            return Err(failed(action, location));
        }
        let answer = answer();
        self.chance.travel().await;
        self.life.goes_on().await;
        Ok(answer)
    }
}

fn failed(action: &'static str, location: &Location) -> FileError {
    let reason = "the object store doesn't answer".to_owned();
    FileError::Failed { action, location: location.clone(), reason }
}

#[async_trait::async_trait]
impl Files for Path {
    async fn write(&self, location: &Location, bytes: Bytes) -> Result<(), FileError> {
        self.change("writing", location, || self.bucket.write(location, bytes)).await
    }

    async fn replace(&self, location: &Location, bytes: Bytes) -> Result<(), FileError> {
        self.write(location, bytes).await
    }

    async fn read(&self, location: &Location, _: u64) -> Result<Bytes, FileError> {
        let found = self.ask("reading", location, || self.bucket.read(location)).await?;
        found.ok_or_else(|| FileError::Missing(location.clone()))
    }

    async fn look(&self, location: &Location) -> Result<StoredFile, FileError> {
        let bytes = self.read(location, u64::MAX).await?;
        Ok(stored(location, bytes.len()))
    }

    async fn delete(&self, location: &Location) -> Result<(), FileError> {
        self.change("deleting", location, || self.bucket.delete(location)).await
    }

    fn list(&self, folder: Location) -> BoxStream<'static, Result<StoredFile, CatalogError>> {
        let path = self.clone();
        let listed = async move {
            let found = path.ask("listing", &folder, || path.bucket.below(&folder)).await;
            let found = found.map_err(|error| CatalogError::Unavailable(error.to_string()));
            stream::iter(match found {
                Ok(files) => files.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            })
        };
        stream::once(listed).flatten().boxed()
    }
}
