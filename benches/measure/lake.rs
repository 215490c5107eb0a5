//! A catalog in this process, with inventories in bronze.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use firn_auth::SigningKey;
use firn_catalog::{Catalog, CatalogConfig, S3Config};
use firn_catalog_client::{CatalogClient, StaticToken, TenantClient, TenantCreate, iceberg::TableIdent};
use firn_inventory::{BronzeBuilder, LogPosition, bronze_schema, decode};
use firn_table::{
    DataFileWriter, FileIo, NewTable, Operation, Partitioning, StorageConfig, Table, TableErrorKind,
    TableOperation, Transaction, WriteOptions, ensure_table,
};
use serde_json::json;
use tempfile::TempDir;

/// Records of one commit to bronze.
const BATCH: u64 = 100_000;
/// Microseconds between two records: a million of them come within a day.
const PAUSE_US: i64 = 80_000;
/// When the records begin: 2026-11-01T00:00:00Z.
const START_US: i64 = 1_793_491_200_000_000;

/// Whose inventories there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fleet {
    /// Computers, which report in turn.
    pub(crate) hosts: u64,
    /// Whether ids of events grow with time, as those of the collector do.
    pub(crate) ordered_ids: bool,
}

pub(crate) struct Lake {
    pub(crate) catalog: CatalogClient,
    pub(crate) client: TenantClient,
    pub(crate) file_io: FileIo,
    _temporary: Option<TempDir>,
}

impl Lake {
    /// The lake in a folder, or a new one in a temporary folder.
    pub(crate) async fn open(folder: Option<&Path>) -> Result<Self> {
        let temporary = folder.is_none().then(|| TempDir::with_prefix("firn-bench-")).transpose()?;
        let folder = folder.or(temporary.as_ref().map(TempDir::path)).context("no folder")?;
        std::fs::create_dir_all(folder)?;
        let folder = folder.canonicalize()?;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let key = SigningKey::generate();
        let catalog = Catalog::open(CatalogConfig {
            database_url: format!("sqlite:{}", folder.join("catalog.db").display()),
            warehouse: format!("file://{}", folder.join("warehouse").display()),
            s3: S3Config::default(),
            region: "local".to_owned(),
            cache_bytes: 32 << 20,
            signing_key: key.clone(),
            public_url: url.clone(),
        });
        let server = catalog.await?;
        let tenant = TenantCreate { name: "acme".to_owned(), ..TenantCreate::default() };
        server.ensure_tenant(&tenant).await?;
        let router = server.router();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let token = StaticToken(key.service_token("compactor", Duration::from_secs(86_400)));
        let catalog = CatalogClient::new(&url, Arc::new(token))?;
        let (client, file_io) = (catalog.tenant("acme"), FileIo::new(StorageConfig::default()));
        Ok(Self { catalog, client, file_io, _temporary: temporary })
    }

    /// Appends to bronze what it lacks of so many rows; answers how many it has then.
    pub(crate) async fn fill(&self, rows: u64, fleet: Fleet) -> Result<u64> {
        let held = match Table::load(&self.client, &self.file_io, "main", &bronze()).await {
            Ok(table) => table.data_files(None).await?.iter().map(|file| file.record_count).sum(),
            Err(error) if error.kind == TableErrorKind::NotFound => 0,
            Err(error) => return Err(error.into()),
        };
        self.report(held, rows.saturating_sub(held), fleet).await?;
        Ok(held.max(rows))
    }

    /// Appends records of the log from an offset on to bronze.
    pub(crate) async fn report(&self, first: u64, count: u64, fleet: Fleet) -> Result<()> {
        let partitioning =
            vec![Partitioning { column: "received_at".to_owned(), transform: "day".to_owned() }];
        let wanted =
            NewTable { ident: bronze(), schema: bronze_schema(), partitioning, properties: [].into() };
        let table = ensure_table(&self.client, &self.file_io, "main", &wanted).await?;
        let mut offset = first;
        while offset < first + count {
            let end = (first + count).min(offset + BATCH);
            let mut rows = BronzeBuilder::default();
            for offset in offset..end {
                let (record, position) = inventory(offset, fleet)?;
                rows.push(&decode(&serde_json::to_vec(&record)?)?, &position);
            }
            let mut writer = DataFileWriter::new(&table, WriteOptions::default())?;
            writer.write(&rows.finish()).await?;
            let files = writer.close().await?;
            self.commit(&bronze(), Operation::Append { files }, &[]).await?;
            offset = end;
        }
        Ok(())
    }

    /// Commits to one table, with properties to set.
    pub(crate) async fn commit(
        &self,
        table: &TableIdent,
        operation: Operation,
        properties: &[(&str, &str)],
    ) -> Result<()> {
        let properties = properties.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let operation = TableOperation {
            table: table.clone(),
            operation,
            summary: [].into(),
            assert_properties: [].into(),
            set_properties: properties.collect(),
        };
        let transaction =
            Transaction { reference: "main".to_owned(), operations: vec![operation], max_attempts: 3 };
        transaction.commit(&self.client, &self.file_io).await?;
        Ok(())
    }

    /// A table as it is now.
    pub(crate) async fn load(&self, table: &TableIdent) -> Result<Table> {
        Ok(Table::load(&self.client, &self.file_io, "main", table).await?)
    }

    /// The data files of bronze, as paths.
    pub(crate) async fn bronze_files(&self) -> Result<Vec<String>> {
        let files = self.load(&bronze()).await?.data_files(None).await?;
        Ok(files.into_iter().map(|file| file.location.trim_start_matches("file://").to_owned()).collect())
    }
}

/// When the record at an offset was received, microseconds since the epoch.
pub(crate) fn received_at_us(offset: u64) -> Result<i64> {
    Ok(START_US + i64::try_from(offset)? * PAUSE_US)
}

/// The table of inventories.
pub(crate) fn bronze() -> TableIdent {
    TableIdent::new("bronze", "inventory")
}

/// Another number for each number, without order: multiplying by an odd one and mixing bits from above can be undone.
fn scattered(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// One inventory of a fleet whose computers report in turn.
fn inventory(offset: u64, fleet: Fleet) -> Result<(serde_json::Value, LogPosition)> {
    let host = offset % fleet.hosts;
    let event = if fleet.ordered_ids { offset } else { scattered(offset) };
    let software: Vec<_> = (0..5)
        .map(|package| json!({"name": format!("package-{package}"), "version": format!("{}.{}", host % 7, offset % 5)}))
        .collect();
    let record = json!({
        "host_id": format!("host-{host:08}"),
        "event_id": format!("event-{event:016x}"),
        "hostname": format!("host-{host:08}.example.org"),
        "organization_id": format!("org-{}", host % 50),
        "os_type": if host.is_multiple_of(3) { "windows" } else { "linux" },
        "cpu_usage": offset % 10_000,
        "memory_total_bytes": 17_179_869_184_u64,
        "memory_used_bytes": (offset % 16) << 30,
        "disk_total_bytes": 512_000_000_000_u64,
        "disk_free_bytes": (offset % 500) * 1_000_000_000,
        "disk_encrypted": !host.is_multiple_of(11),
        "software": software,
    });
    let position = LogPosition {
        topic_id: "bench".to_owned(),
        partition: i32::try_from(host % 8)?,
        offset: i64::try_from(offset).context("too many rows")?,
        received_at_us: received_at_us(offset)?,
        source: "native".to_owned(),
    };
    Ok((record, position))
}
