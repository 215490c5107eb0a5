//! How fast files are read and written.

use std::{
    num::NonZeroU64,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Bytes a second that all who share it read and write together. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Pace {
    bytes_per_s: NonZeroU64,
    begun: Instant,
    /// When all that was spent so far is paid for, since it began.
    paid_at: Arc<Mutex<Duration>>,
}

impl Pace {
    /// So many bytes a second.
    #[must_use]
    pub fn new(bytes_per_s: NonZeroU64) -> Self {
        Self { bytes_per_s, begun: Instant::now(), paid_at: Arc::default() }
    }

    /// Waits until what was spent before is paid for, then spends.
    pub(crate) async fn spend(&self, bytes: u64) {
        let pause = self.pause(self.begun.elapsed(), bytes);
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }

    fn pause(&self, now: Duration, bytes: u64) -> Duration {
        let mut paid_at = self.paid_at.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = now.max(*paid_at);
        *paid_at = begin + Duration::from_secs_f64(bytes as f64 / self.bytes_per_s.get() as f64);
        begin - now
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn bytes_are_paid_for_by_those_who_come_after() {
        let pace = Pace::new(NonZeroU64::new(1_000).unwrap());
        let at = |second: u64, bytes| pace.clone().pause(Duration::from_secs(second), bytes).as_secs();
        assert_eq!([at(0, 3_000), at(0, 1_000), at(1, 2_000)], [0, 3, 3]);
        assert_eq!(at(9, 500), 0, "what wasn't spent in time is not saved up");
        assert_eq!(at(9, 500) + at(9, 0), 1);
    }
}
