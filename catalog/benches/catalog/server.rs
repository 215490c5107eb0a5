//! The catalog with tables, and requests to it.

use std::{
    hint::black_box,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use axum::{
    Router,
    http::{HeaderMap, header::AUTHORIZATION},
    serve::ListenerExt as _,
};
use bytes::Bytes;
use firn_auth::{Action, Claims, Denied, Guard, Role, SigningKey};
use firn_catalog::{Catalog, CatalogConfig};
use firn_catalog_client::TenantCreate;
use http_body_util::Full;
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{client::Request, files::Files};

/// So many that a new table's metadata has about 10 KB.
const COLUMNS: usize = 95;
/// Commits after which a table's metadata grows no more: its log of former files is full.
const LOGGED: usize = 101;
const CACHE_BYTES: u64 = 256 << 20;
/// Name of a table that was just made, with its number behind it.
const LOADED: &str = "t";
/// The same of one that has seen many commits.
const COMMITTED: &str = "c";

pub(crate) struct Server {
    catalog: Catalog,
    key: SigningKey,
    address: SocketAddr,
    guard: Guard,
    token: String,
    tables: usize,
    _files: Files,
}

impl Server {
    /// On a database that is empty.
    pub(crate) async fn start(database: &str, files: Files, tables: usize) -> Result<Self> {
        let key = SigningKey::generate();
        let catalog = Catalog::open(CatalogConfig {
            database_url: database.to_owned(),
            warehouse: files.warehouse(),
            s3: files.config(),
            region: "local".to_owned(),
            cache_bytes: CACHE_BYTES,
            signing_key: key.clone(),
            public_url: String::new(),
        })
        .await?;
        let routes = firn_runtime::http::with_basics(catalog.router(), Default::default());
        let address = serve(routes).await?;
        let guard = catalog.guard();
        let mut server = Self { catalog, key, address, guard, token: String::new(), tables, _files: files };
        server.token = server.tenant("acme").await?;
        server.create_tables().await?;
        Ok(server)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Makes a tenant, and a token of a maintainer of it.
    pub(crate) async fn tenant(&self, name: &str) -> Result<String> {
        let request = TenantCreate { name: name.to_owned(), ..TenantCreate::default() };
        self.catalog.ensure_tenant(&request).await?;
        let mut claims = Claims::new("bench", Duration::from_secs(24 * 3600));
        claims.tenants.insert(name.parse()?, Role::Maintainer);
        Ok(self.key.sign(&claims))
    }

    /// How long it takes to decide whether a load is allowed, on one core, after loads have warmed the caches.
    pub(crate) async fn time_of_an_ask(&self) -> Result<Duration> {
        const ASKS: u32 = 200_000;
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, format!("Bearer {}", self.token).parse()?);
        let began = Instant::now();
        for _ in 0..ASKS {
            allowed(&self.guard, black_box(&headers)).await?;
        }
        Ok(began.elapsed() / ASKS)
    }

    /// What a load answers.
    pub(crate) async fn loaded_bytes(&self) -> Result<Bytes> {
        self.bytes(LOADED).await
    }

    /// What a commit answers, which is about what it writes.
    pub(crate) async fn committed_bytes(&self) -> Result<Bytes> {
        self.bytes(COMMITTED).await
    }

    async fn bytes(&self, kind: &str) -> Result<Bytes> {
        let answer = self.send(Client::new().get(self.url(&table_path(kind, 0)))).await?;
        Ok(answer.bytes().await?)
    }

    pub(crate) fn load(&self) -> Request {
        let (tables, token) = (self.tables, self.token.clone());
        Arc::new(move |client, turn| {
            request("GET", &table_path(LOADED, (client + turn) % tables), &token, &[], None)
        })
    }

    pub(crate) async fn not_modified(&self) -> Result<Request> {
        let path = table_path(LOADED, 0);
        let answer = self.send(Client::new().get(self.url(&path))).await?;
        let etag = answer.headers().get("etag").context("a load has an ETag")?.to_str()?.to_owned();
        let token = self.token.clone();
        Ok(Arc::new(move |_, _| request("GET", &path, &token, &[("if-none-match", &etag)], None)))
    }

    /// Sets a property; each client works on its own of `tables`.
    pub(crate) fn commit(&self, tables: usize) -> Request {
        let token = self.token.clone();
        Arc::new(move |client, turn| {
            let body = change(client, turn);
            request("POST", &table_path(COMMITTED, client % tables), &token, &[], Some(&body))
        })
    }

    pub(crate) fn list(&self) -> Request {
        let token = self.token.clone();
        Arc::new(move |_, _| request("GET", "/iceberg/v1/acme/namespaces/ns/tables", &token, &[], None))
    }

    /// A commit and a list in turns, so that each list reads a state that nobody has read before.
    pub(crate) fn commit_and_list(&self) -> Request {
        let (commit, list) = (self.commit(1), self.list());
        Arc::new(move |client, turn| if turn % 2 == 0 { commit(client, turn) } else { list(client, turn) })
    }

    /// Sets a property of three tables; clients don't share tables.
    pub(crate) fn transaction(&self, tables: usize) -> Request {
        let token = self.token.clone();
        Arc::new(move |client, turn| {
            let changes: Vec<Value> = (0..3)
                .map(|n| {
                    let name = format!("{COMMITTED}{}", (client * 3 + n) % tables);
                    let mut change = change(client, turn);
                    change["identifier"] = json!({"namespace": ["ns"], "name": name});
                    change
                })
                .collect();
            let body = json!({"table-changes": changes});
            request("POST", "/iceberg/v1/acme/transactions/commit", &token, &[], Some(&body))
        })
    }

    /// Puts a content that the catalog only stores; each client at its own key.
    pub(crate) fn nessie(&self, keys: usize) -> Request {
        let (token, made) = (self.token.clone(), AtomicU64::new(0));
        Arc::new(move |client, _| {
            let number = made.fetch_add(1, Ordering::Relaxed);
            let key = json!({"elements": [format!("u{}-{number}", client % keys)]});
            let content = json!({"type": "UDF", "sqlText": "SELECT 1", "dialect": "SPARK"});
            let body = json!({
                "commitMeta": {"message": "bench"},
                "operations": [{"type": "PUT", "key": key, "content": content}],
            });
            request("POST", "/nessie/acme/api/v2/trees/main/history/commit", &token, &[], Some(&body))
        })
    }

    async fn create_tables(&self) -> Result<()> {
        let namespace = json!({"namespace": ["ns"]});
        self.send(Client::new().post(self.url("/iceberg/v1/acme/namespaces")).json(&namespace)).await?;
        let fields: Vec<Value> = (1..=COLUMNS)
            .map(|id| {
                json!({"id": id, "name": format!("measured_value_{id}"), "type": "double", "required": false,
                "doc": "A value of the device"})
            })
            .collect();
        let tables = (0..self.tables).flat_map(|table| [LOADED, COMMITTED].map(|kind| (kind, table)));
        for (kind, table) in tables {
            let body =
                json!({"name": format!("{kind}{table}"), "schema": {"type": "struct", "fields": fields}});
            self.send(Client::new().post(self.url("/iceberg/v1/acme/namespaces/ns/tables")).json(&body))
                .await?;
        }
        let client = Client::new();
        let filled = (0..self.tables).map(|table| self.fill_log(&client, table));
        futures::future::try_join_all(filled).await?;
        Ok(())
    }

    async fn fill_log(&self, client: &Client, table: usize) -> Result<()> {
        for turn in 0..LOGGED {
            let url = self.url(&table_path(COMMITTED, table));
            self.send(client.post(url).json(&change(table, turn))).await?;
        }
        Ok(())
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn send(&self, request: RequestBuilder) -> Result<reqwest::Response> {
        succeed(request.bearer_auth(&self.token)).await
    }

    /// The JSON of a successful answer.
    pub(crate) async fn json(&self, request: RequestBuilder) -> Result<Value> {
        Ok(succeed(request).await?.json().await?)
    }
}

async fn succeed(request: RequestBuilder) -> Result<reqwest::Response> {
    let answer = request.send().await?;
    let status = answer.status();
    ensure!(status.is_success(), "{status}: {}", answer.text().await?);
    Ok(answer)
}

fn table_path(kind: &str, table: usize) -> String {
    format!("/iceberg/v1/acme/namespaces/ns/tables/{kind}{table}")
}

fn change(client: usize, turn: usize) -> Value {
    let update = json!({"action": "set-properties", "updates": {"bench": format!("{client}-{turn}")}});
    json!({"requirements": [], "updates": [update]})
}

pub(crate) fn request(
    method: &str,
    path: &str,
    token: &str,
    headers: &[(&str, &str)],
    body: Option<&Value>,
) -> hyper::Request<Full<Bytes>> {
    let mut request = hyper::Request::builder().method(method).uri(path).header("host", "localhost");
    request = request.header("authorization", format!("Bearer {token}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = match body {
        None => Full::default(),
        Some(body) => {
            request = request.header("content-type", "application/json");
            Full::new(Bytes::from(body.to_string()))
        }
    };
    request.body(body).expect("a plain request")
}

/// What a load asks: token, tenant, key.
async fn allowed(guard: &Guard, headers: &HeaderMap) -> Result<(), Denied> {
    let access = guard.authorize(headers, "acme", Action::Read).await?;
    access.require_key(Action::Read, Some("main"), &["ns".to_owned(), format!("{LOADED}0")])
}

/// Serves a router on a port of its own.
pub(crate) async fn serve(router: Router) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(address)
}
