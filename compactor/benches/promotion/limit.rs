//! The limit: DataFusion alone, from Parquet to Parquet.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Context, Result};
use datafusion::{
    config::TableParquetOptions,
    dataframe::DataFrameWriteOptions,
    execution::{memory_pool::FairSpillPool, runtime_env::RuntimeEnvBuilder},
    prelude::{ParquetReadOptions, SessionConfig, SessionContext},
};
use firn_compactor::models;
use tempfile::TempDir;

use crate::{Args, PLAIN};

/// How much more memory than Firn it has. Of ten million rows DataFusion's sorters leave their merge too little of a gigabyte.
const MORE_MEMORY: usize = 4;

/// The newest row of each key, as models of kind `latest` have it.
const NEWEST: &str = "event_time DESC, received_at DESC, log_partition DESC, log_offset DESC";

pub(crate) struct Limit {
    session: SessionContext,
    folder: PathBuf,
    _temporary: Option<TempDir>,
}

impl Limit {
    /// Over the same files that Firn reads. Beside a lake that stays, what models made before is there.
    pub(crate) async fn new(args: &Args, bronze: &[String]) -> Result<Self> {
        let temporary = args.lake.is_none().then(|| TempDir::with_prefix("firn-bench-")).transpose()?;
        let kept = args.lake.as_ref().map(|lake| lake.join("limit"));
        let folder =
            kept.or(temporary.as_ref().map(|folder| folder.path().to_owned())).context("no folder")?;
        let pool = Arc::new(FairSpillPool::new(MORE_MEMORY * (args.memory_mb << 20)));
        let runtime = RuntimeEnvBuilder::new().with_memory_pool(pool).build_arc()?;
        let config = SessionConfig::new().with_target_partitions(args.threads);
        let session = SessionContext::new_with_config_rt(config, runtime);
        for schema in ["bronze", "silver", "gold"] {
            session.sql(&format!("CREATE SCHEMA {schema}")).await?.collect().await?;
        }
        let files = session.read_parquet(bronze.to_vec(), ParquetReadOptions::default()).await?;
        session.register_table("bronze.inventory", files.into_view())?;
        let limit = Self { session, folder, _temporary: temporary };
        for model in PLAIN {
            if limit.target(model).exists() {
                limit.register(model).await?;
            }
        }
        Ok(limit)
    }

    /// Computes a model's output into a folder of its own, from those of the models before it.
    pub(crate) async fn run(&self, model: &str) -> Result<()> {
        let rows = self.session.sql(&sql(model)?).await?;
        self.session.deregister_table(model)?;
        let target = self.target(model);
        if target.exists() {
            std::fs::remove_dir_all(&target)?;
        }
        let mut options = TableParquetOptions::default();
        options.global.compression = Some("zstd(1)".to_owned());
        // A path with a slash at its end is a folder.
        let folder = format!("{}/", target.display());
        rows.write_parquet(&folder, DataFrameWriteOptions::new(), Some(options)).await?;
        self.register(model).await
    }

    fn target(&self, model: &str) -> PathBuf {
        self.folder.join(model)
    }

    async fn register(&self, model: &str) -> Result<()> {
        let folder = format!("{}/", self.target(model).display());
        self.session.register_parquet(model, &folder, ParquetReadOptions::default()).await?;
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
