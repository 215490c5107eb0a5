//! Refusals, as callers are told them.

use axum::{
    http::{HeaderValue, StatusCode, header::WWW_AUTHENTICATE},
    response::{IntoResponse, Response},
};
use firn_runtime::http::{come_back, json_error};

use crate::{AuthError, TenantName, policy::Refusal};

/// Why a request is refused. `Display` is safe to show to the caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No valid token: 401.
    #[error("{0}")]
    Unauthenticated(String),
    /// The token doesn't allow it, or doesn't reach the tenant, or there is none: 403.
    #[error("{0}")]
    Forbidden(String),
    /// The tenant is suspended or deleted: 403.
    #[error("{0}")]
    Suspended(String),
    /// Too many requests: 429.
    #[error("{message}")]
    TooMany {
        /// What is too much.
        message: String,
        /// When to come back.
        retry_after_s: u64,
    },
    /// The body is larger than the tenant may send: 413.
    #[error("{0}")]
    TooLarge(String),
    /// It can't be decided now: 503.
    #[error("{0}")]
    Unavailable(String),
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        let (status, kind) = match &self {
            Self::Unauthenticated(_) => (StatusCode::UNAUTHORIZED, "NotAuthorized"),
            Self::Forbidden(_) => (StatusCode::FORBIDDEN, "Forbidden"),
            Self::Suspended(_) => (StatusCode::FORBIDDEN, "TenantSuspended"),
            Self::TooMany { .. } => (StatusCode::TOO_MANY_REQUESTS, "TooManyRequests"),
            Self::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "PayloadTooLarge"),
            Self::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"),
        };
        let retry_after_s = match &self {
            Self::TooMany { retry_after_s, .. } => Some(*retry_after_s),
            Self::Unavailable(_) => Some(1),
            _ => None,
        };
        let mut answer = come_back(json_error(status, kind, self.to_string()), retry_after_s);
        if status == StatusCode::UNAUTHORIZED {
            answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        answer
    }
}

impl From<AuthError> for Denied {
    fn from(error: AuthError) -> Self {
        Self::Unauthenticated(error.to_string())
    }
}

impl Refusal {
    pub(super) fn told(self, tenant: &TenantName) -> Denied {
        match self {
            Self::Unreached => unreached(tenant.as_str()),
            Self::Revoked(text) => Denied::Unauthenticated(text),
            Self::Standing(text) => Denied::Suspended(text),
            Self::Protected(text) | Self::Ungranted(text) => Denied::Forbidden(text),
        }
    }
}

/// The same whether the tenant exists or not.
pub(super) fn unreached(tenant: &str) -> Denied {
    Denied::Forbidden(format!("the token does not reach the tenant '{tenant}'"))
}
