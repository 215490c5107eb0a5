//! Live entries of manifests with what they need of their manifest.

use iceberg::spec::{DataFile, DataFileBuilder, ManifestEntryRef, ManifestFile, PrimitiveLiteral};

use super::load_manifests;
use crate::{FileIo, TableError};

/// A live data or delete file with the partition spec that it was written with.
#[derive(Clone, Debug)]
pub(crate) struct LiveFile {
    pub(crate) spec_id: i32,
    pub(crate) entry: ManifestEntryRef,
}

/// A partition of one spec. Equal for equal values, whichever width their type had when they were written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PartitionKey {
    spec_id: i32,
    values: Vec<Option<PrimitiveLiteral>>,
}

impl LiveFile {
    pub(crate) fn location(&self) -> &str {
        self.entry.file_path()
    }

    pub(crate) fn data_file(&self) -> &DataFile {
        &self.entry.data_file
    }

    /// Data sequence number; files of format 1 have none and are older than any delete.
    pub(crate) fn sequence_number(&self) -> i64 {
        self.entry.sequence_number.unwrap_or(0)
    }

    pub(crate) fn partition_key(&self) -> PartitionKey {
        PartitionKey::new(self.spec_id, self.data_file())
    }
}

impl PartitionKey {
    pub(crate) fn new(spec_id: i32, file: &DataFile) -> Self {
        let values = file.partition().iter().map(|value| Some(widened(value?.as_primitive_literal()?)));
        Self { spec_id, values: values.collect() }
    }
}

fn widened(literal: PrimitiveLiteral) -> PrimitiveLiteral {
    match literal {
        PrimitiveLiteral::Int(value) => PrimitiveLiteral::Long(i64::from(value)),
        PrimitiveLiteral::Float(value) => PrimitiveLiteral::Double(f64::from(value.0).into()),
        other => other,
    }
}

/// All live files of manifests.
pub(crate) async fn live_files(
    file_io: &FileIo,
    manifests: &[ManifestFile],
) -> Result<Vec<LiveFile>, TableError> {
    let contents = load_manifests(file_io, manifests).await?;
    let mut files = Vec::new();
    for (manifest, entries) in manifests.iter().zip(contents) {
        let live = entries.iter().filter(|entry| entry.is_alive());
        let spec_id = manifest.partition_spec_id;
        files.extend(live.map(|entry| LiveFile { spec_id, entry: ManifestEntryRef::clone(entry) }));
    }
    Ok(files)
}

/// The same file with a first row id; the crate has no setter for it.
pub(super) fn with_first_row_id(file: &DataFile, first_row_id: i64) -> iceberg::Result<DataFile> {
    let built = copy_of(file).first_row_id(Some(first_row_id)).build();
    built.map_err(|error| {
        iceberg::Error::new(
            iceberg::ErrorKind::DataInvalid,
            format!("{} is incomplete: {error}", file.file_path()),
        )
    })
}

/// A builder that holds all that is known of a file.
pub(crate) fn copy_of(file: &DataFile) -> DataFileBuilder {
    let mut builder = DataFileBuilder::default();
    builder
        .content(file.content_type())
        .file_path(file.file_path().to_owned())
        .file_format(file.file_format())
        .partition(file.partition().clone())
        .record_count(file.record_count())
        .file_size_in_bytes(file.file_size_in_bytes())
        .column_sizes(file.column_sizes().clone())
        .value_counts(file.value_counts().clone())
        .null_value_counts(file.null_value_counts().clone())
        .nan_value_counts(file.nan_value_counts().clone())
        .lower_bounds(file.lower_bounds().clone())
        .upper_bounds(file.upper_bounds().clone())
        .key_metadata(file.key_metadata().map(<[u8]>::to_vec))
        .split_offsets(file.split_offsets().map(<[i64]>::to_vec))
        .equality_ids(file.equality_ids())
        .first_row_id(file.first_row_id())
        .referenced_data_file(file.referenced_data_file())
        .content_offset(file.content_offset())
        .content_size_in_bytes(file.content_size_in_bytes());
    if let Some(sort_order_id) = file.sort_order_id() {
        builder.sort_order_id(sort_order_id);
    }
    builder
}
