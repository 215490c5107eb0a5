//! Errors of the log.

/// What a caller branches on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamErrorKind {
    /// The log can't take more now (full, unread retention, broker away): try later.
    Unavailable,
    /// The topic does not exist.
    NoSuchTopic,
    /// The position lies below what the log still has.
    Truncated,
    /// A newer producer with the same transactional id took over, or the group moved on without this member.
    Fenced,
    /// The record is larger than the log takes.
    TooLarge,
    /// Wrong settings.
    Config,
    /// The log's files or answers are not what they should be.
    Broken,
}

/// A failed log operation. `Display` names topic and partition and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct StreamError {
    /// What the caller may branch on.
    pub kind: StreamErrorKind,
    /// What failed, where, and what to do.
    pub message: String,
}
