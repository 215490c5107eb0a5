//! A catalog, a log and files of its own for each test.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};
use axum::{
    extract::{Request, State},
    http::{Method, StatusCode},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use datafusion::prelude::SessionContext;
use firn_auth::SigningKey;
use firn_catalog::{Catalog, CatalogConfig, S3Config};
use firn_catalog_client::{CatalogClient, StaticToken, TenantCreate, iceberg::TableIdent};
use firn_ingest::{Worker, WorkerConfig, WorkerError, ensure_inventory_topic};
use firn_inventory::{
    record_key,
    tables::{INVENTORY_TOPIC, RECEIVED_AT_HEADER, SOURCE_HEADER, TENANT_HEADER},
};
use firn_runtime::{StageStatus, StatusBoard};
use firn_stream::{EmbeddedConfig, EmbeddedLog, Log, ProduceRecord};
use firn_table::{FileIo, StorageConfig, Table, TableErrorKind, TableScan};
use tempfile::TempDir;
use tokio::{sync::Notify, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// How long something that must happen may take, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Everything a worker needs.
pub(crate) struct House {
    pub(crate) log: Arc<EmbeddedLog>,
    pub(crate) catalog: CatalogClient,
    pub(crate) file_io: FileIo,
    pub(crate) board: StatusBoard,
    pub(crate) faults: Arc<Faults>,
    pub(crate) key: SigningKey,
    server: Catalog,
    _folder: TempDir,
}

/// What happens to requests on their way; to those of POST, but for the first two.
#[derive(Default)]
pub(crate) struct Faults {
    /// Requests until the one that is never answered; none is if this is 0.
    pub(crate) silent_in: AtomicUsize,
    /// The server acts on that one; else it doesn't see it.
    pub(crate) acts_in_silence: AtomicBool,
    /// Requests that are still to be lost before the server sees them.
    pub(crate) requests_to_lose: AtomicUsize,
    /// Answers that are still to be lost after the server acted.
    pub(crate) answers_to_lose: AtomicUsize,
    /// The next request is held back before the server sees it, and gets there even if its sender is gone.
    pub(crate) hold_next: AtomicBool,
    /// Told when a request is held, or will never be answered.
    pub(crate) held: Notify,
    /// Lets a held request go on.
    pub(crate) go_on: Notify,
    /// Told when a held request was answered.
    pub(crate) answered: Notify,
    /// The last answer to a held request.
    pub(crate) late_status: AtomicU16,
}

/// A row's place in the log.
pub(crate) type Place = (i32, i64);

impl House {
    /// With the tenants `firn` and those named.
    pub(crate) async fn new(tenants: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let key = SigningKey::generate();
        let server = Catalog::open(CatalogConfig {
            database_url: format!("sqlite:{}", folder.path().join("catalog.db").display()),
            warehouse: format!("file://{}", folder.path().join("warehouse").display()),
            s3: S3Config::default(),
            region: "eu-central-1".to_owned(),
            cache_bytes: 16 << 20,
            signing_key: key.clone(),
            public_url: url.clone(),
        })
        .await
        .unwrap();
        let faults = Arc::new(Faults::default());
        let router = server.router().layer(from_fn_with_state(Arc::clone(&faults), with_faults));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let token = StaticToken(key.service_token("ingest", Duration::from_secs(3600)));
        let house = Self {
            log: EmbeddedLog::open(EmbeddedConfig::new(folder.path().join("log.db"))).unwrap(),
            catalog: CatalogClient::new(&url, Arc::new(token)).unwrap(),
            file_io: FileIo::new(StorageConfig::default()),
            board: StatusBoard::default(),
            faults,
            key,
            server,
            _folder: folder,
        };
        ensure_inventory_topic(house.log.as_ref()).await.unwrap();
        for tenant in ["firn"].iter().chain(tenants) {
            house.create_tenant(tenant).await;
        }
        house
    }

    pub(crate) async fn create_tenant(&self, tenant: &str) {
        let request = TenantCreate { name: tenant.to_owned(), ..TenantCreate::default() };
        self.server.ensure_tenant(&request).await.unwrap();
    }

    pub(crate) fn worker(&self) -> Worker {
        let config = WorkerConfig {
            commit_interval: Duration::from_millis(100),
            poll_records: 20,
            drain: Duration::from_secs(30),
            reference_refresh: Duration::ZERO,
            ..WorkerConfig::default()
        };
        let (log, catalog) = (self.log.clone(), self.catalog.clone());
        Worker::new(config, log, catalog, self.file_io.clone(), self.board.clone())
    }

    /// Appends well-addressed records of hosts `from` to `to`; a record whose number is a multiple of 10 is malformed.
    pub(crate) async fn send(&self, tenant: &str, numbers: std::ops::Range<u32>) -> Vec<Place> {
        let record = |number: u32| {
            let host_id = format!("host-{}", number % 50);
            let seq = if number.is_multiple_of(10) { "\"ten\"".to_owned() } else { number.to_string() };
            produce(tenant, &host_id, &format!(r#"{{"host_id":"{host_id}","seq":{seq}}}"#))
        };
        self.append(numbers.map(record).collect()).await
    }

    pub(crate) async fn append(&self, records: Vec<ProduceRecord>) -> Vec<Place> {
        let results = self.log.append(records).await;
        results.into_iter().map(|result| result.map(|(at, offset)| (at.partition, offset)).unwrap()).collect()
    }

    /// Places of all rows of a table, sorted; none if there is no table.
    pub(crate) async fn places(&self, tenant: &str, name: &str) -> Vec<Place> {
        self.places_at(tenant, "main", name).await
    }

    /// The same on a branch.
    pub(crate) async fn places_at(&self, tenant: &str, branch: &str, name: &str) -> Vec<Place> {
        let Some(table) = self.table_at(tenant, branch, name).await else { return Vec::new() };
        places_in(&table).await
    }

    /// Places of all rows of a table in any namespace, sorted; none if there is no table.
    pub(crate) async fn places_of(&self, tenant: &str, name: (&str, &str)) -> Vec<Place> {
        let Some(table) = self.table_of(tenant, name).await else { return Vec::new() };
        places_in(&table).await
    }

    /// Columns of all rows of a table.
    pub(crate) async fn rows(&self, tenant: &str, name: &str, columns: &str) -> Vec<RecordBatch> {
        let Some(table) = self.table(tenant, name).await else { return Vec::new() };
        rows_of(&table, columns).await
    }

    pub(crate) async fn table(&self, tenant: &str, name: &str) -> Option<Table> {
        self.table_at(tenant, "main", name).await
    }

    pub(crate) async fn table_at(&self, tenant: &str, branch: &str, name: &str) -> Option<Table> {
        self.load(tenant, branch, TableIdent::new("bronze", name)).await
    }

    /// A table in any namespace.
    pub(crate) async fn table_of(&self, tenant: &str, (namespace, name): (&str, &str)) -> Option<Table> {
        self.load(tenant, "main", TableIdent::new(namespace, name)).await
    }

    async fn load(&self, tenant: &str, branch: &str, table: TableIdent) -> Option<Table> {
        let client = self.catalog.tenant(tenant);
        match Table::load(&client, &self.file_io, branch, &table).await {
            Ok(table) => Some(table),
            Err(error) if error.kind == TableErrorKind::NotFound => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Next offset by partition, as the tenant's table says.
    pub(crate) async fn positions(&self, tenant: &str) -> BTreeMap<i32, i64> {
        self.positions_at(tenant, "main").await
    }

    /// The same on a branch.
    pub(crate) async fn positions_at(&self, tenant: &str, branch: &str) -> BTreeMap<i32, i64> {
        let id = self.log.topic(INVENTORY_TOPIC).await.unwrap().unwrap().id;
        let properties = self.table_at(tenant, branch, "inventory").await.unwrap().properties();
        let prefix = format!("firn.position.{id}.");
        let own = properties.iter().filter_map(|(key, value)| Some((key.strip_prefix(&prefix)?, value)));
        own.map(|(partition, next)| (partition.parse().unwrap(), next.parse().unwrap())).collect()
    }

    /// Waits until both tables of a tenant hold this many rows.
    pub(crate) async fn await_rows(&self, tenant: &str, inventory: usize, quarantine: usize) {
        self.until(&format!("{tenant} has {inventory} and {quarantine} rows"), async || {
            let found =
                (self.places(tenant, "inventory").await.len(), self.places(tenant, "quarantine").await.len());
            found == (inventory, quarantine)
        })
        .await;
    }

    /// Looks again until a claim holds.
    pub(crate) async fn until(&self, claim: &str, holds: impl AsyncFn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds().await {
            assert!(Instant::now() < deadline, "not in time: {claim}; board: {:?}", self.board.all());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub(crate) fn status(&self, tenant: &str) -> StageStatus {
        self.board.all().remove(&("ingest".to_owned(), tenant.to_owned())).unwrap_or_default()
    }
}

async fn places_in(table: &Table) -> Vec<Place> {
    let mut places = Vec::new();
    for batch in rows_of(table, "log_partition, log_offset").await {
        let partitions = batch.column(0).as_primitive::<Int32Type>();
        let offsets = batch.column(1).as_primitive::<Int64Type>();
        places.extend(partitions.values().iter().copied().zip(offsets.values().iter().copied()));
    }
    places.sort_unstable();
    places
}

/// Columns of all rows of a table.
pub(crate) async fn rows_of(table: &Table, columns: &str) -> Vec<RecordBatch> {
    let context = SessionContext::new();
    context.register_table("t", Arc::new(TableScan::new(table, None).await.unwrap())).unwrap();
    context.sql(&format!("SELECT {columns} FROM t")).await.unwrap().collect().await.unwrap()
}

/// A running worker.
pub(crate) struct Running {
    pub(crate) stop: CancellationToken,
    pub(crate) task: JoinHandle<Result<(), WorkerError>>,
}

impl Running {
    pub(crate) fn start(worker: Worker) -> Self {
        let stop = CancellationToken::new();
        let token = stop.clone();
        Self { stop, task: tokio::spawn(async move { worker.run(token).await }) }
    }

    /// Asks it to stop, and waits.
    pub(crate) async fn drain(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }

    /// Drops it wherever it stands, commits in flight included.
    pub(crate) async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.is_err_and(|error| error.is_cancelled()), "it ran until it was killed");
    }
}

/// A record as the gateway writes it.
pub(crate) fn produce(tenant: &str, host_id: &str, value: &str) -> ProduceRecord {
    let text = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    let received_at_us = chrono::Utc::now().timestamp_micros().to_string();
    ProduceRecord {
        topic: INVENTORY_TOPIC.to_owned(),
        key: Some(text(&record_key(tenant, host_id))),
        partition: None,
        value: Some(text(value)),
        headers: vec![
            (TENANT_HEADER.to_owned(), text(tenant)),
            (RECEIVED_AT_HEADER.to_owned(), text(&received_at_us)),
            (SOURCE_HEADER.to_owned(), text("native")),
        ],
    }
}

async fn with_faults(State(faults): State<Arc<Faults>>, request: Request, next: Next) -> Response {
    if take_one(&faults.silent_in) && faults.silent_in.load(Ordering::SeqCst) == 0 {
        if faults.acts_in_silence.load(Ordering::SeqCst) {
            drop(next.run(request).await);
        }
        faults.held.notify_one();
        return std::future::pending().await;
    }
    if request.method() != Method::POST {
        return next.run(request).await;
    }
    if faults.hold_next.swap(false, Ordering::SeqCst) {
        let (head, body) = request.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        let held = async move {
            faults.held.notify_one();
            faults.go_on.notified().await;
            let answer = next.run(Request::from_parts(head, body.into())).await;
            faults.late_status.store(answer.status().as_u16(), Ordering::SeqCst);
            faults.answered.notify_one();
            answer
        };
        return tokio::spawn(held).await.unwrap();
    }
    // Either way nobody hears of it: what a broken connection looks like to a client.
    if take_one(&faults.requests_to_lose) {
        return StatusCode::GATEWAY_TIMEOUT.into_response();
    }
    let answer = next.run(request).await;
    if take_one(&faults.answers_to_lose) { StatusCode::GATEWAY_TIMEOUT.into_response() } else { answer }
}

fn take_one(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}
