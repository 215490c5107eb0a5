//! Other formats than Firn's own, turned into it: pure functions from what an agent sends to one native record.
//!
//! What the record has a field for goes there; the rest stays under one key with the format's name, which reaches `extra`.
//! A field of the foreign document that is not of the type its format promises is left there and counts as not known.

mod agent;
mod computer;
mod document;
mod facter;
mod glpi;
mod ocs;
mod ocsf;
mod osquery;
pub(crate) mod words;
mod xml;

use std::str::FromStr;

use serde_json::Value;

use crate::{Inventory, decode};

pub use agent::AgentRequest;

/// A format that a gateway takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Firn's own.
    Native,
    /// Open Cybersecurity Schema Framework: Device Inventory Info, class 5001.
    Ocsf,
    /// A host as Fleet answers it, from osquery.
    Osquery,
    /// Facts as `facter --json` prints them.
    Facter,
}

/// Why a document could not be turned into a record, for a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AdaptError(pub String);

impl Format {
    /// Its name: in requests, and as a record's `source`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Ocsf => "ocsf",
            Self::Osquery => "osquery",
            Self::Facter => "facter",
        }
    }

    /// One document as one native record.
    ///
    /// # Errors
    /// [`AdaptError`] if it is no JSON object, not of the format, or names no host.
    pub fn adapt(self, bytes: &[u8]) -> Result<Vec<u8>, AdaptError> {
        if self == Self::Native {
            return Ok(bytes.to_vec());
        }
        let document: Value =
            serde_json::from_slice(bytes).map_err(|error| AdaptError(format!("not JSON: {error}")))?;
        if !document.is_object() {
            return Err(AdaptError("the record is not a JSON object".to_owned()));
        }
        let (inventory, rest) = match self {
            Self::Ocsf => ocsf::adapt(document)?,
            Self::Osquery => osquery::adapt(document)?,
            Self::Facter | Self::Native => facter::adapt(document)?,
        };
        native(&inventory, self.as_str(), rest)
    }
}

impl FromStr for Format {
    type Err = AdaptError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let all = [Self::Native, Self::Ocsf, Self::Osquery, Self::Facter];
        all.into_iter().find(|format| format.as_str() == text).ok_or_else(|| {
            let names = all.map(Self::as_str).join(", ");
            AdaptError(format!("format '{text}' is not known: use one of {names}"))
        })
    }
}

/// The record as JSON, with what it has no field for under `name`. It is read back once, so that what an adapter lets
/// through is what the worker takes.
fn native(inventory: &Inventory, name: &str, rest: Value) -> Result<Vec<u8>, AdaptError> {
    let unwritable = |error: serde_json::Error| AdaptError(error.to_string());
    let mut record = serde_json::to_value(inventory).map_err(unwritable)?;
    if rest.as_object().is_some_and(|rest| !rest.is_empty()) {
        record[name] = rest;
    }
    let bytes = serde_json::to_vec(&record).map_err(unwritable)?;
    decode(&bytes).map_err(|rejection| AdaptError(rejection.reason))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
