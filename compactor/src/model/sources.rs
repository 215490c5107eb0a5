//! The tables that models read and none of them makes.

use std::collections::BTreeMap;

use datafusion::arrow::datatypes::SchemaRef;
use firn_catalog_client::{TenantClient, iceberg::TableIdent};
use firn_inventory::{bronze_schema, tables::BRONZE_INVENTORY};
use firn_table::FileIo;

use super::{ModelError, ModelFiles, ModelGraph, own::graph_with};
use crate::{CompactorError, check_models, promotion::load_optional};

/// Columns of tables that models read.
#[derive(Clone, Debug, Default)]
pub struct SourceTables {
    schemas: BTreeMap<TableIdent, SchemaRef>,
}

impl SourceTables {
    /// What every tenant has: `bronze.inventory`. For this a server is not needed.
    #[must_use]
    pub fn shipped() -> Self {
        let (namespace, name) = BRONZE_INVENTORY;
        Self { schemas: BTreeMap::from([(TableIdent::new(namespace, name), bronze_schema())]) }
    }

    /// These, and the tenant's tables at a reference that the shipped models or `files` read.
    pub async fn of(
        client: &TenantClient,
        file_io: &FileIo,
        reference: &str,
        files: &ModelFiles,
    ) -> Result<Self, CompactorError> {
        Self::read_by(&graph_with(files)?, client, file_io, reference).await
    }

    /// These, and the tenant's tables at a reference that the models of a graph read.
    pub async fn read_by(
        graph: &ModelGraph,
        client: &TenantClient,
        file_io: &FileIo,
        reference: &str,
    ) -> Result<Self, CompactorError> {
        let mut sources = Self::shipped();
        for ident in graph.sources() {
            if let Some(table) = load_optional(client, file_io, reference, &ident).await? {
                sources.schemas.insert(ident, table.arrow_schema()?);
            }
        }
        Ok(sources)
    }

    /// Columns by table.
    #[must_use]
    pub fn schemas(&self) -> &BTreeMap<TableIdent, SchemaRef> {
        &self.schemas
    }
}

/// Plans files beside the shipped models: syntax, tables, columns, types, circles.
pub async fn check_own_models(files: &ModelFiles, sources: &SourceTables) -> Result<ModelGraph, ModelError> {
    let graph = graph_with(files)?;
    check_models(&graph, sources.schemas()).await?;
    Ok(graph)
}
