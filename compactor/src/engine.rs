//! Running SQL over lake tables: bounded memory, spilling to disk, and results in types that tables can hold.

mod checks;
mod clean;
mod columns;
mod dedup;
mod json;
mod judged;
mod latest;
mod locate;
mod memory;
mod partial;
mod plan;
mod pour;
mod trial;
mod verdicts;
mod winners;

use std::sync::Arc;

use datafusion::{
    catalog::{MemorySchemaProvider, SchemaProvider, TableProvider},
    error::DataFusionError,
    execution::{
        context::SessionContext,
        disk_manager::{DiskManagerBuilder, DiskManagerMode},
        runtime_env::{RuntimeEnv, RuntimeEnvBuilder},
    },
    prelude::SessionConfig,
    sql::TableReference,
};
use firn_catalog_client::iceberg::TableIdent;

use crate::{CompactorConfig, CompactorError};

pub(crate) use checks::Checks;
pub(crate) use clean::{SharedChecks, clean};
pub(crate) use columns::{documented_schema, lake_schema};
pub(crate) use dedup::{Repeats, find_repeats};
pub(crate) use json::{rows_as_json, rows_from_json};
pub(crate) use judged::judged;
pub(crate) use latest::{Arrived, Newest};
pub(crate) use locate::{collect, locate, named, ranges};
use memory::QueryMemory;
pub(crate) use partial::{Partials, merge_partials, remembered_columns};
pub use plan::check_models;
pub(crate) use plan::output_schema;
pub(crate) use pour::Pour;
pub(crate) use trial::{Trial, as_columns, matching};
pub(crate) use verdicts::{RuleSet, judge, verdict_schema};
pub(crate) use winners::{columns_for_places, newest_places, with_places};

/// Queries that share the memory at least: a run has two models at work, each with two threads.
const QUERIES: usize = 4;

/// What all queries of the process share: memory, disk and the number of parallel streams. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Engine {
    runtime: Arc<RuntimeEnv>,
    parallelism: usize,
    merge_bytes: usize,
}

impl Engine {
    /// An engine with the configured bounds.
    pub(crate) fn new(config: &CompactorConfig) -> Result<Self, CompactorError> {
        Self::shared_by(config, QUERIES)
    }

    /// The same for at least so many that sort and group at the same time.
    pub(crate) fn shared_by(config: &CompactorConfig, queries: usize) -> Result<Self, CompactorError> {
        let mode = match &config.spill_dir {
            Some(folder) => DiskManagerMode::Directories(vec![folder.clone()]),
            None => DiskManagerMode::OsTmpDirectory,
        };
        let disk =
            DiskManagerBuilder::default().with_mode(mode).with_max_temp_directory_size(config.spill_bytes);
        let memory = Arc::new(QueryMemory::new(config.query_bytes(), queries));
        let merge_bytes = memory.merge_bytes();
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(memory)
            .with_disk_manager_builder(disk)
            .build_arc()
            .map_err(|error| CompactorError::query("the query engine", &error))?;
        Ok(Self { runtime, parallelism: config.threads.max(1), merge_bytes })
    }

    /// A session of its own tables over the shared bounds.
    pub(crate) fn session(&self) -> SessionContext {
        let mut config = SessionConfig::new()
            .with_target_partitions(self.parallelism)
            .with_information_schema(false)
            .with_sort_spill_reservation_bytes(self.merge_bytes);
        config.options_mut().sql_parser.collect_spans = true;
        SessionContext::new_with_config_rt(config, Arc::clone(&self.runtime))
    }
}

/// Makes `table` known to the session under its lake name.
pub(crate) fn register(
    session: &SessionContext,
    table: &TableIdent,
    provider: Arc<dyn TableProvider>,
) -> Result<(), DataFusionError> {
    let namespace = table.namespace.join(".");
    let options = session.copied_config();
    let catalog = session
        .catalog(&options.options().catalog.default_catalog)
        .ok_or_else(|| DataFusionError::Internal("a session without its default catalog".to_owned()))?;
    if catalog.schema(&namespace).is_none() {
        let schema: Arc<dyn SchemaProvider> = Arc::new(MemorySchemaProvider::new());
        catalog.register_schema(&namespace, schema)?;
    }
    session.register_table(TableReference::partial(namespace, table.name.clone()), provider)?;
    Ok(())
}

/// A column name as SQL text.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Column names as a SQL list.
pub(crate) fn quoted_list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(quoted).collect::<Vec<_>>().join(", ")
}
