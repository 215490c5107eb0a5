//! Errors of the table library.

use firn_catalog_client::ClientError;

/// What a caller branches on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableErrorKind {
    /// The table, snapshot or reference does not exist.
    NotFound,
    /// The base moved in a way the operation can't be re-applied to; an asserted property differs.
    Conflict,
    /// The outcome of a commit is not known; nothing was deleted.
    Unknown,
    /// The input does not fit the table: schema, types, nulls.
    Invalid,
    /// A file can't be read or written.
    Storage,
    /// A feature the table uses is not supported.
    Unsupported,
    /// The catalog can't be reached or refused.
    Catalog,
}

/// A failed table operation. `Display` names the table or file and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{context}")]
pub struct TableError {
    /// What the caller may branch on.
    pub kind: TableErrorKind,
    /// What was attempted, on what, and why it failed.
    pub context: String,
    /// The cause.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl From<ClientError> for TableError {
    fn from(error: ClientError) -> Self {
        use firn_catalog_client::ClientErrorKind as C;
        let kind = match error.kind {
            C::NotFound => TableErrorKind::NotFound,
            C::Conflict => TableErrorKind::Conflict,
            C::Unknown => TableErrorKind::Unknown,
            C::Invalid => TableErrorKind::Invalid,
            C::Denied | C::Unavailable => TableErrorKind::Catalog,
        };
        Self { kind, context: error.to_string(), source: Some(Box::new(error)) }
    }
}

impl TableError {
    /// An error without a cause.
    pub(crate) fn new(kind: TableErrorKind, context: impl Into<String>) -> Self {
        Self { kind, context: context.into(), source: None }
    }

    /// An error with its cause; the context says what was attempted and on what.
    pub(crate) fn caused(
        kind: TableErrorKind,
        context: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { kind, context: context.into(), source: Some(source.into()) }
    }

    pub(crate) fn invalid(context: impl Into<String>) -> Self {
        Self::new(TableErrorKind::Invalid, context)
    }

    pub(crate) fn unsupported(context: impl Into<String>) -> Self {
        Self::new(TableErrorKind::Unsupported, context)
    }

    pub(crate) fn conflict(context: impl Into<String>) -> Self {
        Self::new(TableErrorKind::Conflict, context)
    }
}
