//! Recovery of the catalog from the object store, for when its database is gone and has no backup.
//!
//! An export is a copy of a tenant's whole repository beside its tables, in `<tenant>/_catalog/<time>/`: all objects (commits
//! and trees) in parts, then a manifest with the references. The manifest comes last: without it there is no export. The
//! references are read before the objects are listed, so every object that they reach is among those.
//!
//! A rebuild puts the newest export back: objects are checked against their hashes, so every reference, commit and table is
//! what it was, under the same hash. What was committed later is known from the tables' metadata files alone. They tell
//! neither branch nor author, so they are taken only on request, into one commit on `main`.
//!
//! Not exported are clients' secrets, leases, suspensions and idempotency records: they are made anew.

mod adopt;
mod export;
mod rebuild;
mod survey;

use serde::{Deserialize, Serialize};

use crate::{
    storage::Location,
    store::{Hash, ReferenceRow},
};

pub use export::Exported;
pub use rebuild::{Rebuilt, Skipped};

pub(crate) use export::export;
pub(crate) use rebuild::rebuild;

/// Folder of a tenant's exports.
const FOLDER: &str = "_catalog";
const MANIFEST: &str = "manifest.json";
/// Version of the layout.
const FORMAT: u32 = 1;

/// What an export holds.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    format: u32,
    /// Milliseconds since the epoch, by the clock of the process that wrote it.
    exported_at_ms: i64,
    /// The tenant's record, as the catalog keeps it.
    tenant: serde_json::Value,
    references: Vec<Reference>,
    /// Files of objects, in the folder of the manifest.
    parts: Vec<String>,
    objects: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Reference {
    name: String,
    tag: bool,
    hash: String,
}

impl From<&ReferenceRow> for Reference {
    fn from(row: &ReferenceRow) -> Self {
        Self { name: row.name.clone(), tag: row.tag, hash: row.hash.to_string() }
    }
}

/// Objects of one part: hash, length and bytes, one after the other.
fn pack(part: &mut Vec<u8>, hash: &Hash, data: &[u8]) {
    part.extend_from_slice(&hash.0);
    part.extend_from_slice(&(data.len() as u64).to_le_bytes());
    part.extend_from_slice(data);
}

/// The objects of a part; `None` where it is cut off, or where an object isn't what its hash says.
fn unpack(mut part: &[u8]) -> Option<Vec<(Hash, bytes::Bytes)>> {
    let mut objects = Vec::new();
    while !part.is_empty() {
        let (hash, rest) = part.split_first_chunk::<32>()?;
        let (length, rest) = rest.split_first_chunk::<8>()?;
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        let (data, rest) = rest.split_at_checked(length)?;
        let hash = Hash(*hash);
        if Hash::of(data) != hash {
            return None;
        }
        objects.push((hash, bytes::Bytes::copy_from_slice(data)));
        part = rest;
    }
    Some(objects)
}

fn folder(tenant_root: &Location) -> Location {
    tenant_root.join(FOLDER)
}

#[cfg(test)]
mod tests;
