//! A real catalog in this process, with inventories in bronze.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, pin::pin, sync::Arc, task::Poll, time::Duration};

use datafusion::{arrow::util::pretty::pretty_format_batches, prelude::SessionContext};
use firn_auth::SigningKey;
use firn_catalog::{Catalog, CatalogConfig, S3Config};
use firn_catalog_client::{CatalogClient, StaticToken, TenantClient, TenantCreate, iceberg::TableIdent};
use firn_inventory::{BronzeBuilder, LogPosition, bronze_schema, decode};
use firn_runtime::{StatusBoard, reload::Live};
use firn_table::{
    DataFileWriter, FileIo, NewTable, Operation, Partitioning, StorageConfig, Table, TableOperation,
    TableScan, Transaction, WriteOptions, ensure_table,
};
use firn_tests::SeaweedFs;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Compactor, CompactorConfig, ErasureConfig};

/// Microseconds of a minute.
pub(crate) const MINUTE: i64 = 60_000_000;
/// When the tests' inventories begin: 2026-11-22T10:00:00Z.
pub(crate) const START: i64 = 1_795_341_600_000_000;

/// A catalog with the tenant `acme`.
pub(crate) struct Lake {
    pub(crate) catalog: CatalogClient,
    pub(crate) client: TenantClient,
    pub(crate) file_io: FileIo,
    pub(crate) board: StatusBoard,
    pub(crate) key: SigningKey,
    /// Of the catalog.
    pub(crate) url: String,
    folder: TempDir,
}

impl Lake {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let warehouse = format!("file://{}", folder.path().join("warehouse").display());
        Self::over(folder, warehouse, S3Config::default()).await
    }

    /// With its files in the bucket `lake` of an S3 server.
    pub(crate) async fn on_s3(endpoint: &str) -> Self {
        let StorageConfig { endpoint, region, path_style, credentials } = s3(endpoint);
        let s3 = S3Config {
            endpoint,
            region,
            path_style,
            credentials: credentials.map(Live::new),
            ..S3Config::default()
        };
        Self::over(tempfile::tempdir().unwrap(), "s3://lake/firn".to_owned(), s3).await
    }

    async fn over(folder: TempDir, warehouse: String, s3_config: S3Config) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let key = SigningKey::generate();
        let file_io = FileIo::new(s3_config.endpoint.as_deref().map(s3).unwrap_or_default());
        let config = CatalogConfig {
            database_url: format!("sqlite:{}", folder.path().join("catalog.db").display()),
            warehouse,
            s3: s3_config,
            region: "eu-central-1".to_owned(),
            cache_bytes: 16 << 20,
            signing_key: key.clone(),
            public_url: url.clone(),
        };
        let catalog = Catalog::open(config).await.unwrap();
        let tenant = TenantCreate { name: "acme".to_owned(), ..TenantCreate::default() };
        catalog.ensure_tenant(&tenant).await.unwrap();
        let router = catalog.router();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let token = key.service_token("compactor", Duration::from_secs(3600));
        let catalog = CatalogClient::new(&url, Arc::new(StaticToken(token))).unwrap();
        let client = catalog.tenant("acme");
        Self { catalog, client, file_io, board: StatusBoard::default(), key, url, folder }
    }

    /// Where the database and the files are.
    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// A compactor that looks again at once, and holds its leases under `holder`.
    pub(crate) fn compactor(&self, holder: &str) -> Compactor {
        let mut config = CompactorConfig { holder: holder.to_owned(), ..CompactorConfig::default() };
        config.interval = Duration::ZERO;
        config.spill_dir = Some(self.folder.path().to_owned());
        config.maintenance.interval = Duration::ZERO;
        config.maintenance.min_snapshots = 1;
        // The tests' inventories are of another time.
        config.maintenance.pause_behind = Duration::MAX;
        config.erasure = ErasureConfig {
            settle: Duration::ZERO,
            replica_lag: Duration::ZERO,
            orphan_age: Duration::ZERO,
            retry: Duration::ZERO,
            recheck: Duration::ZERO,
        };
        Compactor::new(config, self.catalog.clone(), self.file_io.clone(), self.board.clone()).unwrap()
    }

    pub(crate) async fn table(&self, reference: &str, name: &str) -> Option<Table> {
        let (namespace, name) = name.split_once('.').unwrap();
        Table::load(&self.client, &self.file_io, reference, &TableIdent::new(namespace, name)).await.ok()
    }

    /// Appends inventories to bronze in one commit.
    pub(crate) async fn report(&self, records: &[Report]) {
        let wanted = NewTable {
            ident: TableIdent::new("bronze", "inventory"),
            schema: bronze_schema(),
            partitioning: vec![Partitioning {
                column: "received_at".to_owned(),
                transform: "day".to_owned(),
            }],
            properties: [].into(),
        };
        let table = ensure_table(&self.client, &self.file_io, "main", &wanted).await.unwrap();
        let mut rows = BronzeBuilder::default();
        for record in records {
            let position = LogPosition {
                topic_id: "t".to_owned(),
                partition: 0,
                offset: record.offset,
                received_at_us: START + record.offset * MINUTE,
                source: "native".to_owned(),
            };
            rows.push(&decode(record.json.to_string().as_bytes()).unwrap(), &position);
        }
        let mut writer = DataFileWriter::new(&table, WriteOptions::default()).unwrap();
        writer.write(&rows.finish()).await.unwrap();
        let operation = Operation::Append { files: writer.close().await.unwrap() };
        self.commit("main", &table, operation).await;
    }

    /// Sets a property of a table.
    pub(crate) async fn set(&self, table: &str, property: &str, value: &str) {
        let table = self.table("main", table).await.unwrap();
        let set = [(property.to_owned(), value.to_owned())].into();
        self.commit_with("main", &table, Operation::Append { files: Vec::new() }, set).await;
    }

    pub(crate) async fn commit(&self, reference: &str, table: &Table, operation: Operation) {
        self.commit_with(reference, table, operation, BTreeMap::new()).await;
    }

    async fn commit_with(
        &self,
        reference: &str,
        table: &Table,
        operation: Operation,
        set_properties: BTreeMap<String, String>,
    ) {
        let operation = TableOperation {
            table: table.ident().clone(),
            operation,
            summary: [].into(),
            assert_properties: [].into(),
            set_properties,
        };
        let transaction =
            Transaction { reference: reference.to_owned(), operations: vec![operation], max_attempts: 3 };
        transaction.commit(&self.client, &self.file_io).await.unwrap();
    }

    /// Rows of a table at a reference; `sql` calls it `t`.
    pub(crate) async fn rows(&self, reference: &str, table: &str, sql: &str) -> String {
        let table = self.table(reference, table).await.unwrap();
        let session = SessionContext::new();
        session.register_table("t", Arc::new(TableScan::new(&table, None).await.unwrap())).unwrap();
        let batches = session.sql(sql).await.unwrap().collect().await.unwrap();
        pretty_format_batches(&batches).unwrap().to_string()
    }

    /// Names of all references.
    pub(crate) async fn references(&self) -> Vec<String> {
        let mut names: Vec<_> =
            self.client.references().await.unwrap().iter().map(|found| found.name().to_owned()).collect();
        names.sort();
        names
    }
}

/// How the files of a lake on S3 are reached.
pub(crate) fn s3(endpoint: &str) -> StorageConfig {
    StorageConfig {
        endpoint: Some(endpoint.to_owned()),
        region: Some("us-east-1".to_owned()),
        path_style: true,
        credentials: Some((SeaweedFs::ACCESS_KEY.to_owned(), SeaweedFs::SECRET_KEY.to_owned())),
    }
}

/// One inventory; received a minute after the one with the offset before.
pub(crate) struct Report {
    offset: i64,
    json: Value,
}

/// An inventory of `host` with id `event` and the fields of `more`.
pub(crate) fn inventory(offset: i64, host: &str, event: &str, more: Value) -> Report {
    let mut json = json!({
        "host_id": host,
        "event_id": event,
        "hostname": format!("{host}.example.org"),
        "organization_id": "org-1",
        "os_type": "linux",
    });
    json.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Report { offset, json }
}

/// How often work is polled before it is killed: about twenty places, closer together at first, to beyond its end.
pub(crate) fn growing() -> impl Iterator<Item = usize> {
    std::iter::successors(Some(4), |polls| Some(polls * 4 / 3 + 3))
}

/// Polls a future so often at the most, then drops it where it stands, as if its process were killed; `true` if it ended before.
pub(crate) async fn kill_after(polls: usize, work: impl Future<Output = ()>) -> bool {
    let mut work = pin!(work);
    let mut left = polls;
    std::future::poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(false);
        }
        left -= 1;
        work.as_mut().poll(context).map(|()| true)
    })
    .await
}
