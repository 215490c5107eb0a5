//! One pass: everything that leads to rows that are meant is written anew, from the data files up to the metadata files.

use std::{
    collections::{HashMap, HashSet},
    io::Write as _,
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use futures::{StreamExt, TryStreamExt, stream};
use iceberg::spec::{
    DataContentType, DataFile, FormatVersion, Manifest, ManifestContentType, ManifestEntry, ManifestFile,
    SchemaRef, Struct,
};
use parquet::file::metadata::ParquetMetaData;
use serde_json::{Value, json};

use super::{
    Applied, PARALLEL, Scrub, Survey, contents,
    deletes::DeleteKey,
    names::plain,
    survey::{COMPRESSED_METADATA, Document, parse_document, unreadable},
};
use crate::{
    TableError, TableErrorKind,
    manifests::{
        ManifestEncoder, NewManifestList, copy_of, load_manifest, load_manifest_list, write_manifest_list,
    },
    write::{ClosedFile, data_file},
};

/// A data file in the place of another.
pub(super) struct NewFile {
    pub(super) location: String,
    size_bytes: u64,
    metadata: ParquetMetaData,
}

/// What a pass has in hand.
#[derive(Default)]
pub(super) struct Pass {
    /// Data files that were replaced, by plain location; `None` if no row is left.
    pub(super) files: HashMap<String, Option<NewFile>>,
    /// Delete files that were replaced; `None` if nothing is left to delete.
    pub(super) deletes: HashMap<DeleteKey, Option<DataFile>>,
    /// Manifests that were replaced, by plain location; `None` if no entry is left.
    manifests: HashMap<String, Option<ManifestFile>>,
    applied: Applied,
}

impl Scrub {
    /// Writes anew what leads to the rows that a survey found. What it replaced stays until [`Scrub::remove`].
    pub async fn apply(&mut self, survey: &Survey) -> Result<Applied, TableError> {
        if survey.is_clean() {
            return Ok(Applied::default());
        }
        let mut pass = Pass::default();
        self.rewrite_files(survey, &mut pass).await?;
        self.rewrite_deletes(survey, &mut pass).await?;
        self.rewrite_manifests(survey, &mut pass).await?;
        let lists = self.rewrite_lists(survey, &mut pass).await?;
        for document in &survey.tree.documents {
            self.rewrite_document(survey, document, &lists, &mut pass).await?;
        }
        let Pass { files, deletes, manifests, mut applied } = pass;
        applied.files = (files.len() + deletes.len()) as u64;
        applied.manifests = (manifests.len() + lists.len()) as u64;
        self.replaced.extend(files.into_keys().chain(manifests.into_keys()));
        self.replaced.extend(deletes.into_keys().map(|(location, _)| location));
        self.replaced.extend(lists.keys().map(|list| plain(&survey.tree.lists[*list].location)));
        Ok(applied)
    }

    async fn rewrite_files(&mut self, survey: &Survey, pass: &mut Pass) -> Result<(), TableError> {
        let mut rewrites = Vec::new();
        for (key, positions) in &survey.dirty {
            let Some(file) = survey.tree.files.get(key) else { continue };
            let location = self.new_location(&file.location, ".parquet");
            let (file_io, old, positions) = (self.file_io.clone(), file.location.clone(), positions.clone());
            let (key, first_row_id) = (key.clone(), file.first_row_id);
            pass.applied.rows += positions.len();
            rewrites.push(async move {
                let bytes = file_io.read(&old).await?;
                let cleaned =
                    tokio::task::spawn_blocking(move || contents::without(bytes, &positions, first_row_id));
                let cleaned = cleaned.await.map_err(|error| unreadable(&old, error))?;
                let cleaned = cleaned.map_err(|error| unreadable(&old, error))?;
                if cleaned.metadata.file_metadata().num_rows() == 0 {
                    return Ok((key, None));
                }
                let size_bytes = cleaned.bytes.len() as u64;
                file_io.write_new(&location, cleaned.bytes).await?;
                Ok::<_, TableError>((key, Some(NewFile { location, size_bytes, metadata: cleaned.metadata })))
            });
        }
        pass.files = stream::iter(rewrites).buffer_unordered(PARALLEL).try_collect().await?;
        // They hold none of the rows by their making.
        self.clean.extend(pass.files.values().flatten().map(|file| plain(&file.location)));
        Ok(())
    }

    async fn rewrite_manifests(&mut self, survey: &Survey, pass: &mut Pass) -> Result<(), TableError> {
        for (key, (manifest, _)) in &survey.tree.manifests {
            if !survey.tree.stored.contains_key(key) {
                continue;
            }
            let entries = load_manifest(&self.file_io, manifest).await?;
            if entries.iter().any(|entry| pass.replaces(entry)) {
                let written = self.rewrite_manifest(manifest, pass).await?;
                pass.manifests.insert(key.clone(), written);
            }
        }
        Ok(())
    }

    /// The same manifest for the same snapshot, with other files.
    async fn rewrite_manifest(
        &mut self,
        old: &ManifestFile,
        pass: &Pass,
    ) -> Result<Option<ManifestFile>, TableError> {
        let avro = self.file_io.read(&old.manifest_path).await?;
        let parsed = Manifest::parse_avro(&avro).map_err(|error| unreadable(&old.manifest_path, error))?;
        let metadata = parsed.metadata();
        let version = if *metadata.format_version() == FormatVersion::V3 { 3 } else { 2 };
        let location = self.new_location(&old.manifest_path, "-m.avro");
        let (schema, spec) = (SchemaRef::clone(metadata.schema()), metadata.partition_spec().clone());
        let snapshot_id = old.added_snapshot_id;
        let mut encoder =
            ManifestEncoder::new(location, old.content, version, snapshot_id, schema.clone(), spec)?;
        let mut is_empty = true;
        for entry in load_manifest(&self.file_io, old).await?.iter() {
            if let Some(file) = pass.file_of(entry, old.partition_spec_id, &schema)? {
                encoder.copy(entry, file)?;
                is_empty = false;
            }
        }
        if is_empty {
            return Ok(None);
        }
        let written = encoder.write(&self.file_io).await?;
        Ok(Some(ManifestFile {
            sequence_number: old.sequence_number,
            min_sequence_number: old.min_sequence_number,
            first_row_id: old.first_row_id,
            ..written
        }))
    }

    /// New manifest lists, by the old one's place, with the snapshot's new counts.
    async fn rewrite_lists(
        &mut self,
        survey: &Survey,
        pass: &mut Pass,
    ) -> Result<HashMap<usize, (String, Value)>, TableError> {
        let mut written = HashMap::new();
        for (index, list) in survey.tree.lists.iter().enumerate() {
            if !survey.tree.stored.contains_key(&plain(&list.location)) {
                continue;
            }
            let old = load_manifest_list(&self.file_io, &list.location, list.format_version).await?;
            if !old.iter().any(|manifest| pass.manifests.contains_key(&plain(&manifest.manifest_path))) {
                continue;
            }
            let manifests: Vec<ManifestFile> = old
                .iter()
                .filter_map(|manifest| match pass.manifests.get(&plain(&manifest.manifest_path)) {
                    Some(replaced) => replaced.clone(),
                    None => Some(manifest.clone()),
                })
                .collect();
            let new = NewManifestList {
                location: self.new_location(&list.location, "-snap.avro"),
                // Lists from before an upgrade to format 3 assign no row ids.
                format_version: if list.first_row_id.is_some() { 3 } else { 2 },
                snapshot_id: list.snapshot_id,
                parent_id: list.parent_id,
                sequence_number: list.sequence_number,
                first_row_id: list.first_row_id,
            };
            let counts = counts(&manifests, list.snapshot_id);
            write_manifest_list(&self.file_io, &new, manifests).await?;
            written.insert(index, (new.location, counts));
        }
        Ok(written)
    }

    async fn rewrite_document(
        &self,
        survey: &Survey,
        document: &Document,
        lists: &HashMap<usize, (String, Value)>,
        pass: &mut Pass,
    ) -> Result<(), TableError> {
        if !document.lists.iter().any(|list| lists.contains_key(list)) {
            return Ok(());
        }
        let location = &document.location;
        let replaced: HashMap<String, &(String, Value)> =
            lists.iter().map(|(index, new)| (plain(&survey.tree.lists[*index].location), new)).collect();
        let bytes = match self.file_io.read(location).await {
            // It was collected meanwhile.
            Err(error) if error.kind == TableErrorKind::NotFound => return Ok(()),
            read => read?,
        };
        let mut parsed = parse_document(location, &bytes)?;
        redirect(&mut parsed, &replaced);
        let text = parsed.to_string().into_bytes();
        self.file_io.replace(location, encode_document(location, text)?).await?;
        pass.applied.metadata.push(location.clone());
        Ok(())
    }
}

impl Pass {
    /// Whether an entry's file was replaced.
    fn replaces(&self, entry: &ManifestEntry) -> bool {
        match entry.data_file.content_type() {
            DataContentType::PositionDeletes => {
                self.deletes.contains_key(&super::deletes::delete_key(&entry.data_file))
            }
            _ => self.files.contains_key(&plain(entry.file_path())),
        }
    }

    /// The file that an entry is to name; `None` if it is to go.
    fn file_of(
        &self,
        entry: &ManifestEntry,
        spec_id: i32,
        schema: &SchemaRef,
    ) -> Result<Option<DataFile>, TableError> {
        let old = &entry.data_file;
        if old.content_type() == DataContentType::PositionDeletes {
            let replaced = self.deletes.get(&super::deletes::delete_key(old));
            return Ok(replaced.map_or_else(|| Some(old.clone()), Clone::clone));
        }
        match self.files.get(&plain(old.file_path())) {
            None => Ok(Some(old.clone())),
            Some(None) => Ok(None),
            Some(Some(new)) => new.entry(old, spec_id, schema).map(Some),
        }
    }
}

impl NewFile {
    /// The old file's entry with the new one's place and metrics.
    fn entry(&self, old: &DataFile, spec_id: i32, schema: &SchemaRef) -> Result<DataFile, TableError> {
        let closed = ClosedFile {
            location: &self.location,
            size_bytes: self.size_bytes,
            partition: Struct::empty(),
            spec_id,
            nan_counts: HashMap::new(),
        };
        let new = data_file(closed, &self.metadata, schema)?;
        let mut builder = copy_of(old);
        builder
            .file_path(self.location.clone())
            .record_count(new.record_count())
            .file_size_in_bytes(new.file_size_in_bytes())
            .column_sizes(new.column_sizes().clone())
            .value_counts(new.value_counts().clone())
            .null_value_counts(new.null_value_counts().clone())
            .nan_value_counts(HashMap::new())
            .lower_bounds(new.lower_bounds().clone())
            .upper_bounds(new.upper_bounds().clone())
            .split_offsets(new.split_offsets().map(<[i64]>::to_vec));
        builder.build().map_err(|error| unreadable(&self.location, error))
    }
}

/// Counts of a snapshot's summary, by its manifests.
fn counts(manifests: &[ManifestFile], snapshot_id: i64) -> Value {
    let (mut rows, mut files, mut added, mut deleted) = (0, 0, 0, 0);
    for manifest in manifests.iter().filter(|manifest| manifest.content == ManifestContentType::Data) {
        rows += manifest.added_rows_count.unwrap_or(0) + manifest.existing_rows_count.unwrap_or(0);
        files += manifest.added_files_count.unwrap_or(0) + manifest.existing_files_count.unwrap_or(0);
        if manifest.added_snapshot_id == snapshot_id {
            added += manifest.added_rows_count.unwrap_or(0);
            deleted += manifest.deleted_rows_count.unwrap_or(0);
        }
    }
    json!({
        "total-records": rows.to_string(),
        "total-data-files": files.to_string(),
        "added-records": added.to_string(),
        "deleted-records": deleted.to_string(),
    })
}

/// Lets a document's snapshots name their new manifest lists. Statistics of them were made from the rows that went.
fn redirect(document: &mut Value, replaced: &HashMap<String, &(String, Value)>) {
    let mut changed = HashSet::new();
    for snapshot in document["snapshots"].as_array_mut().into_iter().flatten() {
        let Some((list, counts)) =
            snapshot["manifest-list"].as_str().and_then(|list| replaced.get(&plain(list)))
        else {
            continue;
        };
        snapshot["manifest-list"] = json!(list);
        if let (Some(summary), Some(counts)) = (snapshot["summary"].as_object_mut(), counts.as_object()) {
            for (name, count) in counts {
                if let Some(known) = summary.get_mut(name) {
                    *known = count.clone();
                }
            }
        }
        changed.extend(snapshot["snapshot-id"].as_i64());
    }
    for kind in ["statistics", "partition-statistics"] {
        if let Some(statistics) = document.get_mut(kind).and_then(Value::as_array_mut) {
            statistics.retain(|one| !one["snapshot-id"].as_i64().is_some_and(|id| changed.contains(&id)));
        }
    }
}

fn encode_document(location: &str, text: Vec<u8>) -> Result<Bytes, TableError> {
    if !location.ends_with(COMPRESSED_METADATA) {
        return Ok(Bytes::from(text));
    }
    let mut zip = GzEncoder::new(Vec::new(), Compression::fast());
    let zipped = zip.write_all(&text).and_then(|()| zip.finish());
    zipped.map(Bytes::from).map_err(|error| {
        TableError::caused(TableErrorKind::Storage, format!("cannot compress {location}"), error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_keeps_all_but_what_the_rows_were_in() {
        let mut document = json!({
            "unknown": {"kept": 1},
            "snapshots": [
                {"snapshot-id": 1, "manifest-list": "file:/t/old.avro", "summary": {"operation": "append", "total-records": "9"}},
                {"snapshot-id": 2, "manifest-list": "file:/t/other.avro", "summary": {"total-records": "9"}},
            ],
            "statistics": [{"snapshot-id": 1}, {"snapshot-id": 2}],
        });
        let new = ("file:///t/new.avro".to_owned(), json!({"total-records": "8", "added-records": "1"}));
        redirect(&mut document, &HashMap::from([("/t/old.avro".to_owned(), &new)]));
        let expected = json!({
            "unknown": {"kept": 1},
            "snapshots": [
                {"snapshot-id": 1, "manifest-list": "file:///t/new.avro", "summary": {"operation": "append", "total-records": "8"}},
                {"snapshot-id": 2, "manifest-list": "file:/t/other.avro", "summary": {"total-records": "9"}},
            ],
            "statistics": [{"snapshot-id": 2}],
        });
        assert_eq!(document, expected);
    }
}
