//! What there is below a folder, and which of it holds rows that are meant.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    io::Read as _,
};

use bytes::Bytes;
use flate2::read::GzDecoder;
use futures::{StreamExt, TryStreamExt, stream};
use iceberg::spec::{DataContentType, DataFileFormat, ManifestEntryRef, ManifestFile};
use roaring::RoaringTreemap;
use serde_json::Value;

use super::{
    DirtyFile, PARALLEL, RowMatch, Scrub,
    contents::{self, Found},
    names::{ColumnNames, plain},
};
use crate::{
    FileIo, TableError, TableErrorKind,
    file_io::StoredFile,
    manifests::{load_manifest, load_manifest_list},
};

/// Metadata files and manifests read at once.
const PARALLEL_READS: usize = 8;
/// Ends of the names of metadata files; those of the second are compressed.
const METADATA: &str = ".metadata.json";
pub(super) const COMPRESSED_METADATA: &str = ".gz.metadata.json";

/// What a look at everything found.
#[derive(Debug, Default)]
pub struct Survey {
    /// Data files with rows that are meant, by location.
    pub files: Vec<DirtyFile>,
    /// Data files that were read; those that an earlier look found clean are not read again.
    pub files_read: u64,
    /// All files there are.
    pub files_listed: u64,
    /// Tables that reach such files, by uuid.
    pub tables: BTreeSet<String>,
    /// What was gathered of the rows: see [`super::RowMatch::gathering`].
    pub keys: BTreeSet<Vec<String>>,
    pub(super) tree: Tree,
    /// Positions of the rows by plain location.
    pub(super) dirty: HashMap<String, RoaringTreemap>,
}

/// Everything below a folder, and how it hangs together. Keys are plain locations.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) stored: HashMap<String, StoredFile>,
    pub(super) tables: Vec<TableFiles>,
    pub(super) documents: Vec<Document>,
    pub(super) lists: Vec<ManifestList>,
    pub(super) manifests: BTreeMap<String, (ManifestFile, usize)>,
    pub(super) files: HashMap<String, ReachedFile>,
}

/// A table, whatever its names.
#[derive(Debug, Default)]
pub(super) struct TableFiles {
    pub(super) uuid: String,
    pub(super) columns: ColumnNames,
}

/// A metadata file.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) location: String,
    /// By their place in [`Tree::lists`].
    pub(super) lists: Vec<usize>,
}

/// A snapshot's manifest list.
#[derive(Debug)]
pub(super) struct ManifestList {
    pub(super) location: String,
    pub(super) table: usize,
    pub(super) format_version: i64,
    pub(super) snapshot_id: i64,
    pub(super) parent_id: Option<i64>,
    pub(super) sequence_number: i64,
    /// Of a snapshot of format 3.
    pub(super) first_row_id: Option<u64>,
}

/// A data or delete file that a manifest names.
#[derive(Debug)]
pub(super) struct ReachedFile {
    pub(super) location: String,
    pub(super) table: usize,
    pub(super) content: DataContentType,
    format: DataFileFormat,
    is_encrypted: bool,
    pub(super) first_row_id: Option<i64>,
}

impl Survey {
    /// Whether nothing that is reached holds such rows.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.files.iter().all(|file| !file.is_reached)
    }

    /// Rows that are meant, counted once per file that is reached.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.files.iter().filter(|file| file.is_reached).map(|file| file.rows).sum()
    }
}

impl Scrub {
    /// Looks at everything below the folder; changes nothing.
    pub async fn survey(&mut self) -> Result<Survey, TableError> {
        let tree = Tree::read(&self.file_io, &self.root).await?;
        let orphans = tree.stored.values().filter(|file| {
            file.location.ends_with(".parquet") && !tree.files.contains_key(&plain(&file.location))
        });
        let mut looks: Vec<(String, Option<usize>)> =
            orphans.map(|file| (file.location.clone(), None)).collect();
        for (key, file) in &tree.files {
            // What expired or was collected is gone, though old metadata still names it.
            if file.content != DataContentType::PositionDeletes && tree.stored.contains_key(key) {
                file.check()?;
                looks.push((file.location.clone(), Some(file.table)));
            }
        }
        looks.retain(|(location, _)| !self.clean.contains(&plain(location)));
        looks.sort();
        let mut survey = Survey {
            files_read: looks.len() as u64,
            files_listed: tree.stored.len() as u64,
            ..Survey::default()
        };
        let look = |(location, table): &(String, Option<usize>)| {
            let names = table.and_then(|table| tree.tables.get(table));
            let names = names.map(|table| table.columns.clone()).unwrap_or_default();
            self.look_into(location, names, table.is_some())
        };
        let reads: Vec<_> = looks.iter().map(look).collect();
        let found: Vec<Option<Found>> = stream::iter(reads).buffered(PARALLEL).try_collect().await?;
        for ((location, table), found) in looks.into_iter().zip(found) {
            // A file that went meanwhile holds nothing.
            let Some(found) = found else { continue };
            if found.positions.is_empty() {
                self.clean.insert(plain(&location));
                continue;
            }
            survey.keys.extend(found.keys);
            survey.tables.extend(table.and_then(|table| Some(tree.tables.get(table)?.uuid.clone())));
            survey.files.push(DirtyFile {
                location: location.clone(),
                rows: found.positions.len(),
                is_reached: table.is_some(),
            });
            survey.dirty.insert(plain(&location), found.positions);
        }
        survey.tree = tree;
        Ok(survey)
    }

    /// How many of the rows that a survey found are also among `others`.
    pub async fn shared(&self, survey: &Survey, others: &RowMatch) -> Result<u64, TableError> {
        let mut shared = 0;
        for file in survey.files.iter().filter(|file| file.is_reached) {
            let key = plain(&file.location);
            let table = survey.tree.files.get(&key).and_then(|file| survey.tree.tables.get(file.table));
            let names = table.map(|table| table.columns.clone()).unwrap_or_default();
            let bytes = self.file_io.read(&file.location).await?;
            let others = others.clone();
            let found = tokio::task::spawn_blocking(move || contents::find(bytes, &others, &names)).await;
            let found = found.map_err(|error| unreadable(&file.location, error))?;
            let found = found.map_err(|error| unreadable(&file.location, error))?;
            let meant = survey.dirty.get(&key);
            shared += meant.map_or(0, |meant| meant.intersection_len(&found.positions));
        }
        Ok(shared)
    }

    /// The rows of one file that are meant; `None` if it is no longer there. One that nothing leads to and nobody can read is meant
    /// as a whole, since it may hold anything: half of a file, as a crash leaves it.
    fn look_into(
        &self,
        location: &str,
        names: ColumnNames,
        is_reached: bool,
    ) -> impl Future<Output = Result<Option<Found>, TableError>> + use<> {
        let (file_io, rows, location) = (self.file_io.clone(), self.rows.clone(), location.to_owned());
        async move {
            let bytes = match file_io.read(&location).await {
                Err(error) if error.kind == TableErrorKind::NotFound => return Ok(None),
                read => read?,
            };
            let found = tokio::task::spawn_blocking(move || contents::find(bytes, &rows, &names)).await;
            match found.map_err(|error| unreadable(&location, error))? {
                Err(_) if !is_reached => {
                    Ok(Some(Found { positions: [0].into_iter().collect(), ..Found::default() }))
                }
                found => found.map(Some).map_err(|error| unreadable(&location, error)),
            }
        }
    }
}

impl ReachedFile {
    /// Refuses what can't be looked into: nobody would know what it holds.
    fn check(&self) -> Result<(), TableError> {
        let refused = |what: &str| {
            let location = &self.location;
            Err(TableError::unsupported(format!(
                "{location} is {what}, so nobody knows which rows it holds; rewrite it with the engine that wrote it"
            )))
        };
        match self.format {
            _ if self.is_encrypted => refused("encrypted"),
            DataFileFormat::Parquet => Ok(()),
            format => refused(&format.to_string()),
        }
    }
}

impl Tree {
    /// Reads the folder's listing and all metadata in it.
    pub(super) async fn read(file_io: &FileIo, root: &str) -> Result<Self, TableError> {
        let stored = file_io.list_dated(root).await?;
        let mut locations: Vec<String> = stored.iter().map(|file| file.location.clone()).collect();
        locations.retain(|location| location.ends_with(METADATA));
        locations.sort();
        let mut tree = Self {
            stored: stored.into_iter().map(|file| (plain(&file.location), file)).collect(),
            ..Self::default()
        };
        let reads: Vec<_> = locations.into_iter().map(|location| read_document(file_io, location)).collect();
        let mut documents = stream::iter(reads).buffered(PARALLEL_READS);
        let (mut tables, mut lists) = (HashMap::new(), HashMap::new());
        while let Some((location, document)) = documents.try_next().await? {
            tree.add_document(location, &document, &mut tables, &mut lists)?;
        }
        tree.read_lists(file_io).await?;
        tree.read_manifests(file_io).await?;
        Ok(tree)
    }

    fn add_document(
        &mut self,
        location: String,
        document: &Value,
        tables: &mut HashMap<String, usize>,
        lists: &mut HashMap<String, usize>,
    ) -> Result<(), TableError> {
        // A view's has none.
        let Some(uuid) = document["table-uuid"].as_str() else { return Ok(()) };
        let table = *tables.entry(uuid.to_owned()).or_insert_with(|| {
            self.tables.push(TableFiles { uuid: uuid.to_owned(), ..TableFiles::default() });
            self.tables.len() - 1
        });
        self.tables[table].columns.add(document);
        let mut known = Vec::new();
        for snapshot in document["snapshots"].as_array().into_iter().flatten() {
            let Some(list) = snapshot["manifest-list"].as_str() else {
                return Err(TableError::unsupported(format!(
                    "{location} has snapshots without manifest lists (format 1); upgrade the table"
                )));
            };
            known.push(*lists.entry(plain(list)).or_insert_with(|| {
                self.lists.push(ManifestList {
                    location: list.to_owned(),
                    table,
                    format_version: document["format-version"].as_i64().unwrap_or(2),
                    snapshot_id: snapshot["snapshot-id"].as_i64().unwrap_or_default(),
                    parent_id: snapshot["parent-snapshot-id"].as_i64(),
                    sequence_number: snapshot["sequence-number"].as_i64().unwrap_or(0),
                    first_row_id: snapshot["first-row-id"].as_u64(),
                });
                self.lists.len() - 1
            }));
        }
        self.documents.push(Document { location, lists: known });
        Ok(())
    }

    async fn read_lists(&mut self, file_io: &FileIo) -> Result<(), TableError> {
        let stored: HashSet<&String> = self.stored.keys().collect();
        let there = self.lists.iter().filter(|list| stored.contains(&plain(&list.location)));
        let reads =
            there.map(|list| {
                let (file_io, location) = (file_io.clone(), list.location.clone());
                let (version, table) = (list.format_version, list.table);
                async move {
                    Ok::<_, TableError>((load_manifest_list(&file_io, &location, version).await?, table))
                }
            });
        let reads: Vec<_> = reads.collect();
        let mut lists = stream::iter(reads).buffered(PARALLEL_READS);
        while let Some((manifests, table)) = lists.try_next().await? {
            for manifest in manifests.iter() {
                let key = plain(&manifest.manifest_path);
                self.manifests.entry(key).or_insert_with(|| (manifest.clone(), table));
            }
        }
        Ok(())
    }

    async fn read_manifests(&mut self, file_io: &FileIo) -> Result<(), TableError> {
        let there = self.manifests.iter().filter(|(key, _)| self.stored.contains_key(*key));
        let reads = there.map(|(_, (manifest, table))| {
            let (file_io, manifest, table) = (file_io.clone(), manifest.clone(), *table);
            async move { Ok::<_, TableError>((load_manifest(&file_io, &manifest).await?, table)) }
        });
        let reads: Vec<_> = reads.collect();
        let mut manifests = stream::iter(reads).buffered(PARALLEL_READS);
        let mut files = HashMap::new();
        while let Some((entries, table)) = manifests.try_next().await? {
            for entry in entries.iter() {
                files.entry(plain(entry.file_path())).or_insert_with(|| ReachedFile::new(entry, table));
            }
        }
        self.files = files;
        Ok(())
    }
}

impl ReachedFile {
    fn new(entry: &ManifestEntryRef, table: usize) -> Self {
        let file = &entry.data_file;
        Self {
            location: file.file_path().to_owned(),
            table,
            content: file.content_type(),
            format: file.file_format(),
            is_encrypted: file.key_metadata().is_some(),
            first_row_id: file.first_row_id(),
        }
    }
}

fn read_document(
    file_io: &FileIo,
    location: String,
) -> impl Future<Output = Result<(String, Value), TableError>> + use<> {
    let file_io = file_io.clone();
    async move {
        let bytes = file_io.read(&location).await?;
        let document = parse_document(&location, &bytes)?;
        Ok((location, document))
    }
}

/// A metadata file's JSON, decompressed where its name says so.
pub(super) fn parse_document(location: &str, bytes: &Bytes) -> Result<Value, TableError> {
    let parsed = if location.ends_with(COMPRESSED_METADATA) {
        let mut text = Vec::new();
        match GzDecoder::new(&bytes[..]).read_to_end(&mut text) {
            Ok(_) => serde_json::from_slice(&text),
            Err(error) => return Err(unreadable(location, error)),
        }
    } else {
        serde_json::from_slice(bytes)
    };
    parsed.map_err(|error| unreadable(location, error))
}

pub(super) fn unreadable(
    location: &str,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> TableError {
    TableError::caused(
        TableErrorKind::Storage,
        format!("{location} cannot be read, so nobody knows which rows it holds"),
        error,
    )
}
