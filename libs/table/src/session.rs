//! A DataFusion session over a tenant's lake: `select … from silver.device`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use datafusion::{
    catalog::{CatalogProvider, SchemaProvider, TableProvider},
    error::{DataFusionError, Result as DataFusionResult},
    execution::{memory_pool::FairSpillPool, runtime_env::RuntimeEnvBuilder},
    logical_expr::TableType,
    prelude::{SessionConfig, SessionContext},
};
use firn_catalog_client::{TenantClient, iceberg::TableIdent, nessie::Reference};

use crate::{FileIo, Table, TableError, TableErrorKind, TableScan};

/// Name of the tenant's catalog within the session.
const CATALOG: &str = "lake";
/// Schema of unqualified names; it exists only if the tenant has such a namespace.
const DEFAULT_SCHEMA: &str = "default";
/// Content type of an Iceberg table.
const TABLE_CONTENT: &str = "ICEBERG_TABLE";

/// Which state of the lake to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferenceSpec {
    /// Branch, tag, hash or any of Nessie's reference syntax; an instant is written `main*2026-11-22T10:00:00Z`.
    pub reference: String,
}

/// A DataFusion catalog provider: schemas are namespaces (levels joined by `.`), tables load when a query names them. One
/// commit of the reference is pinned when it is made, so that a query sees one state.
#[derive(Debug)]
pub struct LakeCatalog {
    reference: String,
    schemas: BTreeMap<String, Arc<LakeSchema>>,
}

struct LakeSchema {
    client: TenantClient,
    file_io: FileIo,
    reference: String,
    namespace: Vec<String>,
    tables: BTreeSet<String>,
}

impl LakeCatalog {
    /// Pins `spec` to the commit it means now and reads the names of that state.
    pub async fn new(
        client: &TenantClient,
        file_io: &FileIo,
        spec: &ReferenceSpec,
    ) -> Result<Self, TableError> {
        let reference = pinned(&client.reference(&spec.reference).await?);
        let mut names: BTreeMap<Vec<String>, BTreeSet<String>> = BTreeMap::new();
        for entry in client.entries(&reference, None, false).await? {
            let mut elements = entry.name.elements;
            if entry.content_type == "NAMESPACE" {
                names.entry(elements).or_default();
            } else if entry.content_type == TABLE_CONTENT
                && let Some(name) = elements.pop()
            {
                names.entry(elements).or_default().insert(name);
            }
        }
        let schema = |(namespace, tables): (Vec<String>, BTreeSet<String>)| {
            let (client, file_io, reference) = (client.clone(), file_io.clone(), reference.clone());
            (namespace.join("."), Arc::new(LakeSchema { client, file_io, reference, namespace, tables }))
        };
        let schemas = names.into_iter().map(schema).collect();
        Ok(Self { reference, schemas })
    }

    /// The pinned reference: every table is read at this commit.
    #[must_use]
    pub fn reference(&self) -> &str {
        &self.reference
    }
}

/// The commit that a reference means now, in Nessie's syntax.
fn pinned(reference: &Reference) -> String {
    match reference {
        Reference::Branch { name, hash } | Reference::Tag { name, hash } => format!("{name}@{hash}"),
        Reference::Detached { hash } => hash.clone(),
    }
}

/// A session whose default catalog is the tenant's lake at `spec`, with `memory_limit_bytes` for all its queries.
pub async fn lake_session(
    client: &TenantClient,
    file_io: &FileIo,
    spec: &ReferenceSpec,
    memory_limit_bytes: usize,
) -> Result<SessionContext, TableError> {
    let catalog = LakeCatalog::new(client, file_io, spec).await?;
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(FairSpillPool::new(memory_limit_bytes)))
        .build_arc()
        .map_err(|error| {
            TableError::caused(TableErrorKind::Storage, "cannot set up the query engine", error)
        })?;
    let config = SessionConfig::new()
        .with_default_catalog_and_schema(CATALOG, DEFAULT_SCHEMA)
        .with_create_default_catalog_and_schema(false)
        .with_information_schema(true);
    let session = SessionContext::new_with_config_rt(config, runtime);
    session.register_catalog(CATALOG, Arc::new(catalog));
    Ok(session)
}

impl CatalogProvider for LakeCatalog {
    fn schema_names(&self) -> Vec<String> {
        self.schemas.keys().cloned().collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        Some(Arc::clone(self.schemas.get(name)?) as Arc<dyn SchemaProvider>)
    }
}

#[async_trait::async_trait]
impl SchemaProvider for LakeSchema {
    fn table_names(&self) -> Vec<String> {
        self.tables.iter().cloned().collect()
    }

    async fn table(&self, name: &str) -> DataFusionResult<Option<Arc<dyn TableProvider>>> {
        if !self.tables.contains(name) {
            return Ok(None);
        }
        let ident = TableIdent { namespace: self.namespace.clone(), name: name.to_owned() };
        let scan = async {
            let table = Table::load(&self.client, &self.file_io, &self.reference, &ident).await?;
            TableScan::new(&table, None).await
        };
        let scan = scan.await.map_err(|error: TableError| DataFusionError::External(Box::new(error)))?;
        Ok(Some(Arc::new(scan)))
    }

    /// Known without loading, so that listing tables costs nothing.
    async fn table_type(&self, name: &str) -> DataFusionResult<Option<TableType>> {
        Ok(self.tables.contains(name).then_some(TableType::Base))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.tables.contains(name)
    }
}

impl fmt::Debug for LakeSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LakeSchema")
            .field("namespace", &self.namespace)
            .field("tables", &self.tables)
            .finish_non_exhaustive()
    }
}
