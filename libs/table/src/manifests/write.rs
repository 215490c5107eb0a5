//! New manifests and manifest lists. They are encoded in memory, so that a file is written in one piece and durably.

use bytes::Bytes;
use iceberg::{
    io::FileIO as MemoryIo,
    spec::{
        DataFile, ManifestContentType, ManifestEntry, ManifestFile, ManifestListWriter, ManifestStatus,
        ManifestWriter, ManifestWriterBuilder, PartitionSpec, SchemaRef, UNASSIGNED_SEQUENCE_NUMBER,
    },
};

use crate::{FileIo, TableError, TableErrorKind};

/// One new manifest, of data files or of delete files.
pub(crate) struct ManifestEncoder {
    memory: MemoryIo,
    location: String,
    writer: ManifestWriter,
}

impl ManifestEncoder {
    /// A manifest of format 2 or 3 that will be written to `location` for `snapshot_id`.
    pub(crate) fn new(
        location: String,
        content: ManifestContentType,
        format_version: i64,
        snapshot_id: i64,
        schema: SchemaRef,
        spec: PartitionSpec,
    ) -> Result<Self, TableError> {
        let memory = MemoryIo::new_with_memory();
        let output = memory.new_output(&location).map_err(|error| unwritable(&location, error))?;
        let builder = ManifestWriterBuilder::new(output, Some(snapshot_id), schema, spec);
        let writer = match (format_version, content) {
            (2, ManifestContentType::Data) => builder.build_v2_data(),
            (2, ManifestContentType::Deletes) => builder.build_v2_deletes(),
            (3, ManifestContentType::Data) => builder.build_v3_data(),
            (3, ManifestContentType::Deletes) => builder.build_v3_deletes(),
            (other, _) => {
                return Err(TableError::unsupported(format!(
                    "cannot write {location}: tables of format version {other} are read-only; upgrade the table"
                )));
            }
        };
        Ok(Self { memory, location, writer })
    }

    /// A file that this snapshot adds; without a data sequence number it gets the commit's.
    pub(crate) fn add(&mut self, file: DataFile, sequence_number: Option<i64>) -> Result<(), TableError> {
        let added = self.writer.add_file(file, sequence_number.unwrap_or(UNASSIGNED_SEQUENCE_NUMBER));
        added.map_err(|error| unwritable(&self.location, error))
    }

    /// A file that stays.
    pub(crate) fn keep(&mut self, entry: &ManifestEntry) -> Result<(), TableError> {
        let kept = self.writer.add_existing_file(
            entry.data_file.clone(),
            entry.snapshot_id.unwrap_or_default(),
            entry.sequence_number.unwrap_or_default(),
            entry.file_sequence_number.or(entry.sequence_number),
        );
        kept.map_err(|error| unwritable(&self.location, error))
    }

    /// A file that this snapshot removes.
    pub(crate) fn remove(&mut self, entry: &ManifestEntry) -> Result<(), TableError> {
        let removed = self.writer.add_delete_file(
            entry.data_file.clone(),
            entry.sequence_number.unwrap_or_default(),
            entry.file_sequence_number.or(entry.sequence_number),
        );
        removed.map_err(|error| unwritable(&self.location, error))
    }

    /// An entry as it is, but for its file.
    pub(crate) fn copy(&mut self, entry: &ManifestEntry, file: DataFile) -> Result<(), TableError> {
        let copied = ManifestEntry { data_file: file, ..entry.clone() };
        match entry.status {
            ManifestStatus::Added => self.add(copied.data_file, entry.sequence_number),
            ManifestStatus::Existing => self.keep(&copied),
            ManifestStatus::Deleted => self.remove(&copied),
        }
    }

    /// Writes the manifest to its location.
    pub(crate) async fn write(self, file_io: &FileIo) -> Result<ManifestFile, TableError> {
        let Self { memory, location, writer } = self;
        let manifest = writer.write_manifest_file().await.map_err(|error| unwritable(&location, error))?;
        file_io.write_new(&location, encoded(&memory, &location).await?).await?;
        Ok(manifest)
    }
}

/// What a manifest list says about its snapshot.
pub(crate) struct NewManifestList {
    pub(crate) location: String,
    pub(crate) format_version: i64,
    pub(crate) snapshot_id: i64,
    pub(crate) parent_id: Option<i64>,
    pub(crate) sequence_number: i64,
    /// Format 3: the table's next row id.
    pub(crate) first_row_id: Option<u64>,
}

/// Writes a manifest list; in format 3 it answers the row id after the last one it assigned.
pub(crate) async fn write_manifest_list(
    file_io: &FileIo,
    list: &NewManifestList,
    manifests: Vec<ManifestFile>,
) -> Result<Option<u64>, TableError> {
    let failed = |error| unwritable(&list.location, error);
    let memory = MemoryIo::new_with_memory();
    let output = memory.new_output(&list.location).map_err(failed)?.writer().await.map_err(failed)?;
    let mut writer = if list.format_version >= 3 {
        ManifestListWriter::v3(
            output,
            list.snapshot_id,
            list.parent_id,
            list.sequence_number,
            list.first_row_id,
        )
    } else {
        ManifestListWriter::v2(output, list.snapshot_id, list.parent_id, list.sequence_number)
    };
    writer.add_manifests(manifests.into_iter()).map_err(failed)?;
    let next_row_id = writer.next_row_id();
    writer.close().await.map_err(failed)?;
    file_io.write_new(&list.location, encoded(&memory, &list.location).await?).await?;
    Ok(next_row_id)
}

async fn encoded(memory: &MemoryIo, location: &str) -> Result<Bytes, TableError> {
    let input = memory.new_input(location).map_err(|error| unwritable(location, error))?;
    input.read().await.map_err(|error| unwritable(location, error))
}

fn unwritable(location: &str, error: iceberg::Error) -> TableError {
    TableError::caused(TableErrorKind::Storage, format!("cannot encode {location}"), error)
}
