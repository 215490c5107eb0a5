//! Errors of the client.

/// What a caller branches on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientErrorKind {
    /// 404: no such tenant, reference, namespace, table or view.
    NotFound,
    /// 409 at a commit, merge or create: the state moved on, or the thing exists.
    Conflict,
    /// 400 or 422: the request itself is wrong.
    Invalid,
    /// 401 or 403.
    Denied,
    /// 429 or 503: not done, may be tried again.
    Unavailable,
    /// The outcome is unknown: a 500, 502 or 504 at a commit, or a connection lost after the request was sent.
    Unknown,
}

/// A request that did not succeed. `Display` names what was asked and the server's own message.
#[derive(Debug, thiserror::Error)]
#[error("{request}: {message}")]
pub struct ClientError {
    /// What the caller may branch on.
    pub kind: ClientErrorKind,
    /// HTTP status, if an answer came.
    pub status: Option<u16>,
    /// The server's error type (`CommitFailedException`, `REFERENCE_CONFLICT` …), if an answer came.
    pub error_type: Option<String>,
    /// Method and path.
    pub request: String,
    /// The server's message, or the transport's.
    pub message: String,
}
