//! What the client is told.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use firn_auth::Denied;
use firn_runtime::http::json_error;
use serde::Serialize;
use serde_json::json;

use super::budget::Full;

/// Seconds after which a client may come back when there was no room.
const RETRY_AFTER_S: u64 = 1;

/// A request that is refused as a whole; nothing of it is stored.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    kind: &'static str,
    message: String,
    retry_after_s: Option<u64>,
}

impl Refusal {
    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, message: message.into(), retry_after_s: None }
    }

    pub(super) fn unauthenticated(message: String) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "NotAuthorized", message)
    }

    pub(super) fn forbidden(message: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message)
    }

    pub(super) fn malformed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    pub(super) fn timed_out(message: &str) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "RequestTimeout", message)
    }

    pub(super) fn too_large(message: String) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "PayloadTooLarge", message)
    }

    pub(super) fn unsupported(message: String) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message)
    }

    pub(super) fn unusable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "UnprocessableEntity", message)
    }

    pub(super) fn too_fast(wait_s: u64) -> Self {
        let message = format!("the tenant sends more records than its rate allows; come back in {wait_s} s");
        Self {
            retry_after_s: Some(wait_s),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message)
        }
    }

    pub(super) fn internal(message: &str) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }

    pub(super) fn unavailable(message: &str) -> Self {
        Self {
            retry_after_s: Some(RETRY_AFTER_S),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
        }
    }

    fn log_unavailable(message: &str) -> Self {
        let message = format!("{message}; records may be stored, and those sent again keep their event_id");
        Self {
            retry_after_s: Some(RETRY_AFTER_S),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "LogUnavailable", message)
        }
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        let message = denied.to_string();
        match denied {
            Denied::Unauthenticated(_) => Self::unauthenticated(message),
            Denied::Forbidden(_) => Self::forbidden(&message),
            Denied::Suspended(_) => Self::new(StatusCode::FORBIDDEN, "TenantSuspended", message),
            Denied::TooMany { retry_after_s, .. } => Self {
                retry_after_s: Some(retry_after_s),
                ..Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message)
            },
            Denied::TooLarge(_) => Self::too_large(message),
            Denied::Unavailable(_) => Self::unavailable(&message),
        }
    }
}

impl From<Full> for Refusal {
    fn from(_: Full) -> Self {
        let message = "the gateway holds as many bytes as it may; nothing was stored, come back soon";
        Self {
            retry_after_s: Some(RETRY_AFTER_S),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "Overloaded", message)
        }
    }
}

impl Refusal {
    /// The same in the words of GLPI's protocol, which its agent shows to people.
    pub(super) fn into_glpi_response(self) -> Response {
        let body = Json(json!({"status": "error", "message": self.message}));
        self.with_headers((self.status, body).into_response())
    }

    fn with_headers(&self, mut response: Response) -> Response {
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.status == StatusCode::UNSUPPORTED_MEDIA_TYPE {
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip, zstd, identity"));
        }
        response
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        self.with_headers(json_error(self.status, self.kind, &self.message))
    }
}

/// What became of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Durable in the log.
    Accepted,
    /// Not stored.
    Refused { status: StatusCode, reason: String },
    /// Perhaps stored.
    Unknown { reason: &'static str },
}

impl Outcome {
    pub(super) fn unknown(reason: &'static str) -> Self {
        Self::Unknown { reason }
    }

    fn result(&self, index: usize) -> RecordResult {
        let (status, reason) = match self {
            Self::Accepted => (StatusCode::ACCEPTED, None),
            Self::Refused { status, reason } => (*status, Some(reason.to_string())),
            Self::Unknown { reason } => (StatusCode::SERVICE_UNAVAILABLE, Some((*reason).to_owned())),
        };
        RecordResult { index, reason, status: status.as_u16() }
    }
}

/// Answer to records that are all durable in the log.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct UploadAccepted {
    /// Records.
    accepted: usize,
}

/// Answer to a batch of which some records were refused.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct UploadResults {
    /// Records that are durable in the log.
    accepted: usize,
    /// Those that aren't.
    refused: usize,
    /// What became of each.
    results: Vec<RecordResult>,
}

/// What became of a record.
#[derive(Serialize, utoipa::ToSchema)]
struct RecordResult {
    /// Its place in the batch, from 0.
    index: usize,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The status that it would have been answered with alone.
    status: u16,
}

/// 202 if all were accepted. A single record's refusal is the answer's own; a batch is answered 207 with a result per
/// record, or 503 if the log took none that it could have taken.
pub(super) fn respond(single: bool, outcomes: &[Outcome]) -> Result<Response, Refusal> {
    let accepted = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Accepted)).count();
    if accepted == outcomes.len() {
        return Ok((StatusCode::ACCEPTED, Json(UploadAccepted { accepted })).into_response());
    }
    let unknown = outcomes.iter().find_map(|outcome| match outcome {
        Outcome::Unknown { reason } => Some(*reason),
        _ => None,
    });
    if let (0, Some(reason)) = (accepted, unknown) {
        return Err(Refusal::log_unavailable(reason));
    }
    if let (true, [Outcome::Refused { status, reason }]) = (single, outcomes) {
        let kind = match *status {
            StatusCode::PAYLOAD_TOO_LARGE => "PayloadTooLarge",
            StatusCode::FORBIDDEN => "Forbidden",
            _ => "UnprocessableEntity",
        };
        return Err(Refusal::new(*status, kind, format!("record 0: {reason}")));
    }
    let results = outcomes.iter().enumerate().map(|(index, outcome)| outcome.result(index)).collect();
    let body = UploadResults { accepted, refused: outcomes.len() - accepted, results };
    Ok((StatusCode::MULTI_STATUS, Json(body)).into_response())
}
