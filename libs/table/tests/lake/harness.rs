//! A catalog of its own for each test, and what tests do over and over.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    extract::{Request, State},
    http::{Method, StatusCode},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
};
use datafusion::{
    arrow::{
        array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray},
        datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
        util::pretty::pretty_format_batches,
    },
    catalog::TableProvider,
    prelude::SessionContext,
};
use firn_auth::SigningKey;
use firn_catalog::{Catalog, CatalogConfig, S3Config};
use firn_catalog_client::{CatalogClient, StaticToken, TenantClient, TenantCreate, iceberg::TableIdent};
use firn_table::{
    CommitOutcome, DataFileWriter, FileIo, NewTable, Operation, Partitioning, StorageConfig, Table,
    TableError, TableOperation, TableScan, Transaction, WriteOptions, WrittenFile, ensure_table,
};
use tempfile::TempDir;

/// Microseconds of a day.
pub(crate) const DAY: i64 = 86_400_000_000;

/// A running catalog with the tenant `acme`.
pub(crate) struct Lake {
    pub(crate) client: TenantClient,
    pub(crate) file_io: FileIo,
    url: String,
    token: String,
    /// Answers to POST requests that are still to be lost after the server acted.
    pub(crate) answers_to_lose: Arc<AtomicUsize>,
    /// Goes with everything in it when the test ends.
    _folder: TempDir,
}

impl Lake {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let key = SigningKey::generate();
        let catalog = Catalog::open(CatalogConfig {
            database_url: format!("sqlite:{}", folder.path().join("catalog.db").display()),
            warehouse: format!("file://{}", folder.path().join("warehouse").display()),
            s3: S3Config::default(),
            region: "eu-central-1".to_owned(),
            cache_bytes: 16 << 20,
            signing_key: key.clone(),
            public_url: format!("http://{address}"),
        })
        .await
        .unwrap();
        let tenant = TenantCreate { name: "acme".to_owned(), ..TenantCreate::default() };
        catalog.ensure_tenant(&tenant).await.unwrap();

        let answers_to_lose = Arc::new(AtomicUsize::new(0));
        let router = catalog.router().layer(from_fn_with_state(Arc::clone(&answers_to_lose), lose_answers));
        tokio::spawn(async move { axum::serve(listener, router).await });

        let (url, token) =
            (format!("http://{address}"), key.service_token("table-test", Duration::from_secs(3600)));
        let client = CatalogClient::new(&url, Arc::new(StaticToken(token.clone()))).unwrap().tenant("acme");
        let file_io = FileIo::new(StorageConfig::default());
        Self { client, file_io, url, token, answers_to_lose, _folder: folder }
    }

    /// What the catalog plans for a scan of a table.
    pub(crate) async fn plan(&self, table: &Table, request: serde_json::Value) -> serde_json::Value {
        let TableIdent { namespace, name } = table.ident();
        let url = format!("{}/iceberg/v1/acme/namespaces/{}/tables/{name}/plan", self.url, namespace[0]);
        let request = reqwest::Client::new().post(url).bearer_auth(&self.token).json(&request);
        let answer: serde_json::Value = request.send().await.unwrap().json().await.unwrap();
        assert_eq!(answer["status"], "completed", "{answer}");
        answer
    }

    /// A table `bronze.<name>` of samples, partitioned as told.
    pub(crate) async fn samples(&self, name: &str, partitioning: &[(&str, &str)]) -> Table {
        let partitioning = partitioning
            .iter()
            .map(|(column, transform)| Partitioning {
                column: (*column).to_owned(),
                transform: (*transform).to_owned(),
            })
            .collect();
        let new = NewTable {
            ident: TableIdent::new("bronze", name),
            schema: sample_schema(),
            partitioning,
            properties: BTreeMap::new(),
        };
        ensure_table(&self.client, &self.file_io, "main", &new).await.unwrap()
    }

    pub(crate) async fn load(&self, table: &Table) -> Table {
        self.load_on("main", table).await
    }

    pub(crate) async fn load_on(&self, reference: &str, table: &Table) -> Table {
        Table::load(&self.client, &self.file_io, reference, table.ident()).await.unwrap()
    }

    pub(crate) async fn commit(&self, operations: Vec<TableOperation>) -> Result<CommitOutcome, TableError> {
        self.commit_on("main", operations).await
    }

    pub(crate) async fn commit_on(
        &self,
        reference: &str,
        operations: Vec<TableOperation>,
    ) -> Result<CommitOutcome, TableError> {
        let transaction = Transaction { reference: reference.to_owned(), operations, max_attempts: 50 };
        transaction.commit(&self.client, &self.file_io).await
    }

    /// Writes and appends rows; answers the new snapshot.
    pub(crate) async fn append(&self, table: &Table, batch: &RecordBatch) -> i64 {
        self.append_on("main", table, batch).await
    }

    pub(crate) async fn append_on(&self, reference: &str, table: &Table, batch: &RecordBatch) -> i64 {
        let files = write(table, batch).await;
        let append = vec![operation(table, Operation::Append { files })];
        let outcome = self.commit_on(reference, append).await.unwrap();
        outcome.snapshots[table.ident()]
    }
}

/// Lets the server act, then loses its answer: what a broken connection looks like to a client.
async fn lose_answers(State(left): State<Arc<AtomicUsize>>, request: Request, next: Next) -> Response {
    let post = request.method() == Method::POST;
    let answer = next.run(request).await;
    let lost =
        post && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
    if lost { StatusCode::GATEWAY_TIMEOUT.into_response() } else { answer }
}

pub(crate) fn sample_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("host_id", DataType::Utf8, false),
        Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
        Field::new("value", DataType::Int64, true),
    ]))
}

/// Rows of host, microseconds and value.
pub(crate) fn samples(rows: &[(&str, i64, i64)]) -> RecordBatch {
    let hosts = rows.iter().map(|row| Some(row.0)).collect::<StringArray>();
    let at = rows.iter().map(|row| Some(row.1)).collect::<TimestampMicrosecondArray>().with_timezone("UTC");
    let values = rows.iter().map(|row| Some(row.2)).collect::<Int64Array>();
    let columns: Vec<ArrayRef> = vec![Arc::new(hosts), Arc::new(at), Arc::new(values)];
    RecordBatch::try_new(sample_schema(), columns).unwrap()
}

pub(crate) async fn write(table: &Table, batch: &RecordBatch) -> Vec<WrittenFile> {
    let mut writer = DataFileWriter::new(table, WriteOptions::default()).unwrap();
    writer.write(batch).await.unwrap();
    writer.close().await.unwrap()
}

pub(crate) fn operation(table: &Table, operation: Operation) -> TableOperation {
    TableOperation {
        table: table.ident().clone(),
        operation,
        summary: BTreeMap::new(),
        assert_properties: BTreeMap::new(),
        set_properties: BTreeMap::new(),
    }
}

/// Runs SQL over a provider named `t` and prints the result.
pub(crate) async fn query(provider: impl TableProvider + 'static, sql: &str) -> String {
    let session = SessionContext::new();
    session.register_table("t", Arc::new(provider)).unwrap();
    let batches = session.sql(sql).await.unwrap().collect().await.unwrap();
    pretty_format_batches(&batches).unwrap().to_string()
}

/// All rows of the current snapshot: host and value, in order.
pub(crate) async fn rows(table: &Table) -> Vec<(String, Option<i64>)> {
    rows_of(TableScan::new(table, None).await.unwrap()).await
}

pub(crate) async fn rows_of(scan: TableScan) -> Vec<(String, Option<i64>)> {
    use datafusion::arrow::{array::AsArray, datatypes::Int64Type};
    let session = SessionContext::new();
    let frame = session.read_table(Arc::new(scan)).unwrap().select_columns(&["host_id", "value"]).unwrap();
    let mut rows = Vec::new();
    for batch in frame.collect().await.unwrap() {
        let hosts = batch.column(0).as_string::<i32>().iter().map(|host| host.unwrap().to_owned());
        rows.extend(hosts.zip(batch.column(1).as_primitive::<Int64Type>().iter()));
    }
    rows.sort();
    rows
}

/// Number of files below a location's folder.
pub(crate) async fn files_below(table: &Table, folder: &str) -> usize {
    let location = table.metadata()["location"].as_str().unwrap();
    table.file_io().list(&format!("{}/{folder}", location.trim_end_matches('/'))).await.unwrap().len()
}
