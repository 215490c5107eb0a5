//! Where objects and rows are kept. One trait, two backends, one conformance suite.

/// See the module; at most ten methods.
#[async_trait::async_trait]
pub trait Store: Send + Sync {}
