//! Errors as Nessie writes them: `{status, reason, message, errorCode, errorDetails}`.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use firn_auth::Denied;
use firn_runtime::http::come_back;
use serde_json::{Value, json};

use super::text;
use crate::{CatalogError, error::Missing, version::KeyConflict};

/// An error on its way out.
#[derive(Debug)]
pub(super) struct NessieError(CatalogError);

impl From<CatalogError> for NessieError {
    fn from(error: CatalogError) -> Self {
        Self(error)
    }
}

impl From<Denied> for NessieError {
    fn from(denied: Denied) -> Self {
        Self(denied.into())
    }
}

impl IntoResponse for NessieError {
    fn into_response(self) -> Response {
        let (status, code) = status_and_code(&self.0);
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(error = %self.0, "a Nessie request failed");
        }
        let body = json!({
            "status": status.as_u16(),
            "reason": status.canonical_reason(),
            "message": self.0.to_string(),
            "errorCode": code,
            "errorDetails": details(&self.0),
        });
        let answer = (status, Json(body)).into_response();
        match self.0 {
            CatalogError::TooMany { retry_after_s, .. } => come_back(answer, Some(retry_after_s)),
            _ => answer,
        }
    }
}

fn status_and_code(error: &CatalogError) -> (StatusCode, &'static str) {
    match error {
        CatalogError::NotFound { what: Missing::Tenant | Missing::Reference | Missing::Commit, .. } => {
            (StatusCode::NOT_FOUND, "REFERENCE_NOT_FOUND")
        }
        CatalogError::NotFound { what: Missing::Namespace, .. } => {
            (StatusCode::NOT_FOUND, "NAMESPACE_NOT_FOUND")
        }
        CatalogError::NotFound { .. } => (StatusCode::NOT_FOUND, "CONTENT_NOT_FOUND"),
        CatalogError::AlreadyExists(_) => (StatusCode::CONFLICT, "REFERENCE_ALREADY_EXISTS"),
        CatalogError::Conflict { .. } | CatalogError::ReferenceConflict(_) => {
            (StatusCode::CONFLICT, "REFERENCE_CONFLICT")
        }
        CatalogError::NotEmpty(_) => (StatusCode::CONFLICT, "NAMESPACE_NOT_EMPTY"),
        CatalogError::Invalid(_) => (StatusCode::BAD_REQUEST, "BAD_REQUEST"),
        CatalogError::KeyReused(_) => (StatusCode::UNPROCESSABLE_ENTITY, "BAD_REQUEST"),
        CatalogError::Unauthenticated(_) => (StatusCode::UNAUTHORIZED, "UNKNOWN"),
        CatalogError::Forbidden(_) | CatalogError::Suspended(_) => (StatusCode::FORBIDDEN, "FORBIDDEN"),
        CatalogError::TooMany { .. } => (StatusCode::TOO_MANY_REQUESTS, "TOO_MANY_REQUESTS"),
        CatalogError::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "BAD_REQUEST"),
        CatalogError::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "UNKNOWN"),
        CatalogError::Unknown(_) => (StatusCode::GATEWAY_TIMEOUT, "UNKNOWN"),
        CatalogError::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN"),
    }
}

fn details(error: &CatalogError) -> Value {
    match error {
        CatalogError::Conflict { conflicts, .. } => {
            let conflicts: Vec<Value> = conflicts.iter().map(conflict_json).collect();
            json!({"type": "REFERENCE_CONFLICTS", "conflicts": conflicts})
        }
        _ => Value::Null,
    }
}

/// One key's conflict.
pub(super) fn conflict_json(conflict: &KeyConflict) -> Value {
    json!({
        "conflictType": conflict.conflict_type,
        "key": text::wire_key(&conflict.key),
        "message": conflict.message,
    })
}
