//! What every backend must do. Run by each backend's own test with a fresh log.

use std::sync::Arc;

use crate::Log;

/// Runs the whole suite; panics with the claim that failed.
pub async fn conformance(_log: Arc<dyn Log>) {
    todo!()
}
