//! A process's life. After it nothing that the process began goes on.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// Whether a process runs. Cheap to clone; clones are of one process.
#[derive(Clone, Default)]
pub(super) struct Life(Arc<AtomicBool>);

impl Life {
    /// `kill -9`.
    pub(super) fn end(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether it is over.
    pub(super) fn is_over(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// Passes in a process that runs, and never in one that was killed. Every call of a process to the world passes here on its
    /// way out and on its way back, so that what it still would do is of no consequence.
    pub(super) async fn goes_on(&self) {
        if self.is_over() {
            pending::<()>().await;
        }
    }
}
