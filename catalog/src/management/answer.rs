//! Errors of Firn's own endpoints as HTTP.

use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};

use firn_runtime::http::come_back;

use crate::CatalogError;

/// An error on its way out.
pub(super) struct Refused(CatalogError);

impl<E: Into<CatalogError>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, kind) = match &self.0 {
            CatalogError::Unauthenticated(_) => (StatusCode::UNAUTHORIZED, "Unauthenticated"),
            CatalogError::Forbidden(_) => (StatusCode::FORBIDDEN, "Forbidden"),
            CatalogError::Suspended(_) => (StatusCode::FORBIDDEN, "TenantSuspended"),
            CatalogError::TooMany { .. } => (StatusCode::TOO_MANY_REQUESTS, "TooManyRequests"),
            CatalogError::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "PayloadTooLarge"),
            CatalogError::NotFound { .. } => (StatusCode::NOT_FOUND, "NotFound"),
            CatalogError::AlreadyExists(_) => (StatusCode::CONFLICT, "AlreadyExists"),
            CatalogError::Conflict { .. }
            | CatalogError::ReferenceConflict(_)
            | CatalogError::NotEmpty(_) => (StatusCode::CONFLICT, "Conflict"),
            CatalogError::Invalid(_) => (StatusCode::BAD_REQUEST, "Invalid"),
            CatalogError::KeyReused(_) => (StatusCode::UNPROCESSABLE_ENTITY, "KeyReused"),
            CatalogError::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "Unavailable"),
            CatalogError::Unknown(_) => (StatusCode::GATEWAY_TIMEOUT, "Unknown"),
            CatalogError::Internal(_) => {
                tracing::error!(error = %self.0, "a request failed");
                (StatusCode::INTERNAL_SERVER_ERROR, "Internal")
            }
        };
        let answer = firn_runtime::http::json_error(status, kind, self.0.to_string());
        match self.0 {
            CatalogError::TooMany { retry_after_s, .. } => come_back(answer, Some(retry_after_s)),
            _ => answer,
        }
    }
}
