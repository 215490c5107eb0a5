//! The limit: DataFusion alone, from Parquet to Parquet.

use std::sync::Arc;

use anyhow::{Context, Result};
use datafusion::{
    config::TableParquetOptions,
    dataframe::DataFrameWriteOptions,
    execution::{memory_pool::FairSpillPool, runtime_env::RuntimeEnvBuilder},
    prelude::{ParquetReadOptions, SessionConfig, SessionContext},
};
use firn_compactor::models;
use tempfile::TempDir;

/// The newest row of each key, as models of kind `latest` have it.
const NEWEST: &str = "event_time DESC, received_at DESC, log_partition DESC, log_offset DESC";

pub(crate) struct Limit {
    session: SessionContext,
    bronze: Vec<String>,
    folder: TempDir,
}

impl Limit {
    /// Over the same files that Firn reads.
    pub(crate) fn new(threads: usize, memory_bytes: usize, bronze: &[String]) -> Result<Self> {
        let pool = Arc::new(FairSpillPool::new(memory_bytes));
        let runtime = RuntimeEnvBuilder::new().with_memory_pool(pool).build_arc()?;
        let config = SessionConfig::new().with_target_partitions(threads);
        Ok(Self {
            session: SessionContext::new_with_config_rt(config, runtime),
            bronze: bronze.to_vec(),
            folder: TempDir::with_prefix("firn-bench-")?,
        })
    }

    /// Computes a model's output into a file of its own, from those of the models before it.
    pub(crate) async fn run(&self, model: &str) -> Result<()> {
        if model == "silver.inventory" {
            for schema in ["bronze", "silver", "gold"] {
                self.session.sql(&format!("CREATE SCHEMA {schema}")).await?.collect().await?;
            }
            let files = self.session.read_parquet(self.bronze.clone(), ParquetReadOptions::default()).await?;
            self.session.register_table("bronze.inventory", files.into_view())?;
        }
        let rows = self.session.sql(&sql(model)?).await?;
        let target = self.folder.path().join(format!("{model}.parquet")).display().to_string();
        let mut options = TableParquetOptions::default();
        options.global.compression = Some("zstd(1)".to_owned());
        rows.write_parquet(&target, DataFrameWriteOptions::new(), Some(options)).await?;
        self.session.register_parquet(model, &target, ParquetReadOptions::default()).await?;
        Ok(())
    }
}

/// What a model computes, as one statement.
fn sql(model: &str) -> Result<String> {
    let first = |input: &str, more: &str, key: &str, order: &str| {
        format!(
            "SELECT * EXCEPT (n) FROM (SELECT *, row_number() OVER (PARTITION BY {key} ORDER BY {order}) AS n \
             FROM (SELECT *{more} FROM {input})) WHERE n = 1"
        )
    };
    Ok(match model {
        "silver.inventory" => first("bronze.inventory", "", "host_id, event_id", "log_partition, log_offset"),
        "silver.device" => first("silver.inventory", "", "host_id", NEWEST),
        "silver.device_daily" => {
            let day = ", CAST(event_time AS DATE) AS day";
            first("silver.inventory", day, "host_id, day", NEWEST)
        }
        other => {
            let graph = models()?;
            let found = graph.models().iter().find(|model| model.table.to_string() == other);
            found.with_context(|| format!("there is no model of {other}"))?.sql.clone()
        }
    })
}
