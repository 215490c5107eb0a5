//! The catalog's one error. HTTP mapping lives in `iceberg/error.rs` and `nessie/error.rs`.

use firn_auth::Denied;

/// What went wrong, by what a caller branches on.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CatalogError {
    /// No such tenant, reference, commit, key, namespace, table or view; the first part says which.
    #[error("{what} '{name}' does not exist{hint}")]
    NotFound {
        /// Which sort of thing.
        what: Missing,
        /// Its name.
        name: String,
        /// What to do, starting with a separator, or empty.
        hint: String,
    },
    /// Exists already.
    #[error("{0}")]
    AlreadyExists(String),
    /// A commit's or merge's conflicts: nothing changed.
    #[error("{message}")]
    Conflict {
        /// What conflicts and what to do.
        message: String,
        /// By key.
        conflicts: Vec<crate::version::KeyConflict>,
    },
    /// The reference is not where the caller expected it.
    #[error("{0}")]
    ReferenceConflict(String),
    /// The request is wrong.
    #[error("{0}")]
    Invalid(String),
    /// An idempotency key that was used for another request or by another principal.
    #[error("{0}")]
    KeyReused(String),
    /// A namespace that is not empty.
    #[error("{0}")]
    NotEmpty(String),
    /// The caller showed no valid token.
    #[error("{0}")]
    Unauthenticated(String),
    /// The caller may not.
    #[error("{0}")]
    Forbidden(String),
    /// The tenant is suspended or deleted.
    #[error("{0}")]
    Suspended(String),
    /// More than the tenant may do at once.
    #[error("{message}")]
    TooMany {
        /// What is too much.
        message: String,
        /// When to come back.
        retry_after_s: u64,
    },
    /// The body is larger than the tenant may send.
    #[error("{0}")]
    TooLarge(String),
    /// The database or storage can't be reached; nothing was done.
    #[error("{0}")]
    Unavailable(String),
    /// Whether a commit landed isn't known.
    #[error("{0}")]
    Unknown(String),
    /// A bug, or a broken database; the log says more.
    #[error("{0}")]
    Internal(String),
}

impl From<Denied> for CatalogError {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Unauthenticated(text) => Self::Unauthenticated(text),
            Denied::Forbidden(text) => Self::Forbidden(text),
            Denied::Suspended(text) => Self::Suspended(text),
            Denied::TooMany { message, retry_after_s } => Self::TooMany { message, retry_after_s },
            Denied::TooLarge(text) => Self::TooLarge(text),
            Denied::Unavailable(text) => Self::Unavailable(text),
        }
    }
}

/// What was not found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Tenant.
    Tenant,
    /// Branch or tag.
    Reference,
    /// Commit.
    Commit,
    /// Content key.
    Content,
    /// Namespace.
    Namespace,
    /// Table.
    Table,
    /// View.
    View,
    /// Function.
    Function,
    /// Garbage collection.
    Collection,
    /// Client.
    Client,
    /// Erasure.
    Erasure,
    /// Legal hold.
    Hold,
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tenant => "tenant",
            Self::Reference => "reference",
            Self::Commit => "commit",
            Self::Content => "key",
            Self::Namespace => "namespace",
            Self::Table => "table",
            Self::View => "view",
            Self::Function => "function",
            Self::Collection => "garbage collection of",
            Self::Client => "client",
            Self::Erasure => "erasure",
            Self::Hold => "legal hold",
        })
    }
}
