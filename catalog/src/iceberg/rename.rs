//! Renames of tables and views: one commit that removes one key and puts the other.

use axum::{
    extract::{State, rejection::BytesRejection},
    http::StatusCode,
};
use bytes::Bytes;
use firn_auth::Action;
use firn_catalog_client::iceberg::TableIdent;
use serde::Deserialize;

use super::{
    call::{Call, Scope, parse_body, writable},
    content::Kind,
    error::ApiError,
    idempotency::once,
    write::meta,
};
use crate::{
    CatalogError,
    management::{AppState, held_table},
    store::Hash,
    version::{CommitRequest, IdempotencyRecord, Op},
};

#[derive(Deserialize)]
struct RenameRequest {
    source: TableIdent,
    destination: TableIdent,
}

/// `POST …/tables/rename`.
pub(super) async fn rename_table(
    State(state): State<AppState>,
    call: Call,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, ApiError> {
    rename(&state, &call, Kind::Table, "renameTable", &body?).await
}

/// `POST …/views/rename`.
pub(super) async fn rename_view(
    State(state): State<AppState>,
    call: Call,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, ApiError> {
    rename(&state, &call, Kind::View, "renameView", &body?).await
}

async fn rename(
    state: &AppState,
    call: &Call,
    kind: Kind,
    operation: &str,
    body: &[u8],
) -> Result<StatusCode, ApiError> {
    let scope = call.open(state, Action::Write).await?;
    let request: RenameRequest = parse_body(body)?;
    let record = call.idempotency(scope.principal(), operation, body)?;
    once(&scope, record.as_ref(), run(&scope, kind, request, record.clone())).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn run(
    scope: &Scope,
    kind: Kind,
    request: RenameRequest,
    record: Option<IdempotencyRecord>,
) -> Result<Hash, ApiError> {
    let RenameRequest { source, destination } = request;
    let found = scope.find_literal(kind, &source).await?;
    let found = found.ok_or_else(|| ApiError::missing(kind.missing(), &source.to_string()))?;
    let (branch, resolved) = writable(&found.spec, found.resolved)?;
    scope.need_namespace(&resolved, &destination.namespace).await?;
    held_table(&scope.state, &scope.tenant, &found.key.0, "renaming it").await?;
    let key = scope.refuse_taken(&resolved, &destination).await?;
    let content = found.content;
    let operations = vec![
        Op::Delete { key: found.key, expected: Some(Some(content.clone())) },
        Op::Put { key: key.clone(), content, expected: Some(None) },
    ];
    let commit = CommitRequest {
        branch,
        expected_head: None,
        operations,
        meta: meta(scope, format!("rename {} {source} to {destination}", kind.word())),
        idempotency: record,
    };
    match scope.commit(commit).await {
        Ok(committed) => Ok(committed.hash),
        Err(CatalogError::Conflict { conflicts, .. })
            if conflicts
                .iter()
                .any(|conflict| conflict.key == key && conflict.conflict_type == "KEY_EXISTS") =>
        {
            Err(ApiError::exists(format!("'{destination}' was created by another request just now")))
        }
        Err(error) => Err(error.into()),
    }
}
