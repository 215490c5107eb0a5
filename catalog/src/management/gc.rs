//! Starting and watching garbage collections. A tenant has at most one at a time, over all replicas.

use std::time::Duration;

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
};
use bytes::Bytes;
use firn_auth::Action;
use firn_catalog_client::{GcRequest, GcRun, GcState};
use serde_json::json;
use uuid::Uuid;

use super::{AppState, access::read_all, answer::Refused, holds};
use crate::{
    CatalogError,
    error::Missing,
    gc::{self, Settings},
    store::{DocumentPut, DocumentSelection, Write, Written},
};

const KIND: &str = "gc";
/// How often a running collection says that it is alive.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// After this long without a sign of life, it is taken to be dead.
const DEAD_AFTER_US: i64 = 60_000_000;

/// `POST /v1/tenants/{tenant}/gc`: starts a collection.
pub(super) async fn start(
    State(state): State<AppState>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(StatusCode, Json<GcRun>), Refused> {
    state.guard.authorize(&headers, &tenant, Action::Maintain).await?;
    let request: GcRequest = match body.is_empty() {
        true => GcRequest::default(),
        false => super::parse(&body)?,
    };
    let mut settings = Settings::of(&request)?;
    if !settings.dry_run {
        holds::forbid(&state, &tenant, "garbage collection").await?;
    }
    state.versions.repository(&tenant).resolve("main").await?;
    if let Some(table) = &request.table {
        settings.folders = Some(gc::folders_of(&state, &tenant, table).await?);
    }
    for reference in request.history_of.keys() {
        state.versions.repository(&tenant).resolve(reference).await?;
    }
    let run = GcRun { id: Uuid::new_v4().to_string(), state: GcState::Running, error: None, report: None };
    let expected = free_slot(&state, &tenant).await?;
    if !put(&state, &tenant, &run, Some(expected)).await? {
        return Err(busy(&tenant).into());
    }
    tokio::spawn(work(state, tenant, run.clone(), settings));
    Ok((StatusCode::ACCEPTED, Json(run)))
}

/// `GET /v1/tenants/{tenant}/gc`: the newest collection.
pub(super) async fn show(
    State(state): State<AppState>,
    Path(tenant): Path<String>,
    headers: HeaderMap,
) -> Result<Json<GcRun>, Refused> {
    read_all(&state, &headers, &tenant).await?;
    let none = || CatalogError::NotFound {
        what: Missing::Collection,
        name: tenant.clone(),
        hint: ": none was started yet".to_owned(),
    };
    let (mut run, age_us, _) = load(&state, &tenant).await?.ok_or_else(none)?;
    if run.state == GcState::Running && age_us > DEAD_AFTER_US {
        run.state = GcState::Failed;
        run.error = Some("the server that ran it stopped: start another one".to_owned());
    }
    Ok(Json(run))
}

/// The document's version, if no collection is running.
async fn free_slot(state: &AppState, tenant: &str) -> Result<i64, CatalogError> {
    match load(state, tenant).await? {
        None => Ok(0),
        Some((run, age_us, _)) if run.state == GcState::Running && age_us <= DEAD_AFTER_US => {
            Err(busy(tenant))
        }
        Some((_, _, version)) => Ok(version),
    }
}

fn busy(tenant: &str) -> CatalogError {
    CatalogError::AlreadyExists(format!("a garbage collection of '{tenant}' is running already"))
}

async fn work(state: AppState, tenant: String, run: GcRun, settings: Settings) {
    let collect = gc::collect(&state, &tenant, &settings);
    tokio::pin!(collect);
    let mut alive = tokio::time::interval(HEARTBEAT);
    let outcome = loop {
        tokio::select! {
            outcome = &mut collect => break outcome,
            _ = alive.tick() => save(&state, &tenant, &run).await,
        }
    };
    let ended = match outcome {
        Ok(report) => {
            let (files, objects) = (report.files_removed, report.objects_removed);
            if !report.dry_run {
                metrics::counter!("firn_catalog_collected_files_total", "tenant" => tenant.clone())
                    .increment(files);
                metrics::counter!("firn_catalog_collected_bytes_total", "tenant" => tenant.clone())
                    .increment(report.bytes_removed);
            }
            tracing::info!(tenant, dry_run = report.dry_run, files, objects, "garbage collected");
            GcRun { state: GcState::Done, report: Some(report), ..run }
        }
        Err(error) => {
            tracing::warn!(tenant, %error, "garbage collection failed");
            GcRun { state: GcState::Failed, error: Some(error.to_string()), ..run }
        }
    };
    save(&state, &tenant, &ended).await;
}

/// Stores how a collection is doing. If that fails, it counts as dead after a while, and another one does its work.
async fn save(state: &AppState, tenant: &str, run: &GcRun) {
    if let Err(error) = put(state, tenant, run, None).await {
        tracing::warn!(tenant, %error, "the state of a garbage collection was not stored");
    }
}

async fn put(
    state: &AppState,
    tenant: &str,
    run: &GcRun,
    expected_version: Option<i64>,
) -> Result<bool, CatalogError> {
    let put = DocumentPut {
        kind: KIND.to_owned(),
        tenant: tenant.to_owned(),
        key: String::new(),
        expected_version,
        body: Some(Bytes::from(json!(run).to_string())),
    };
    let write = Write { repository: tenant.to_owned(), documents: vec![put], ..Write::default() };
    Ok(state.store.write(&write).await? == Written::Done)
}

/// The newest collection, microseconds since its last sign of life, and its document's version.
async fn load(state: &AppState, tenant: &str) -> Result<Option<(GcRun, i64, i64)>, CatalogError> {
    let rows = state.store.documents(KIND, DocumentSelection::One { tenant, key: "" }).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let run = serde_json::from_slice(&row.body).map_err(|error| {
        CatalogError::Internal(format!("the record of a garbage collection can't be read: {error}"))
    })?;
    Ok(Some((run, row.read_at_us - row.updated_at_us, row.version)))
}
