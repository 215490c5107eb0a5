//! The order in which things happened, and what was said of them: the same seed writes the same ledger.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use crate::store::Hash;
use firn_runtime::clock::VirtualTime;

/// A place in the order of all that happens in a world.
pub(super) type Count = u64;

/// Counts what happens. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Sequence(Arc<AtomicU64>);

impl Sequence {
    /// Something happens now.
    pub(super) fn next(&self) -> Count {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }
}

/// Lines without anything that two runs of a seed don't share, such as hashes. Cheap to clone.
#[derive(Clone)]
pub(super) struct Ledger {
    lines: Arc<Mutex<Vec<String>>>,
    time: VirtualTime,
}

impl Ledger {
    pub(super) fn new(time: &VirtualTime) -> Self {
        Self { lines: Arc::default(), time: time.clone() }
    }

    /// Writes a line, with the world's time before it.
    pub(super) fn note(&self, text: &str) {
        let at_s = self.time.passed().as_secs_f64();
        self.lines().push(format!("{at_s:>10.6} {text}"));
    }

    /// All lines.
    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.lines())
    }

    fn lines(&self) -> MutexGuard<'_, Vec<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What tells two ledgers apart.
pub(super) fn digest(lines: &[String]) -> String {
    Hash::of(lines.join("\n").as_bytes()).to_string()[..16].to_owned()
}
