//! Which files are a table's: those below its location, and no others. Properties such as `write.data.path` send new files
//! elsewhere, but whoever writes a table sets them, and might name another table's place.

use serde::Deserialize;

use crate::{
    CatalogError,
    metadata::Document,
    storage::{Location, Storage},
};

/// The files of one table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TableFiles {
    place: Location,
}

/// What of a metadata document says where files lie.
#[derive(Deserialize)]
struct Named {
    location: String,
}

impl TableFiles {
    /// Reads the location out of a metadata document, and refuses one outside the tenant's storage.
    pub(crate) fn in_metadata(storage: &Storage, tenant: &str, bytes: &[u8]) -> Result<Self, CatalogError> {
        let named: Named = serde_json::from_slice(bytes)
            .map_err(|error| CatalogError::Invalid(format!("the metadata can't be read: {error}")))?;
        Self::at(storage, tenant, &named.location)
    }

    /// The same of a parsed document.
    pub(crate) fn in_document(
        storage: &Storage,
        tenant: &str,
        document: &Document,
    ) -> Result<Self, CatalogError> {
        Self::at(storage, tenant, document.location().unwrap_or_default())
    }

    fn at(storage: &Storage, tenant: &str, location: &str) -> Result<Self, CatalogError> {
        let place = storage.check(tenant, location)?;
        if place.has_wildcards() {
            return Err(CatalogError::Invalid(format!(
                "the location '{location}' has one of '*', '?' and '$', which mean more than themselves in an access policy"
            )));
        }
        Ok(Self { place })
    }

    #[cfg(test)]
    pub(super) fn below(place: &str) -> Self {
        Self { place: place.parse().expect("a test's own location") }
    }

    /// Where they lie.
    pub(crate) fn place(&self) -> &Location {
        &self.place
    }

    /// The bucket; empty for local files.
    pub(super) fn bucket(&self) -> &str {
        self.place.bucket().unwrap_or_default()
    }

    /// The place as a path within the bucket, without slash at either end.
    pub(super) fn path(&self) -> &str {
        self.place.path()
    }

    /// Whether a file is the table's.
    pub(super) fn hold(&self, file: &Location) -> bool {
        file.is_within(&self.place)
    }
}
