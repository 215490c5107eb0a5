//! `POST …/transactions/commit`: several tables as one commit.

use axum::{
    extract::{State, rejection::BytesRejection},
    http::StatusCode,
};
use bytes::Bytes;
use firn_auth::Action;
use firn_catalog_client::iceberg::CommitTransactionRequest;

use super::{
    call::{Call, parse_body},
    commit::commit_tables,
    error::ApiError,
    idempotency::once,
};
use crate::management::AppState;

/// Commits all changes or none.
pub(super) async fn commit(
    State(state): State<AppState>,
    call: Call,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, ApiError> {
    let scope = call.open(&state, Action::Write).await?;
    let body = body?;
    let request: CommitTransactionRequest = parse_body(&body)?;
    let record = call.idempotency(scope.principal(), "commitTransaction", &body)?;
    let run = commit_tables(&scope, request.table_changes, record.clone());
    once(&scope, record.as_ref(), run).await?;
    Ok(StatusCode::NO_CONTENT)
}
