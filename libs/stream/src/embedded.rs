//! The embedded log: one SQLite file, WAL, `synchronous=FULL`, one writer thread.

use std::path::PathBuf;

/// Settings.
#[derive(Clone, Debug)]
pub struct EmbeddedConfig {
    /// The file.
    pub path: PathBuf,
    /// Default retention of topics that are not compacted, seconds. Default 7 days.
    pub retention_s: u64,
    /// Size after which records that every group has passed go. Default 10 GB.
    pub max_bytes: u64,
}

/// See the module.
pub struct EmbeddedLog {}
