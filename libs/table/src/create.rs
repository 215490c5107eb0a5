//! Creating tables from Arrow schemas.

use std::collections::BTreeMap;

use arrow::datatypes::SchemaRef;
use firn_catalog_client::{TenantClient, iceberg::TableIdent};

use crate::{FileIo, Table, TableError};

/// One partition field: `day(received_at)` is `Partitioning { column: "received_at", transform: "day" }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partitioning {
    /// Source column, top level.
    pub column: String,
    /// Iceberg transform: `identity`, `day`, `hour`, `month`, `year`, `bucket[N]`, `truncate[W]`.
    pub transform: String,
}

/// A table to be. Field ids are assigned; a field's Arrow metadata `doc` becomes the column's doc.
#[derive(Clone, Debug)]
pub struct NewTable {
    /// Identifier.
    pub ident: TableIdent,
    /// Schema. Timestamps in microseconds, with zone UTC or without.
    pub schema: SchemaRef,
    /// Partition fields.
    pub partitioning: Vec<Partitioning>,
    /// Table properties.
    pub properties: BTreeMap<String, String>,
}

/// Loads the table, creating namespace and table if absent; loses a race to another creator gracefully. Columns that
/// `new.schema` has and the table lacks are added as optional.
pub async fn ensure_table(_client: &TenantClient, _file_io: &FileIo, _reference: &str, _new: &NewTable) -> Result<Table, TableError> {
    todo!()
}
