//! Documents of tables that were read or written lately: a commit after a commit has nothing to parse, and shares what it
//! doesn't change.

use std::sync::Arc;

use moka::{policy::EvictionPolicy, sync::Cache};

use super::{
    call::{Scope, sized_work},
    error::ApiError,
};
use crate::metadata::Document;

/// A document takes about this many times the memory of its bytes; less where it shares with others.
const PARSED_FACTOR: usize = 9;

/// Documents by their files' locations, bounded by memory.
pub(crate) struct RecentTables(Cache<String, Recent>);

#[derive(Clone)]
struct Recent {
    tenant: Arc<str>,
    /// The tenant's when it was read or written; see [`crate::storage::Storage::generation`].
    generation: i64,
    table: SizedTable,
}

/// A document and the size of its file.
#[derive(Clone)]
pub(super) struct SizedTable {
    pub(super) document: Arc<Document>,
    pub(super) bytes: usize,
}

impl RecentTables {
    pub(crate) fn new(capacity: u64) -> Self {
        let weigh = |location: &String, recent: &Recent| {
            u32::try_from(location.len() + recent.table.bytes * PARSED_FACTOR).unwrap_or(u32::MAX)
        };
        // What was written last is read next, though it was never read before.
        let policy = EvictionPolicy::lru();
        Self(Cache::builder().max_capacity(capacity).weigher(weigh).eviction_policy(policy).build())
    }

    fn get(&self, tenant: &str, generation: i64, location: &str) -> Option<SizedTable> {
        let found = self.0.get(location)?;
        (*found.tenant == *tenant && found.generation == generation).then_some(found.table)
    }

    fn put(&self, tenant: &str, generation: i64, location: &str, table: SizedTable) {
        self.0.insert(location.to_owned(), Recent { tenant: Arc::from(tenant), generation, table });
    }
}

impl Scope {
    /// The document of a table whose metadata file lies there.
    pub(super) async fn table_at(&self, location: &str) -> Result<SizedTable, ApiError> {
        let (storage, recent, tenant) = (&self.state.storage, &self.state.recent_tables, &self.tenant);
        let generation = storage.generation(tenant);
        if let Some(table) = recent.get(tenant, generation, location) {
            return Ok(table);
        }
        let file = storage.read_metadata(tenant, location).await?;
        let bytes = file.len();
        let document = sized_work(bytes, move || Ok(Document::parse_table(&file)?)).await?;
        let table = SizedTable { document: Arc::new(document), bytes };
        recent.put(tenant, generation, location, table.clone());
        Ok(table)
    }

    /// Writes a table's or view's new document and answers where. Durable when it returns.
    pub(super) async fn write_document(
        &self,
        document: &Arc<Document>,
        former_location: Option<&str>,
    ) -> Result<String, crate::CatalogError> {
        let (storage, tenant) = (&self.state.storage, &self.tenant);
        let (generation, file) = (storage.generation(tenant), document.to_bytes());
        let (bytes, place) = (file.len(), document.location().unwrap_or_default());
        let codec = document.metadata_codec();
        let location = storage.write_metadata(tenant, place, former_location, codec, file).await?;
        let table = SizedTable { document: Arc::clone(document), bytes };
        self.state.recent_tables.put(tenant, generation, &location, table);
        Ok(location)
    }
}
