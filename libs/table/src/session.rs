//! A DataFusion session over a tenant's lake: `select … from silver.device`.

use datafusion::prelude::SessionContext;
use firn_catalog_client::TenantClient;

use crate::{FileIo, TableError};

/// Which state of the lake to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferenceSpec {
    /// Branch, tag, hash or any of Nessie's reference syntax; an instant is written `main*2026-11-22T10:00:00Z`.
    pub reference: String,
}

/// A DataFusion catalog provider: schemas are namespaces (levels joined by `.`), tables load when a query names them. One
/// commit of the reference is pinned when it is made, so that a query sees one state.
#[derive(Debug)]
pub struct LakeCatalog {}

/// A session whose default catalog is the tenant's lake at `spec`, with `memory_limit_bytes` for all its queries.
pub async fn lake_session(_client: &TenantClient, _file_io: &FileIo, _spec: &ReferenceSpec, _memory_limit_bytes: usize) -> Result<SessionContext, TableError> {
    todo!()
}
