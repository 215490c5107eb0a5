//! Memory of all requests together: reserved before it is held.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Bytes that may be held at once.
pub(super) struct Budget {
    limit: usize,
    held: Arc<AtomicUsize>,
}

/// What one request holds; given back when dropped.
pub(super) struct Reservation {
    limit: usize,
    held: Arc<AtomicUsize>,
    mine: usize,
}

/// There is no room now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Budget {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, held: Arc::default() }
    }

    /// An empty reservation.
    pub(super) fn reservation(&self) -> Reservation {
        Reservation { limit: self.limit, held: self.held.clone(), mine: 0 }
    }
}

impl Reservation {
    /// Reserves `bytes` more, or nothing.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<(), Full> {
        let limit = self.limit;
        let fits = |held: usize| held.checked_add(bytes).filter(|sum| *sum <= limit);
        self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).map_err(|_| Full)?;
        self.mine += bytes;
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.held.fetch_sub(self.mine, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_given_back_and_never_exceed_the_limit() {
        let budget = Budget::new(10);
        let mut first = budget.reservation();
        let mut second = budget.reservation();
        assert_eq!(first.grow(6), Ok(()));
        assert_eq!(second.grow(5), Err(Full));
        assert_eq!(second.grow(usize::MAX), Err(Full));
        assert_eq!(second.grow(4), Ok(()));
        drop(first);
        assert_eq!(second.grow(6), Ok(()));
    }
}
