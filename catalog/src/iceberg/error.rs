//! Errors as the specification writes them: `{"error": {"message", "type", "code"}}`.

use axum::{
    extract::rejection::BytesRejection,
    http::{Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use firn_auth::Denied;
use serde::{Deserialize, Serialize};

use crate::{CatalogError, error::Missing, metadata::MetadataError};

/// An error on its way out; also what is stored of it for a replay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ApiError {
    pub(super) status: u16,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) message: String,
    /// When to come back, if it is only too early.
    #[serde(skip)]
    pub(super) retry_after_s: Option<u64>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, kind: &str, message: impl Into<String>) -> Self {
        Self { status: status.as_u16(), kind: kind.to_owned(), message: message.into(), retry_after_s: None }
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequestException", message)
    }

    pub(super) fn exists(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "AlreadyExistsException", message)
    }

    pub(super) fn commit_failed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "CommitFailedException", message)
    }

    pub(super) fn missing(what: Missing, name: &str) -> Self {
        CatalogError::NotFound { what, name: name.to_owned(), hint: String::new() }.into()
    }

    /// The same after a commit was made: 503 would say that nothing was done.
    pub(super) fn after_commit(self) -> Self {
        if self.status != StatusCode::SERVICE_UNAVAILABLE.as_u16() {
            return self;
        }
        CatalogError::Unknown(format!("the commit is made, but can't be told: {}", self.message)).into()
    }

    /// Whether a repeated request would surely be answered the same, so that the answer may be stored.
    pub(super) fn is_final(&self) -> bool {
        (400..500).contains(&self.status) && !matches!(self.status, 401 | 403 | 413 | 419 | 422 | 429)
    }
}

impl From<CatalogError> for ApiError {
    fn from(error: CatalogError) -> Self {
        let message = error.to_string();
        let (status, kind) = match &error {
            CatalogError::NotFound { what, .. } => (StatusCode::NOT_FOUND, no_such(*what)),
            CatalogError::AlreadyExists(_) => (StatusCode::CONFLICT, "AlreadyExistsException"),
            CatalogError::Conflict { conflicts, .. } => {
                if conflicts.iter().any(|conflict| conflict.conflict_type == "NAMESPACE_ABSENT") {
                    (StatusCode::NOT_FOUND, "NoSuchNamespaceException")
                } else if conflicts.iter().any(|conflict| conflict.conflict_type == "NAMESPACE_NOT_EMPTY") {
                    (StatusCode::CONFLICT, "NamespaceNotEmptyException")
                } else {
                    (StatusCode::CONFLICT, "CommitFailedException")
                }
            }
            CatalogError::ReferenceConflict(_) => (StatusCode::CONFLICT, "CommitFailedException"),
            CatalogError::NotEmpty(_) => (StatusCode::CONFLICT, "NamespaceNotEmptyException"),
            CatalogError::Invalid(_) => (StatusCode::BAD_REQUEST, "BadRequestException"),
            CatalogError::KeyReused(_) => (StatusCode::UNPROCESSABLE_ENTITY, "UnprocessableEntityException"),
            CatalogError::Unauthenticated(_) => (StatusCode::UNAUTHORIZED, "NotAuthorizedException"),
            CatalogError::Forbidden(_) | CatalogError::Suspended(_) => {
                (StatusCode::FORBIDDEN, "ForbiddenException")
            }
            CatalogError::TooMany { .. } => (StatusCode::TOO_MANY_REQUESTS, "TooManyRequestsException"),
            CatalogError::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLargeException"),
            CatalogError::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailableException"),
            CatalogError::Unknown(_) => (StatusCode::INTERNAL_SERVER_ERROR, "CommitStateUnknownException"),
            CatalogError::Internal(_) => {
                tracing::error!(%error, "a request failed");
                (StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError")
            }
        };
        let retry_after_s = match &error {
            CatalogError::TooMany { retry_after_s, .. } => Some(*retry_after_s),
            _ => None,
        };
        Self { retry_after_s, ..Self::new(status, kind, message) }
    }
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> Self {
        CatalogError::from(denied).into()
    }
}

impl From<MetadataError> for ApiError {
    fn from(error: MetadataError) -> Self {
        match error {
            MetadataError::Invalid(message) => Self::invalid(message),
            MetadataError::Stale(message) => Self::commit_failed(message),
        }
    }
}

impl From<BytesRejection> for ApiError {
    fn from(rejection: BytesRejection) -> Self {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            let text = format!("the body is larger than {} bytes", super::MAX_BODY_BYTES);
            return Self::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLargeException", text);
        }
        Self::invalid(rejection.body_text())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let answer = firn_runtime::http::json_error(status, &self.kind, self.message);
        firn_runtime::http::come_back(answer, self.retry_after_s)
    }
}

/// Answers what no route matches.
pub(super) async fn no_endpoint(method: Method, uri: Uri) -> ApiError {
    let text =
        format!("there is no {method} {}: see the endpoints that /iceberg/v1/config lists", uri.path());
    ApiError::new(StatusCode::NOT_FOUND, "NoSuchEndpointException", text)
}

fn no_such(what: Missing) -> &'static str {
    match what {
        Missing::Tenant => "NoSuchWarehouseException",
        Missing::Namespace => "NoSuchNamespaceException",
        Missing::View => "NoSuchViewException",
        Missing::Function => "NoSuchFunctionException",
        // The last ones are of Firn's own endpoints, and never asked for here.
        Missing::Table
        | Missing::Content
        | Missing::Collection
        | Missing::Client
        | Missing::Erasure
        | Missing::Hold => "NoSuchTableException",
        Missing::Reference | Missing::Commit => "NoSuchReferenceException",
    }
}
