//! Computation that would hold up other requests.

use crate::CatalogError;

/// Runs `work` on a thread that may block.
pub(crate) async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, CatalogError> {
    let abandoned = |error| CatalogError::Internal(format!("a computation was abandoned: {error}"));
    tokio::task::spawn_blocking(work).await.map_err(abandoned)
}
