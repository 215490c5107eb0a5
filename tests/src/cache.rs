//! What `scripts/test-servers install` put into the cache.

use std::path::PathBuf;

use anyhow::{Result, ensure};

/// The command that every message names.
pub(crate) const INSTALL: &str = "scripts/test-servers install";

/// A file or folder of the cache that must be there.
pub(crate) fn require(path: &str) -> Result<PathBuf> {
    let full = crate::cache_dir().join(path);
    ensure!(full.exists(), "{} is missing: run {INSTALL}", full.display());
    Ok(full)
}

/// The Java runtime that the servers run on.
pub(crate) fn java() -> Result<PathBuf> {
    require("java/bin/java")
}
