//! Tables: list, existence, drop, unregister.

use axum::{Json, extract::State, http::StatusCode, response::Response};
use firn_auth::Action;
use firn_catalog_client::iceberg::TableIdent;
use serde_json::{Value, json};

use super::{
    answer::{at_commit, metadata_answer},
    call::{Call, Scope, writable},
    content::{Kind, metadata_location},
    error::ApiError,
    idempotency::{NO_BODY, once},
    names::key_ident,
    page::{Page, children},
    write::meta,
};
use crate::{
    CatalogError,
    management::{AppState, held_table},
    metadata::Document,
    store::Hash,
    version::{CommitRequest, IdempotencyRecord, Op},
};

/// `GET …/tables`.
pub(super) async fn list(State(state): State<AppState>, call: Call) -> Result<Json<Value>, ApiError> {
    list_kind(&state, &call, Kind::Table).await
}

/// Tables or views of a namespace.
pub(super) async fn list_kind(state: &AppState, call: &Call, kind: Kind) -> Result<Json<Value>, ApiError> {
    let scope = call.open(state, Action::Read).await?;
    let namespace = call.namespace()?;
    let resolved = scope.resolve().await?;
    scope.need_namespace(&resolved, &namespace).await?;
    let found = children(&scope, &namespace, Page::of(call)?, |content| kind.is_kind_of(content)).await?;
    let identifiers: Vec<TableIdent> = found.keys.iter().map(key_ident).collect();
    Ok(Json(json!({"identifiers": identifiers, "next-page-token": found.next})))
}

/// `HEAD …/tables/{table}`.
pub(super) async fn exists(State(state): State<AppState>, call: Call) -> Result<StatusCode, ApiError> {
    let scope = call.open(&state, Action::Read).await?;
    scope.need(Kind::Table, &call.ident()?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE …/tables/{table}`. The files stay, also if a purge was asked for: other references and older commits may need
/// them, and reachability decides when they go.
pub(super) async fn remove(State(state): State<AppState>, call: Call) -> Result<StatusCode, ApiError> {
    let scope = call.open(&state, Action::Write).await?;
    let ident = call.ident()?;
    let record = call.idempotency(scope.principal(), "dropTable", &NO_BODY)?;
    if call.query("purgeRequested").is_some_and(|text| text.eq_ignore_ascii_case("true")) {
        tracing::info!(tenant = scope.tenant, table = %ident, "purge requested: files go once nothing reaches them");
    }
    let run = run_remove(&scope, Kind::Table, &ident, "drop", record.clone());
    once(&scope, record.as_ref(), run).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST …/tables/{table}/unregister`: a drop that answers the last metadata.
pub(super) async fn unregister(State(state): State<AppState>, call: Call) -> Result<Response, ApiError> {
    let scope = call.open(&state, Action::Write).await?;
    let ident = call.ident()?;
    let record = call.idempotency(scope.principal(), "unregisterTable", &NO_BODY)?;
    let run = run_remove(&scope, Kind::Table, &ident, "unregister", record.clone());
    let hash = once(&scope, record.as_ref(), run).await?;
    let commit = scope.repository.commit_at(hash).await?;
    let Some(before) = commit.parents.first() else {
        return Err(CatalogError::Internal(format!("the commit {hash} has no parent")).into());
    };
    let (location, metadata) = at_commit(&scope, Kind::Table, *before, &ident).await?;
    Ok(metadata_answer(Some(&location), &metadata, None))
}

/// Removes a table or view from its branch.
pub(super) async fn run_remove(
    scope: &Scope,
    kind: Kind,
    ident: &TableIdent,
    verb: &str,
    record: Option<IdempotencyRecord>,
) -> Result<Hash, ApiError> {
    let found = scope.find_literal(kind, ident).await?;
    let found = found.ok_or_else(|| ApiError::missing(kind.missing(), &ident.to_string()))?;
    let (branch, _) = writable(&found.spec, found.resolved)?;
    if kind == Kind::Table {
        held_table(&scope.state, &scope.tenant, &found.key.0, "removing it").await?;
        let location = metadata_location(&found.key, &found.content)?;
        // A table whose metadata can't be read can still be dropped.
        if let Ok(bytes) = scope.state.storage.read_metadata(&scope.tenant, location).await
            && let Ok(document) = Document::parse_table(&bytes)
        {
            scope.guard_positions(&document, ident)?;
        }
    }
    let operation = Op::Delete { key: found.key, expected: Some(Some(found.content)) };
    let commit = CommitRequest {
        branch,
        expected_head: None,
        operations: vec![operation],
        meta: meta(scope, format!("{verb} {} {ident}", kind.word())),
        idempotency: record,
    };
    Ok(scope.commit(commit).await?.hash)
}
