//! Manifest lists and manifests as files: read by Iceberg's field ids, written with what was read.
//!
//! Entries stay Avro values under their writer's own schema, so that types, statistics and fields that Firn doesn't know
//! survive a merge. Nothing here does I/O.

mod avro;
mod details;
mod entries;
mod list;

pub(crate) use details::{ColumnMetrics, Details};
pub(crate) use entries::{Entries, Entry, Manifest, Status};
pub(crate) use list::{FieldSummary, ManifestFile, NewManifestList, read_list};

/// Why a file is no manifest or manifest list, or can't become one.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct ManifestError(String);

impl ManifestError {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl From<apache_avro::Error> for ManifestError {
    fn from(error: apache_avro::Error) -> Self {
        Self(error.to_string())
    }
}

/// What a manifest or a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FileContent {
    Data,
    PositionDeletes,
    EqualityDeletes,
}

impl FileContent {
    fn of(number: i64) -> Result<Self, ManifestError> {
        match number {
            0 => Ok(Self::Data),
            1 => Ok(Self::PositionDeletes),
            2 => Ok(Self::EqualityDeletes),
            other => Err(ManifestError::new(format!("content {other} is unknown"))),
        }
    }
}

#[cfg(test)]
pub(crate) mod sample_files;
#[cfg(test)]
pub(crate) mod samples;
