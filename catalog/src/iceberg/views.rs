//! Views: list, create, load, replace, existence, drop, register.

use std::sync::Arc;

use axum::{
    Json,
    extract::{State, rejection::BytesRejection},
    http::StatusCode,
    response::Response,
};
use bytes::Bytes;
use firn_auth::Action;
use firn_catalog_client::iceberg::TableIdent;
use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{
    answer::{at_commit, metadata_answer},
    call::{Call, Scope, parse_body, writable},
    commit::check_location,
    content::Kind,
    delegate::TableAccess,
    error::ApiError,
    idempotency::{NO_BODY, once},
    tables::{list_kind, run_remove},
    write::{Put, describe, meta, write_and_commit},
};
use crate::{
    management::{AppState, Given},
    metadata::{Document, NewView, apply_view_updates, check_view_requirements, new_view},
    store::Hash,
    version::{CommitRequest, IdempotencyRecord, Op},
};

/// `GET …/views`.
pub(super) async fn list(State(state): State<AppState>, call: Call) -> Result<Json<Value>, ApiError> {
    list_kind(&state, &call, Kind::View).await
}

/// `HEAD …/views/{view}`.
pub(super) async fn exists(State(state): State<AppState>, call: Call) -> Result<StatusCode, ApiError> {
    let scope = call.open(&state, Action::Read).await?;
    scope.need(Kind::View, &call.ident()?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET …/views/{view}`.
pub(super) async fn load(State(state): State<AppState>, call: Call) -> Result<Response, ApiError> {
    let scope = call.open(&state, Action::Read).await?;
    let found = scope.need(Kind::View, &call.ident()?).await?;
    scope.note_read(&found, Given::Metadata);
    let location = found.metadata_location()?;
    let bytes = state.storage.read_metadata(&scope.tenant, location).await?;
    Ok(metadata_answer(Some(location), &bytes, Some(&TableAccess::plain(&state))))
}

#[derive(Deserialize)]
struct CreateRequest {
    name: String,
    location: Option<String>,
    schema: Value,
    #[serde(rename = "view-version")]
    view_version: Value,
    #[serde(default)]
    properties: Map<String, Value>,
}

/// `POST …/views`.
pub(super) async fn create(
    State(state): State<AppState>,
    call: Call,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let scope = call.open(&state, Action::Write).await?;
    let body = body?;
    let request: CreateRequest = parse_body(&body)?;
    let record = call.idempotency(scope.principal(), "createView", &body)?;
    let ident = TableIdent { namespace: call.namespace()?, name: request.name.clone() };
    let run = run_create(&scope, ident.clone(), request, record.clone());
    let hash = once(&scope, record.as_ref(), run).await?;
    answer(&scope, hash, &ident).await
}

async fn run_create(
    scope: &Scope,
    ident: TableIdent,
    request: CreateRequest,
    record: Option<IdempotencyRecord>,
) -> Result<Hash, ApiError> {
    let (branch, resolved) = scope.resolve_branch().await?;
    scope.need_namespace(&resolved, &ident.namespace).await?;
    let key = scope.refuse_taken(&resolved, &ident).await?;
    let fresh = scope.state.storage.new_location(&scope.tenant, &ident.namespace, &ident.name);
    let view = NewView {
        location: request.location.unwrap_or(fresh),
        uuid: Uuid::new_v4().to_string(),
        schema: request.schema,
        view_version: request.view_version,
        properties: request.properties,
    };
    let document = new_view(view, scope.now_ms())?;
    check_location(scope, &document)?;
    let message = format!("create view {ident}");
    let document = Some(Arc::new(document));
    let put =
        Put { kind: Kind::View, key, ident, former: None, former_location: None, document, takes: None };
    write_and_commit(scope, &branch, message, vec![put], record).await
}

#[derive(Deserialize)]
struct ReplaceRequest {
    #[serde(default)]
    requirements: Vec<Value>,
    updates: Vec<Value>,
}

/// `POST …/views/{view}`.
pub(super) async fn replace(
    State(state): State<AppState>,
    call: Call,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let scope = call.open(&state, Action::Write).await?;
    let body = body?;
    let request: ReplaceRequest = parse_body(&body)?;
    let record = call.idempotency(scope.principal(), "replaceView", &body)?;
    let ident = scope.need(Kind::View, &call.ident()?).await?.ident;
    let run = run_replace(&scope, &call, request, record.clone());
    let hash = once(&scope, record.as_ref(), run).await?;
    answer(&scope, hash, &ident).await
}

async fn run_replace(
    scope: &Scope,
    call: &Call,
    request: ReplaceRequest,
    record: Option<IdempotencyRecord>,
) -> Result<Hash, ApiError> {
    let found = scope.need(Kind::View, &call.ident()?).await?;
    let location = found.metadata_location()?.to_owned();
    let (branch, _) = writable(&found.spec, found.resolved)?;
    let bytes = scope.state.storage.read_metadata(&scope.tenant, &location).await?;
    let base = Document::parse_view(&bytes)?;
    check_view_requirements(&base, &request.requirements)?;
    let document = apply_view_updates(&base, &request.updates, scope.now_ms())?;
    check_location(scope, &document)?;
    let message = describe(Kind::View, &found.ident, &request.updates);
    let put = Put {
        kind: Kind::View,
        key: found.key,
        ident: found.ident,
        former: Some(found.content),
        former_location: Some(location),
        document: Some(Arc::new(document)),
        takes: None,
    };
    write_and_commit(scope, &branch, message, vec![put], record).await
}

/// `DELETE …/views/{view}`.
pub(super) async fn remove(State(state): State<AppState>, call: Call) -> Result<StatusCode, ApiError> {
    let scope = call.open(&state, Action::Write).await?;
    let record = call.idempotency(scope.principal(), "dropView", &NO_BODY)?;
    let ident = call.ident()?;
    let run = run_remove(&scope, Kind::View, &ident, "drop", record.clone());
    once(&scope, record.as_ref(), run).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct RegisterRequest {
    name: String,
    #[serde(rename = "metadata-location")]
    metadata_location: String,
}

/// `POST …/register-view`: takes over a metadata file as it is.
pub(super) async fn register(
    State(state): State<AppState>,
    call: Call,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, ApiError> {
    let scope = call.open(&state, Action::Write).await?;
    let body = body?;
    let request: RegisterRequest = parse_body(&body)?;
    let record = call.idempotency(scope.principal(), "registerView", &body)?;
    let ident = TableIdent { namespace: call.namespace()?, name: request.name };
    let run = async {
        let (branch, resolved) = scope.resolve_branch().await?;
        scope.need_namespace(&resolved, &ident.namespace).await?;
        let key = scope.refuse_taken(&resolved, &ident).await?;
        scope.permit_any_file()?;
        let bytes = state.storage.read_metadata(&scope.tenant, &request.metadata_location).await?;
        let content = Kind::View.content(None, &request.metadata_location, &Document::parse_view(&bytes)?);
        let commit = CommitRequest {
            branch,
            expected_head: None,
            operations: vec![Op::Put { key, content, expected: Some(None) }],
            meta: meta(&scope, format!("register view {ident}")),
            idempotency: record.clone(),
        };
        Ok(scope.commit(commit).await?.hash)
    };
    let hash = once(&scope, record.as_ref(), run).await?;
    answer(&scope, hash, &ident).await
}

async fn answer(scope: &Scope, hash: Hash, ident: &TableIdent) -> Result<Response, ApiError> {
    let (location, metadata) = at_commit(scope, Kind::View, hash, ident).await?;
    Ok(metadata_answer(Some(&location), &metadata, Some(&TableAccess::plain(&scope.state))))
}
