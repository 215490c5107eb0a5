//! Why a change of metadata is refused.

/// A refused change; the text names the update or requirement and what differs.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MetadataError {
    /// The request or document is wrong and will stay so (400).
    #[error("{0}")]
    Invalid(String),
    /// The table moved on since the client read it; reading again may help (409).
    #[error("{0}")]
    Stale(String),
}

impl MetadataError {
    /// The same error, saying where in the request it is.
    pub(crate) fn within(self, place: &str) -> Self {
        match self {
            Self::Invalid(text) => Self::Invalid(format!("{place}: {text}")),
            Self::Stale(text) => Self::Stale(format!("{place}: {text}")),
        }
    }
}

/// Shorthand for the common case.
pub(super) fn invalid<T>(text: impl Into<String>) -> Result<T, MetadataError> {
    Err(MetadataError::Invalid(text.into()))
}
