//! A server on a free port, and tables to use it with.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use axum::Router;
use firn_auth::{Claims, Role, Scope, SigningKey};
use firn_catalog_client::{
    CatalogClient, StaticToken, TenantClient, TenantCreate,
    iceberg::{CreateTableRequest, LoadTableResult, TableChange, TableIdent},
};
use serde_json::{Value, json};

use super::specification::Answered;
use crate::{Catalog, CatalogConfig, S3Config};

/// A running catalog with the tenants `acme` and `other`. Stops when dropped.
pub(super) struct Server {
    pub(super) catalog: Catalog,
    pub(super) url: String,
    pub(super) key: SigningKey,
    /// What it answered to requests of the Iceberg API.
    pub(super) answered: Answered,
    folder: Arc<tempfile::TempDir>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(super) async fn start() -> Self {
        Self::start_with(|router| router).await
    }

    /// With something in front of the router.
    pub(super) async fn start_with(wrap: impl FnOnce(Router) -> Router) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let server = Self::open(folder, SigningKey::generate(), |_| {}, wrap).await;
        server.with_tenants().await
    }

    /// With its files in buckets.
    pub(super) async fn start_on_s3(s3: S3Config, warehouse: &str) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let configure =
            |config: &mut CatalogConfig| (config.s3, config.warehouse) = (s3, warehouse.to_owned());
        Self::open(folder, SigningKey::generate(), configure, |router| router).await.with_tenants().await
    }

    async fn with_tenants(self) -> Self {
        for name in ["acme", "other"] {
            let request = TenantCreate { name: name.to_owned(), ..TenantCreate::default() };
            self.catalog.ensure_tenant(&request).await.unwrap();
        }
        self
    }

    /// Another one over the same database and files.
    pub(super) async fn replica(&self) -> Self {
        Self::open(Arc::clone(&self.folder), self.key.clone(), |_| {}, |router| router).await
    }

    async fn open(
        folder: Arc<tempfile::TempDir>,
        key: SigningKey,
        configure: impl FnOnce(&mut CatalogConfig),
        wrap: impl FnOnce(Router) -> Router,
    ) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut config = CatalogConfig {
            database_url: format!("sqlite:{}", folder.path().join("catalog.db").display()),
            warehouse: format!("file://{}", folder.path().join("warehouse").display()),
            s3: S3Config::default(),
            region: "local".to_owned(),
            cache_bytes: 16 << 20,
            signing_key: key.clone(),
            public_url: url.clone(),
        };
        configure(&mut config);
        let catalog = Catalog::open(config).await.unwrap();
        let answered = Answered::default();
        let router = wrap(answered.check(catalog.router()));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { catalog, url, key, answered, folder, task }
    }

    /// A token with a role in `acme`.
    pub(super) fn token(&self, role: Role, scopes: &[Scope]) -> String {
        let mut claims = Claims::new("alice", Duration::from_secs(600));
        claims.tenants.insert("acme".parse().unwrap(), role);
        claims.scopes = scopes.to_vec();
        self.key.sign(&claims)
    }

    pub(super) fn server_client(&self, token: String) -> CatalogClient {
        CatalogClient::new(&self.url, Arc::new(StaticToken(token))).unwrap()
    }

    /// A client of a person who may do everything.
    pub(super) fn operator(&self) -> CatalogClient {
        self.operator_at(&self.url)
    }

    /// The same at another server that trusts this one's key.
    pub(super) fn operator_at(&self, url: &str) -> CatalogClient {
        let claims = Claims { operator: true, ..Claims::new("root", Duration::from_secs(600)) };
        CatalogClient::new(url, Arc::new(StaticToken(self.key.sign(&claims)))).unwrap()
    }

    /// The root of its files.
    pub(super) fn warehouse(&self) -> String {
        format!("file://{}", self.folder.path().join("warehouse").display())
    }

    /// A client of `acme` with a role.
    pub(super) fn client_as(&self, role: Role) -> TenantClient {
        self.server_client(self.token(role, &[])).tenant("acme")
    }

    /// A maintainer of `acme` with the namespace `ns`.
    pub(super) async fn client(&self) -> TenantClient {
        let client = self.client_as(Role::Maintainer);
        client.ensure_namespace("main", &["ns".to_owned()]).await.unwrap();
        client
    }

    /// A raw request below `/iceberg/v1/acme`, as a maintainer.
    pub(super) fn raw(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = method.parse().unwrap();
        let request = reqwest::Client::new().request(method, format!("{}/iceberg/v1/acme{path}", self.url));
        request.bearer_auth(self.token(Role::Maintainer, &[]))
    }

    /// Metadata files in the warehouse, of all tables.
    pub(super) fn metadata_files(&self) -> usize {
        let mut folders: Vec<PathBuf> = vec![self.folder.path().join("warehouse")];
        let mut count = 0;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    count += 1;
                }
            }
        }
        count
    }
}

pub(super) fn ident(name: &str) -> TableIdent {
    TableIdent::new("ns", name)
}

pub(super) fn new_table(name: &str) -> CreateTableRequest {
    CreateTableRequest {
        name: name.to_owned(),
        location: None,
        schema: json!({"type": "struct", "fields": [
            {"id": 10, "name": "id", "type": "long", "required": true},
            {"id": 11, "name": "at", "type": "timestamptz", "required": false},
        ]}),
        partition_spec: Some(json!({"fields": [{"source-id": 11, "transform": "day", "name": "at_day"}]})),
        write_order: None,
        stage_create: false,
        properties: BTreeMap::new(),
    }
}

pub(super) async fn create(client: &TenantClient, name: &str) -> LoadTableResult {
    client.create_table("main", &["ns".to_owned()], &new_table(name)).await.unwrap()
}

pub(super) fn uuid() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// An append of a snapshot without files to a loaded table.
pub(super) fn append(table: &LoadTableResult, snapshot_id: i64) -> TableChange {
    let metadata = &table.metadata;
    let parent = metadata["current-snapshot-id"].as_i64().filter(|id| *id != -1);
    let mut snapshot = json!({
        "snapshot-id": snapshot_id,
        "sequence-number": metadata["last-sequence-number"].as_i64().unwrap() + 1,
        "timestamp-ms": chrono::Utc::now().timestamp_millis(),
        "manifest-list": format!("{}/metadata/snap-{snapshot_id}.avro", metadata["location"].as_str().unwrap()),
        "summary": {"operation": "append"},
        "schema-id": 0,
    });
    if let Some(parent) = parent {
        snapshot["parent-snapshot-id"] = json!(parent);
    }
    TableChange {
        identifier: None,
        requirements: vec![
            json!({"type": "assert-table-uuid", "uuid": metadata["table-uuid"]}),
            json!({"type": "assert-ref-snapshot-id", "ref": "main", "snapshot-id": parent}),
        ],
        updates: vec![
            json!({"action": "add-snapshot", "snapshot": snapshot}),
            json!({"action": "set-snapshot-ref", "ref-name": "main", "type": "branch", "snapshot-id": snapshot_id}),
        ],
    }
}

pub(super) fn set_properties(requirements: Vec<Value>, properties: Value) -> TableChange {
    let updates = vec![json!({"action": "set-properties", "updates": properties})];
    TableChange { identifier: None, requirements, updates }
}
