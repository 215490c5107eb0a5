//! Manifests: the files they list, and new ones made of their entries.

use apache_avro::{Reader, types::Value};
use bytes::Bytes;

use super::{
    FileContent, ManifestError, ManifestFile,
    avro::{self, Fields, Header},
    details::Details,
    list::Count,
};

/// Field ids of an entry, and of the data file in it.
const STATUS: i64 = 0;
const SNAPSHOT_ID: i64 = 1;
const DATA_FILE: i64 = 2;
const SEQUENCE_NUMBER: i64 = 3;
const FILE_SEQUENCE_NUMBER: i64 = 4;
const FIRST_ROW_ID: i64 = 142;

/// What a manifest's snapshot did with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Existing,
    Added,
    Deleted,
}

/// One file of a manifest, with what it inherits from the manifest list filled in.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) status: Status,
    pub(crate) snapshot_id: Option<i64>,
    /// Data sequence number.
    pub(crate) sequence_number: Option<i64>,
    pub(crate) file_sequence_number: Option<i64>,
    pub(crate) first_row_id: Option<i64>,
    pub(crate) content: FileContent,
    pub(crate) path: String,
    /// Place of a deletion vector within its file.
    pub(crate) offset: Option<i64>,
    /// The only data file that a delete file is about.
    pub(crate) referenced: Option<String>,
    pub(crate) records: i64,
    pub(crate) bytes: i64,
    /// The whole entry as it was read; what stands above wins when it is written.
    pub(crate) record: Value,
}

impl Entry {
    /// Whether the file belongs to the snapshot.
    pub(crate) fn is_live(&self) -> bool {
        self.status != Status::Deleted
    }
}

/// A manifest.
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    header: Header,
    entry: Fields,
    file: Fields,
    pub(crate) entries: Vec<Entry>,
}

/// The entries of a manifest, decoded one by one.
pub(crate) struct Entries<'a> {
    header: Header,
    records: Reader<'a, &'a [u8]>,
    entry: Fields,
    file: Fields,
    listed: &'a ManifestFile,
    next_row_id: Option<i64>,
}

impl<'a> Entries<'a> {
    /// Of the file of `listed`.
    pub(crate) fn open(bytes: &'a [u8], listed: &'a ManifestFile) -> Result<Self, ManifestError> {
        if listed.key_metadata.is_some() {
            return Err(ManifestError::new("the manifest is encrypted"));
        }
        let (header, records) = avro::open(bytes)?;
        let entry = Fields::of(&header.schema)?;
        let file = entry.schema(DATA_FILE).ok_or_else(|| ManifestError::new("the file is no manifest"))?;
        let file = Fields::of(file)?;
        Ok(Self { header, records, entry, file, listed, next_row_id: listed.first_row_id })
    }

    /// What else a manifest says of an entry's file.
    pub(crate) fn details<'e>(&'e self, entry: &'e Entry) -> Result<Details<'e>, ManifestError> {
        let file = self.entry.get(&entry.record, DATA_FILE);
        Ok(Details {
            fields: &self.file,
            file: file.ok_or_else(|| ManifestError::new("an entry has no file"))?,
        })
    }
}

impl Iterator for Entries<'_> {
    type Item = Result<Entry, ManifestError>;

    fn next(&mut self) -> Option<Self::Item> {
        let record = match self.records.next()? {
            Ok(record) => record,
            Err(error) => return Some(Err(error.into())),
        };
        Some(read_entry(&self.entry, &self.file, record).map(|mut entry| {
            inherit(&mut entry, self.listed, &mut self.next_row_id);
            entry
        }))
    }
}

impl Manifest {
    /// Reads the file of `listed`.
    pub(crate) fn parse(bytes: &[u8], listed: &ManifestFile) -> Result<Self, ManifestError> {
        let mut all = Entries::open(bytes, listed)?;
        let entries = all.by_ref().collect::<Result<_, ManifestError>>()?;
        Ok(Self { header: all.header, entry: all.entry, file: all.file, entries })
    }

    /// Format version of the manifest itself, which may be older than the table's.
    pub(crate) fn format_version(&self) -> i64 {
        self.header.text("format-version").and_then(|text| text.parse().ok()).unwrap_or(1)
    }

    /// A manifest with this one's schema and spec and other entries, and what a list says of it.
    pub(crate) fn with_entries(
        &self,
        entries: Vec<Entry>,
        listed: &ManifestFile,
        path: &str,
        snapshot_id: i64,
        sequence_number: i64,
    ) -> Result<(Bytes, ManifestFile), ManifestError> {
        if self.format_version() < 2 {
            return Err(ManifestError::new("the manifest is of format version 1"));
        }
        let count = |status| {
            let of_status = entries.iter().filter(|entry| entry.status == status);
            of_status.fold(Count::default(), |count, entry| Count {
                files: count.files + 1,
                rows: count.rows + entry.records,
            })
        };
        let (added, existing, deleted) =
            (count(Status::Added), count(Status::Existing), count(Status::Deleted));
        let live = entries.iter().filter(|entry| entry.is_live());
        let lowest = live.map(|entry| entry.sequence_number.unwrap_or(sequence_number)).min();
        let records =
            entries.into_iter().map(|entry| self.record(entry)).collect::<Result<Vec<_>, ManifestError>>()?;
        let bytes = self.header.file(records)?;
        let file = ManifestFile {
            path: path.to_owned(),
            length: i64::try_from(bytes.len()).unwrap_or(i64::MAX),
            sequence_number,
            min_sequence_number: lowest.unwrap_or(sequence_number),
            added_snapshot_id: snapshot_id,
            added,
            existing,
            deleted,
            first_row_id: None,
            // The ranges of all files hold for some of them, too.
            ..listed.clone()
        };
        Ok((bytes, file))
    }

    fn record(&self, entry: Entry) -> Result<Value, ManifestError> {
        let mut record = entry.record;
        let status = match entry.status {
            Status::Existing => 0,
            Status::Added => 1,
            Status::Deleted => 2,
        };
        self.entry.set_long(&mut record, STATUS, Some(status))?;
        self.entry.set_long(&mut record, SNAPSHOT_ID, entry.snapshot_id)?;
        self.entry.set_long(&mut record, SEQUENCE_NUMBER, entry.sequence_number)?;
        self.entry.set_long(&mut record, FILE_SEQUENCE_NUMBER, entry.file_sequence_number)?;
        if let Some(file) = self.entry.get_mut(&mut record, DATA_FILE) {
            self.file.set_long(file, FIRST_ROW_ID, entry.first_row_id)?;
        }
        Ok(record)
    }
}

fn read_entry(entry: &Fields, file: &Fields, record: Value) -> Result<Entry, ManifestError> {
    let missing = |what: &str| ManifestError::new(format!("an entry of the manifest has no {what}"));
    let status = match entry.long(&record, STATUS) {
        Some(0) => Status::Existing,
        Some(1) => Status::Added,
        Some(2) => Status::Deleted,
        _ => return Err(missing("status")),
    };
    let data = entry.get(&record, DATA_FILE).ok_or_else(|| missing("file"))?;
    Ok(Entry {
        status,
        snapshot_id: entry.long(&record, SNAPSHOT_ID),
        sequence_number: entry.long(&record, SEQUENCE_NUMBER),
        file_sequence_number: entry.long(&record, FILE_SEQUENCE_NUMBER),
        first_row_id: file.long(data, FIRST_ROW_ID),
        content: FileContent::of(file.long(data, 134).unwrap_or_default())?,
        path: file.text(data, 100).ok_or_else(|| missing("path"))?.to_owned(),
        offset: file.long(data, 144),
        referenced: file.text(data, 143).map(str::to_owned),
        records: file.long(data, 103).ok_or_else(|| missing("record count"))?,
        bytes: file.long(data, 104).unwrap_or_default(),
        record,
    })
}

/// Entries written with nulls take the manifest's values (specification, "Sequence Number Inheritance", "Row Lineage").
fn inherit(entry: &mut Entry, listed: &ManifestFile, next_row_id: &mut Option<i64>) {
    entry.snapshot_id.get_or_insert(listed.added_snapshot_id);
    // Manifests from before an upgrade from version 1 have sequence number 0 for all entries.
    if entry.status == Status::Added || listed.sequence_number == 0 {
        entry.sequence_number.get_or_insert(listed.sequence_number);
        entry.file_sequence_number.get_or_insert(listed.sequence_number);
    }
    let takes_row_ids = entry.is_live() && entry.content == FileContent::Data && entry.first_row_id.is_none();
    if let (true, Some(next)) = (takes_row_ids, next_row_id.as_mut()) {
        entry.first_row_id = Some(*next);
        *next += entry.records;
    }
}
