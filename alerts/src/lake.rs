//! For tests: a catalog in this process, with tables that are filled by hand.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arrow::record_batch::RecordBatch;
use firn_auth::SigningKey;
use firn_catalog::{Catalog, CatalogConfig, S3Config};
use firn_catalog_client::{CatalogClient, StaticToken, TenantCreate, iceberg::TableIdent};
use firn_table::{
    DataFileWriter, FileIo, NewTable, Operation, StorageConfig, TableOperation, Transaction, WriteOptions,
    ensure_table,
};

pub(crate) struct Lake {
    pub(crate) catalog: CatalogClient,
    pub(crate) file_io: FileIo,
    _folder: tempfile::TempDir,
}

impl Lake {
    pub(crate) async fn open(tenants: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let key = SigningKey::generate();
        let server = Catalog::open(CatalogConfig {
            database_url: format!("sqlite:{}", folder.path().join("catalog.db").display()),
            warehouse: format!("file://{}", folder.path().join("warehouse").display()),
            s3: S3Config::default(),
            region: "local".to_owned(),
            cache_bytes: 32 << 20,
            signing_key: key.clone(),
            public_url: url.clone(),
        });
        let server = server.await.unwrap();
        for name in tenants {
            let tenant = TenantCreate { name: (*name).to_owned(), ..TenantCreate::default() };
            server.ensure_tenant(&tenant).await.unwrap();
        }
        let router = server.router();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let token = StaticToken(key.service_token("alerts", Duration::from_secs(86_400)));
        let catalog = CatalogClient::new(&url, Arc::new(token)).unwrap();
        Self { catalog, file_io: FileIo::new(StorageConfig::default()), _folder: folder }
    }

    /// Appends rows to a tenant's table, which is made if it isn't there.
    pub(crate) async fn append(&self, tenant: &str, (namespace, name): (&str, &str), rows: &RecordBatch) {
        let client = self.catalog.tenant(tenant);
        let ident = TableIdent::new(namespace, name);
        let wanted = NewTable {
            ident: ident.clone(),
            schema: rows.schema(),
            partitioning: Vec::new(),
            properties: BTreeMap::new(),
        };
        let table = ensure_table(&client, &self.file_io, "main", &wanted).await.unwrap();
        let mut writer = DataFileWriter::new(&table, WriteOptions::default()).unwrap();
        writer.write(rows).await.unwrap();
        let operation = TableOperation {
            table: ident,
            operation: Operation::Append { files: writer.close().await.unwrap() },
            summary: BTreeMap::new(),
            assert_properties: BTreeMap::new(),
            set_properties: BTreeMap::new(),
        };
        let transaction =
            Transaction { reference: "main".to_owned(), operations: vec![operation], max_attempts: 3 };
        transaction.commit(&client, &self.file_io).await.unwrap();
    }
}
