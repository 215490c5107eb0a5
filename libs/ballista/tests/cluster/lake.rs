//! A catalog of its own for each test, with a table to be sorted.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arrow::{
    array::{
        ArrayRef, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray, Float64Array, Int64Array,
        Int64Builder, ListBuilder, MapBuilder, RecordBatch, StringArray, StringBuilder, StructArray,
        Time64MicrosecondArray, TimestampMicrosecondArray,
    },
    datatypes::{DataType, Field, Schema},
};
use datafusion::prelude::SessionContext;
use firn_auth::SigningKey;
use firn_ballista::{BallistaCluster, BallistaConfig};
use firn_catalog::{Catalog, CatalogConfig, S3Config};
use firn_catalog_client::{CatalogClient, StaticToken, TenantClient, TenantCreate, iceberg::TableIdent};
use firn_table::{
    DataFileWriter, FileIo, NewTable, Operation, RewriteOptions, RewriteScan, RewrittenFiles, RowOrder,
    StorageConfig, Table, TableError, TableOperation, Transaction, WriteOptions, ensure_table,
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tempfile::TempDir;

/// Rows of each file.
pub(crate) const ROWS: i64 = 1_500;

/// A running catalog with the tenant `acme` and its table `silver.sorted`.
pub(crate) struct Lake {
    client: TenantClient,
    file_io: FileIo,
    ident: TableIdent,
    _folder: TempDir,
}

impl Lake {
    /// With files of rows in the table, here or in a bucket.
    pub(crate) async fn with_files(count: i64, s3: Option<(&str, StorageConfig)>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (key, url) = (SigningKey::generate(), format!("http://{}", listener.local_addr().unwrap()));
        let local = format!("file://{}", folder.path().join("warehouse").display());
        let (warehouse, storage) = s3.map_or((local, StorageConfig::default()), |(bucket, storage)| {
            (format!("s3://{bucket}/w"), storage)
        });
        let catalog = Catalog::open(CatalogConfig {
            database_url: format!("sqlite:{}", folder.path().join("catalog.db").display()),
            warehouse,
            s3: S3Config {
                endpoint: storage.endpoint.clone(),
                region: storage.region.clone(),
                path_style: storage.path_style,
                credentials: storage.credentials.clone().map(firn_runtime::reload::Live::new),
                ..S3Config::default()
            },
            region: "eu-central-1".to_owned(),
            cache_bytes: 16 << 20,
            signing_key: key.clone(),
            public_url: url.clone(),
        })
        .await
        .unwrap();
        let tenant = TenantCreate { name: "acme".to_owned(), ..TenantCreate::default() };
        catalog.ensure_tenant(&tenant).await.unwrap();
        let router = catalog.router();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let token = StaticToken(key.service_token("ballista-test", Duration::from_secs(3_600)));
        let client = CatalogClient::new(&url, Arc::new(token)).unwrap().tenant("acme");
        let (file_io, ident) = (FileIo::new(storage), TableIdent::new("silver", "sorted"));
        let new = NewTable {
            ident: ident.clone(),
            schema: rows(0).schema(),
            partitioning: Vec::new(),
            properties: BTreeMap::new(),
        };
        let table = ensure_table(&client, &file_io, "main", &new).await.unwrap();
        let lake = Self { client, file_io, ident, _folder: folder };
        for file in 0..count {
            let mut writer = DataFileWriter::new(&table, WriteOptions::default()).unwrap();
            writer.write(&rows(file)).await.unwrap();
            lake.commit(Operation::Append { files: writer.close().await.unwrap() }).await;
        }
        lake
    }

    pub(crate) async fn table(&self) -> Table {
        Table::load(&self.client, &self.file_io, "main", &self.ident).await.unwrap()
    }

    pub(crate) async fn commit(&self, operation: Operation) {
        let operation = TableOperation {
            table: self.ident.clone(),
            operation,
            summary: BTreeMap::new(),
            assert_properties: BTreeMap::new(),
            set_properties: BTreeMap::new(),
        };
        let transaction =
            Transaction { reference: "main".to_owned(), operations: vec![operation], max_attempts: 3 };
        transaction.commit(&self.client, &self.file_io).await.unwrap();
    }

    /// Rewrites all files in order: on the cluster, or here without one.
    pub(crate) async fn sort(&self, cluster: Option<BallistaCluster>) -> Result<RewrittenFiles, TableError> {
        let table = self.table().await;
        let files = table.data_files(None).await?.into_iter().map(|file| file.location).collect::<Vec<_>>();
        let options = RewriteOptions {
            // Several files, each of a range of rows.
            write: WriteOptions { target_file_bytes: 1 << 16, ..WriteOptions::default() },
            order: RowOrder::parse("sort(price desc, id)").unwrap(),
            cluster: cluster.map(|cluster| Arc::new(cluster) as _),
            ..RewriteOptions::default()
        };
        RewriteScan::new(&table, &files).await?.write(&SessionContext::new(), &options).await
    }

    /// Files of rows in the table's folder.
    pub(crate) async fn stored_files(&self) -> Vec<String> {
        let location = self.table().await.metadata()["location"].as_str().unwrap().to_owned();
        let files = self.file_io.list(&format!("{}/data", location.trim_end_matches('/'))).await.unwrap();
        files.into_iter().map(|(location, _)| location).collect()
    }

    /// The rows of files, one after the other, with the schema that the files have themselves.
    pub(crate) async fn read(&self, rewritten: &RewrittenFiles) -> RecordBatch {
        let mut batches = Vec::new();
        for file in &rewritten.files {
            let bytes = self.file_io.read(&file.location).await.unwrap();
            let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
            batches.extend(reader.map(Result::unwrap));
        }
        arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap()
    }
}

/// A cluster that takes everything.
pub(crate) fn cluster(scheduler_url: &str, timeout: Duration) -> BallistaCluster {
    let scheduler_url = scheduler_url.to_owned();
    BallistaCluster::new(BallistaConfig { scheduler_url, min_bytes: 0, share_keys: true, timeout }).unwrap()
}

/// Rows of one file, of every kind that a table of format 2 can have, with nulls and with what no order tells apart.
fn rows(file: i64) -> RecordBatch {
    let ids = (0..ROWS).map(|row| row * 31 % ROWS * 100 + file).collect::<Vec<_>>();
    let seldom = |id: &i64| id % 7 != 0;
    let bytes = ids.iter().map(|id| u128::from(id.unsigned_abs()).to_be_bytes());
    let tags = {
        let mut tags = ListBuilder::new(StringBuilder::new());
        ids.iter().for_each(|id| {
            (0..id % 3).for_each(|tag| tags.values().append_value(format!("tag {tag}")));
            tags.append(seldom(id));
        });
        tags.finish()
    };
    let counts = {
        let mut counts = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
        ids.iter().for_each(|id| {
            counts.keys().append_value("id");
            counts.values().append_option(Some(*id).filter(seldom));
            counts.append(true).unwrap();
        });
        counts.finish()
    };
    let names: ArrayRef =
        Arc::new(ids.iter().map(|id| seldom(id).then(|| format!("name {id}"))).collect::<StringArray>());
    let place = Arc::new(Field::new("name", DataType::Utf8, true));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from(ids.clone()))),
        ("price", {
            let prices = ids
                .iter()
                .map(|id| seldom(id).then(|| i128::from(id % 11) * 1_000))
                .collect::<Decimal128Array>();
            Arc::new(prices.with_precision_and_scale(20, 4).unwrap())
        }),
        ("key", Arc::new(FixedSizeBinaryArray::try_from_iter(bytes).unwrap())),
        ("name", Arc::clone(&names)),
        ("at", {
            let at = ids.iter().map(|id| Some(id * 1_000_001)).collect::<TimestampMicrosecondArray>();
            Arc::new(at.with_timezone("UTC"))
        }),
        ("local", Arc::new(ids.iter().map(|id| Some(-id)).collect::<TimestampMicrosecondArray>())),
        ("day", Arc::new(ids.iter().map(|id| i32::try_from(*id).ok()).collect::<Date32Array>())),
        ("time", Arc::new(ids.iter().map(|id| Some(*id)).collect::<Time64MicrosecondArray>())),
        (
            "share",
            Arc::new(
                ids.iter()
                    .map(|id| if id % 5 == 0 { f64::NAN } else { 1.0 / *id as f64 })
                    .collect::<Float64Array>(),
            ),
        ),
        ("good", Arc::new(ids.iter().map(|id| seldom(id).then_some(id % 2 == 0)).collect::<BooleanArray>())),
        ("tags", Arc::new(tags)),
        ("counts", Arc::new(counts)),
        ("place", Arc::new(StructArray::from(vec![(place, names)]))),
    ];
    let field =
        |(name, column): &(&str, ArrayRef)| Field::new(*name, column.data_type().clone(), *name != "id");
    let schema = Schema::new(columns.iter().map(field).collect::<Vec<_>>());
    RecordBatch::try_new(Arc::new(schema), columns.into_iter().map(|(_, column)| column).collect()).unwrap()
}
