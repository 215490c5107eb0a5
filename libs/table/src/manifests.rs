//! Manifest lists and manifests: reading them through a cache, and writing new ones.
//!
//! Both are immutable, so a cached one is always true; the caches are bounded by the bytes of the files.

mod live;
mod write;

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, TryStreamExt};
use iceberg::spec::{
    FormatVersion, Manifest, ManifestEntry, ManifestEntryRef, ManifestFile, ManifestList, ManifestStatus,
};
use moka::future::Cache;

use crate::{FileIo, TableError, TableErrorKind};
pub(crate) use live::{LiveFile, PartitionKey, copy_of, live_files};
pub(crate) use write::{ManifestEncoder, NewManifestList, write_manifest_list};

/// Bytes of Avro whose parsed form is kept: about what 200,000 files take. Parsed, it takes several times as much memory, which a plan
/// over so many files holds anyway; what nobody asks for is given back.
const CACHED_AVRO_BYTES: u64 = 64 << 20;
/// How long it is kept unasked for. Not for long: a table in use gets a new manifest with each commit, which holds what the former one did.
const CACHED_FOR: Duration = Duration::from_secs(60);
/// Manifests read at once.
const PARALLEL_READS: usize = 16;

/// A file's key: credentials are part of it (by the store's URL), so that nobody reads through another's access.
type Key = (String, String);

struct Parsed<T> {
    value: Arc<T>,
    avro_bytes: u32,
}

impl<T> Clone for Parsed<T> {
    fn clone(&self) -> Self {
        Self { value: Arc::clone(&self.value), avro_bytes: self.avro_bytes }
    }
}

/// Parsed manifest lists and manifests.
pub(crate) struct ManifestCache {
    lists: Cache<Key, Parsed<Vec<ManifestFile>>>,
    manifests: Cache<Key, Parsed<Vec<ManifestEntryRef>>>,
}

impl ManifestCache {
    pub(crate) fn new() -> Self {
        Self { lists: bounded(CACHED_AVRO_BYTES / 4), manifests: bounded(CACHED_AVRO_BYTES) }
    }
}

fn bounded<T: Send + Sync + 'static>(avro_bytes: u64) -> Cache<Key, Parsed<T>> {
    Cache::builder()
        .max_capacity(avro_bytes)
        .weigher(|_, parsed: &Parsed<T>| parsed.avro_bytes)
        .time_to_idle(CACHED_FOR)
        .build()
}

/// The manifests of a snapshot.
pub(crate) async fn load_manifest_list(
    file_io: &FileIo,
    location: &str,
    format_version: i64,
) -> Result<Arc<Vec<ManifestFile>>, TableError> {
    let version = match format_version {
        1 => FormatVersion::V1,
        2 => FormatVersion::V2,
        3 => FormatVersion::V3,
        other => return Err(TableError::unsupported(format!("{location} is of format version {other}"))),
    };
    cached(file_io, &file_io.manifests().lists, location, move |avro| {
        let list = ManifestList::parse_with_version(avro, version)?;
        Ok(list.consume_entries().into_iter().collect())
    })
    .await
}

/// A manifest's entries, with what they inherit from the manifest list filled in.
pub(crate) async fn load_manifest(
    file_io: &FileIo,
    manifest: &ManifestFile,
) -> Result<Arc<Vec<ManifestEntryRef>>, TableError> {
    let location = manifest.manifest_path.as_str();
    if manifest.key_metadata.is_some() {
        return Err(TableError::unsupported(format!("manifest {location} is encrypted")));
    }
    let (snapshot_id, sequence_number) = (manifest.added_snapshot_id, manifest.sequence_number);
    let first_row_id = manifest.first_row_id;
    cached(file_io, &file_io.manifests().manifests, location, move |avro| {
        let (entries, _) = Manifest::parse_avro(avro)?.into_parts();
        let inherit = |entry| inherit(Arc::unwrap_or_clone(entry), snapshot_id, sequence_number);
        let mut entries = entries.into_iter().map(inherit).collect::<Vec<_>>();
        if let Some(first_row_id) = first_row_id {
            assign_row_ids(&mut entries, first_row_id)?;
        }
        Ok(entries.into_iter().map(Arc::new).collect())
    })
    .await
}

/// Several manifests at once, in order.
pub(crate) async fn load_manifests(
    file_io: &FileIo,
    manifests: &[ManifestFile],
) -> Result<Vec<Arc<Vec<ManifestEntryRef>>>, TableError> {
    // Collected, since a lazy iterator of borrowing closures makes the future's `Send` unprovable.
    let read = |manifest: &ManifestFile| {
        let (file_io, manifest) = (file_io.clone(), manifest.clone());
        async move { load_manifest(&file_io, &manifest).await }
    };
    let reads = manifests.iter().map(read).collect::<Vec<_>>();
    futures::stream::iter(reads).buffered(PARALLEL_READS).try_collect().await
}

/// Entries written with null ids take the manifest's (specification, "Sequence Number Inheritance").
fn inherit(mut entry: ManifestEntry, snapshot_id: i64, sequence_number: i64) -> ManifestEntry {
    entry.snapshot_id.get_or_insert(snapshot_id);
    // Manifests of format 1, or from before an upgrade, have sequence number 0 for all entries.
    if entry.status == ManifestStatus::Added || sequence_number == 0 {
        entry.sequence_number.get_or_insert(sequence_number);
        entry.file_sequence_number.get_or_insert(sequence_number);
    }
    entry
}

/// Live data files without a first row id take theirs from the manifest's, one after the other (specification, "First Row ID
/// Inheritance").
fn assign_row_ids(entries: &mut [ManifestEntry], first_row_id: u64) -> iceberg::Result<()> {
    let mut next_row_id = i64::try_from(first_row_id).unwrap_or(i64::MAX);
    for entry in entries.iter_mut().filter(|entry| entry.is_alive()) {
        if entry.data_file.first_row_id().is_none() {
            let rows = i64::try_from(entry.data_file.record_count()).unwrap_or(i64::MAX);
            entry.data_file = live::with_first_row_id(&entry.data_file, next_row_id)?;
            next_row_id = next_row_id.saturating_add(rows);
        }
    }
    Ok(())
}

async fn cached<T: Send + Sync + 'static>(
    file_io: &FileIo,
    cache: &Cache<Key, Parsed<T>>,
    location: &str,
    parse: impl FnOnce(&[u8]) -> iceberg::Result<T> + Send + 'static,
) -> Result<Arc<T>, TableError> {
    let key = (file_io.resolve(location)?.url.as_str().to_owned(), location.to_owned());
    let load = async {
        let avro = file_io.read(location).await?;
        let avro_bytes = u32::try_from(avro.len()).unwrap_or(u32::MAX);
        let parsed = tokio::task::spawn_blocking(move || parse(&avro)).await;
        let parsed = parsed.map_err(|error| unreadable(location, error))?;
        let value = Arc::new(parsed.map_err(|error| unreadable(location, error))?);
        Ok::<_, TableError>(Parsed { value, avro_bytes })
    };
    let parsed = cache.try_get_with(key, load).await.map_err(|error: Arc<TableError>| {
        let context = error.context.clone();
        TableError::caused(error.kind, context, error)
    })?;
    Ok(parsed.value)
}

fn unreadable(location: &str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> TableError {
    TableError::caused(TableErrorKind::Storage, format!("{location} cannot be read as a manifest"), error)
}
