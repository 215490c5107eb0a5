//! What a worker and a gateway need: a log, and a catalog in a process of its own, whose time counts as nobody's.

use std::{
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use chrono::Utc;
use firn_auth::SigningKey;
use firn_catalog::{Catalog, CatalogConfig, S3Config};
use firn_catalog_client::{CatalogClient, StaticToken, TenantCreate};
use firn_ingest::{Worker, WorkerConfig, ensure_inventory_topic};
use firn_inventory::tables::INVENTORY_TOPIC;
use firn_runtime::StatusBoard;
use firn_stream::{EmbeddedConfig, EmbeddedLog, KafkaConfig, KafkaLog, Log, OffsetRange};
use firn_table::{FileIo, StorageConfig};
use firn_tests::{Kafka, Process, free_port};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::records;

/// Longer than any measurement.
const TOKEN_TTL: Duration = Duration::from_secs(86_400);
/// Longest that something may take that must happen.
const PATIENCE: Duration = Duration::from_secs(300);
/// Longest that a new topic may take to answer.
const SETTLING: Duration = Duration::from_secs(30);
/// Records of one append.
const BATCH: u64 = 2_000;
/// Between two looks at what was taken: with a thousand tenants a look isn't free, and its time counts as the worker's.
const LOOK: Duration = Duration::from_millis(250);

/// See the module.
pub(crate) struct House {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) kafka: Option<Kafka>,
    pub(crate) catalog: CatalogClient,
    pub(crate) file_io: FileIo,
    pub(crate) board: StatusBoard,
    pub(crate) key: SigningKey,
    pub(crate) tenants: u64,
    _server: Process,
    pub(crate) folder: TempDir,
}

impl House {
    /// With so many tenants that have tables, over Kafka or the embedded log.
    pub(crate) async fn start(tenants: u64, on_kafka: bool) -> Result<Self> {
        let folder = TempDir::with_prefix("firn-bench-")?;
        let key = SigningKey::generate();
        std::fs::write(folder.path().join("key.pem"), key.to_pem())?;
        let port = free_port()?;
        let (server, catalog) = serve_elsewhere(&folder, &key, port).await?;
        let kafka = if on_kafka { Some(Kafka::start().await?) } else { None };
        let log: Arc<dyn Log> = match &kafka {
            None => EmbeddedLog::open(EmbeddedConfig::new(folder.path().join("log.db")))?,
            Some(kafka) => {
                let config = KafkaConfig { replication: 1, ..KafkaConfig::new(kafka.bootstrap_servers()) };
                KafkaLog::connect(config).await?
            }
        };
        ensure_inventory_topic(log.as_ref()).await?;
        let (file_io, board) = (FileIo::new(StorageConfig::default()), StatusBoard::default());
        let house = Self { log, kafka, catalog, file_io, board, key, tenants, _server: server, folder };
        let names = std::iter::once("firn".to_owned()).chain((0..tenants).map(records::tenant));
        stream::iter(names).map(Ok).try_for_each_concurrent(4, |name| house.create_tenant(name)).await?;
        house.warm_up().await?;
        Ok(house)
    }

    async fn create_tenant(&self, name: String) -> Result<()> {
        if self.catalog.tenant(&name).tenant().await.is_ok() {
            return Ok(());
        }
        self.catalog.create_tenant(&TenantCreate { name, ..TenantCreate::default() }).await?;
        Ok(())
    }

    /// Makes all tenants' tables.
    async fn warm_up(&self) -> Result<()> {
        self.fill(0, self.tenants).await?;
        let hasty = WorkerConfig {
            commit_interval: Duration::from_millis(100),
            max_commits_per_s: u32::MAX,
            ..WorkerConfig::default()
        };
        self.work(hasty, self.tenants).await.map(drop)
    }

    /// Appends records from a number on; answers where in the log they lie, by partition.
    pub(crate) async fn fill(&self, first: u64, count: u64) -> Result<Vec<OffsetRange>> {
        let before = self.offsets().await?;
        let received_at_us = Utc::now().timestamp_micros();
        let batches = (first..first + count).step_by(usize::try_from(BATCH)?);
        let append = |begin: u64| {
            let numbers = begin..(begin + BATCH).min(first + count);
            let batch =
                numbers.map(|number| records::produced(number, self.tenants, received_at_us)).collect();
            async move { self.log.append(batch).await.into_iter().collect::<Result<Vec<_>, _>>() }
        };
        stream::iter(batches).map(append).buffer_unordered(4).try_for_each(|_| async { Ok(()) }).await?;
        let after = self.offsets().await?;
        Ok(before
            .iter()
            .zip(after)
            .map(|(before, after)| OffsetRange { start: before.end, ..after })
            .collect())
    }

    /// A topic that was just made has no leaders for a moment.
    async fn offsets(&self) -> Result<Vec<OffsetRange>> {
        let begun = Instant::now();
        loop {
            match self.log.offsets(INVENTORY_TOPIC).await {
                Err(_) if begun.elapsed() < SETTLING => tokio::time::sleep(LOOK).await,
                ranges => return Ok(ranges?),
            }
        }
    }

    /// Lets a worker take so many records; answers how many it took.
    pub(crate) async fn work(&self, config: WorkerConfig, count: u64) -> Result<u64> {
        let before = self.taken();
        let stop = CancellationToken::new();
        let (worker, stopped) = (self.worker(config), stop.clone());
        let running = tokio::spawn(async move { worker.run(stopped).await });
        let all_taken = async {
            while self.taken() - before < count && !running.is_finished() {
                tokio::time::sleep(LOOK).await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, all_taken).await;
        stop.cancel();
        running.await??;
        let taken = self.taken() - before;
        ensure!(
            in_time.is_ok() && taken == count,
            "{taken} of {count} records were taken; {:?}",
            self.failures()
        );
        Ok(taken)
    }

    pub(crate) fn worker(&self, config: WorkerConfig) -> Worker {
        let (log, catalog) = (Arc::clone(&self.log), self.catalog.clone());
        Worker::new(config, log, catalog, self.file_io.clone(), self.board.clone())
    }

    /// Records that workers say they have committed to bronze.
    fn taken(&self) -> u64 {
        let stages =
            self.board.all().into_iter().filter(|((stage, tenant), _)| stage == "ingest" && tenant != "*");
        stages.filter_map(|(_, status)| status.totals.get("records").copied()).sum()
    }

    fn failures(&self) -> Vec<String> {
        self.board.all().into_values().map(|status| status.message).filter(|text| !text.is_empty()).collect()
    }
}

/// Starts this program again, as a catalog.
async fn serve_elsewhere(folder: &TempDir, key: &SigningKey, port: u16) -> Result<(Process, CatalogClient)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("serve-catalog").arg(folder.path()).arg(port.to_string());
    let mut server = Process::start("the catalog", &mut command, &folder.path().join("catalog.log"))?;
    let token = StaticToken(key.service_token("ingest", TOKEN_TTL));
    let catalog = CatalogClient::new(&format!("http://127.0.0.1:{port}"), Arc::new(token))?;
    server.ready(Duration::from_secs(30), async || Ok(catalog.tenants().await.map(drop)?)).await?;
    Ok((server, catalog))
}

/// Serves a catalog over SQLite and local files, for ever.
pub(crate) async fn serve_catalog(folder: &Path, port: u16) -> Result<()> {
    let url = format!("http://127.0.0.1:{port}");
    let catalog = Catalog::open(CatalogConfig {
        database_url: format!("sqlite:{}", folder.join("catalog.db").display()),
        warehouse: format!("file://{}", folder.join("warehouse").display()),
        s3: S3Config::default(),
        region: "local".to_owned(),
        cache_bytes: 256 << 20,
        signing_key: SigningKey::from_pem(&std::fs::read_to_string(folder.join("key.pem"))?)?,
        public_url: url,
    })
    .await?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.context("the catalog's port")?;
    Ok(axum::serve(listener, catalog.router()).await?)
}
