//! Bare handlers that do the least there is to do.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    net::SocketAddr,
    path::{Path as FilePath, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Result, anyhow};
use axum::{
    Router,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use http_body_util::Full;
use object_store::{ObjectStore, PutMode, PutOptions, path::Path as ObjectPath};
use sqlx::{PgPool, postgres::PgPoolOptions};
use tempfile::TempDir;

use crate::{client::Request, server};

/// As many as the catalog's own pool has.
const CONNECTIONS: u32 = 16;

pub(crate) struct Limits {
    address: SocketAddr,
    rows: usize,
    _folder: TempDir,
}

#[derive(Clone)]
struct Handler {
    pool: PgPool,
    body: Bytes,
    file: Bytes,
    folder: PathBuf,
    files: Arc<AtomicU64>,
    bucket: Option<Arc<dyn ObjectStore>>,
}

impl Limits {
    /// Serves `body`, and rows of a table of its own, and writes `file` into a folder or a bucket.
    pub(crate) async fn start(
        database: &str,
        bucket: Option<Arc<dyn ObjectStore>>,
        body: Bytes,
        file: Bytes,
        rows: usize,
    ) -> Result<Self> {
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .test_before_acquire(false)
            .connect(database)
            .await?;
        sqlx::raw_sql(
            "CREATE TABLE limits (key TEXT PRIMARY KEY, body BYTEA NOT NULL, version BIGINT NOT NULL)",
        )
        .execute(&pool)
        .await?;
        for row in 0..rows {
            let insert = sqlx::query("INSERT INTO limits VALUES ($1, $2, 0)").bind(row.to_string());
            insert.bind(body.as_ref()).execute(&pool).await?;
            sqlx::query("INSERT INTO limits VALUES ($1, '', 0)")
                .bind(format!("row-{row}"))
                .execute(&pool)
                .await?;
        }
        let folder = TempDir::with_prefix("firn-bench-")?;
        let (folder_path, files) = (folder.path().to_owned(), Arc::new(AtomicU64::new(0)));
        let handler = Handler { pool, body, file, folder: folder_path, files, bucket };
        let router = Router::new()
            .route("/memory", get(memory))
            .route("/select/{key}", get(select))
            .route("/update/{key}", post(update))
            .route("/put/{files}/{key}", post(put))
            .route("/object", post(object))
            .with_state(handler);
        Ok(Self { address: server::serve(router).await?, rows, _folder: folder })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn memory(&self) -> Request {
        Arc::new(|_, _| request("GET", "/memory"))
    }

    pub(crate) fn select(&self) -> Request {
        let rows = self.rows;
        Arc::new(move |client, turn| request("GET", &format!("/select/{}", (client + turn) % rows)))
    }

    /// One row and commit; each client its own.
    pub(crate) fn update(&self) -> Request {
        let rows = self.rows;
        Arc::new(move |client, _| request("POST", &format!("/update/row-{}", client % rows)))
    }

    /// That many synced files in parallel, then one row and commit; each client its own row.
    pub(crate) fn put(&self, files: usize) -> Request {
        let rows = self.rows;
        Arc::new(move |client, _| request("POST", &format!("/put/{files}/row-{}", client % rows)))
    }

    /// One object of the bucket.
    pub(crate) fn object(&self) -> Request {
        Arc::new(|_, _| request("POST", "/object"))
    }
}

fn request(method: &str, path: &str) -> hyper::Request<Full<Bytes>> {
    let request = hyper::Request::builder().method(method).uri(path).header("host", "localhost");
    request.body(Full::default()).expect("a plain request")
}

async fn memory(State(handler): State<Handler>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], handler.body).into_response()
}

async fn select(State(handler): State<Handler>, Path(key): Path<String>) -> Result<Response, StatusCode> {
    let query = sqlx::query_scalar("SELECT body FROM limits WHERE key = $1").bind(key);
    let body: Vec<u8> =
        query.fetch_one(&handler.pool).await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

async fn update(State(handler): State<Handler>, Path(key): Path<String>) -> Result<(), StatusCode> {
    let query = sqlx::query("UPDATE limits SET version = version + 1 WHERE key = $1").bind(key);
    query.execute(&handler.pool).await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(())
}

async fn put(
    state: State<Handler>,
    Path((files, key)): Path<(usize, String)>,
) -> Result<Response, StatusCode> {
    let writes = (0..files).map(|_| {
        let (folder, body) = (state.folder.clone(), state.file.clone());
        let name = state.files.fetch_add(1, Ordering::Relaxed).to_string();
        async move { tokio::task::spawn_blocking(move || write_synced(&folder, &name, &body)).await? }
    });
    let written: Result<Vec<()>> = futures::future::try_join_all(writes).await;
    written.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    let body = state.file.clone();
    update(state, Path(key)).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

async fn object(State(handler): State<Handler>) -> Result<(), StatusCode> {
    let bucket = handler.bucket.ok_or(StatusCode::NOT_FOUND)?;
    let name = format!("limits/{}.json", handler.files.fetch_add(1, Ordering::Relaxed));
    let options = PutOptions::from(PutMode::Create);
    let put = bucket.put_opts(&ObjectPath::from(name), handler.file.into(), options).await;
    put.map(drop).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}

fn write_synced(folder: &FilePath, name: &str, body: &[u8]) -> Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(folder.join(name))?;
    file.write_all(body)?;
    file.sync_all()?;
    File::open(folder)?.sync_all().map_err(|error| anyhow!(error))
}
