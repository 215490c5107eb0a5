//! Where a loop that is simulated gets its time from: the machine, or a time of its own in which waiting takes none of ours.

mod virtual_time;

use std::time::{Duration, Instant};

use async_trait::async_trait;
use chrono::{DateTime, Utc};

pub use virtual_time::{VirtualSleep, VirtualTime};

/// A process's clock. Clocks of two processes may differ.
#[async_trait]
pub trait Clock: Send + Sync {
    /// The present time, as far as this clock knows.
    fn now(&self) -> DateTime<Utc>;

    /// The present, for what is measured within the process.
    fn instant(&self) -> Instant;

    /// Waits.
    async fn sleep(&self, pause: Duration);

    /// A number from 0 to 1 by which those who would wait equally long are spread out.
    fn jitter(&self) -> f64;
}

/// The machine's.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }

    fn instant(&self) -> Instant {
        Instant::now()
    }

    async fn sleep(&self, pause: Duration) {
        tokio::time::sleep(pause).await;
    }

    fn jitter(&self) -> f64 {
        rand::random()
    }
}

/// What `future` answers, or `None` if that takes longer than `limit` by the clock.
pub async fn within<T>(clock: &dyn Clock, limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        answer = future => Some(answer),
        () = clock.sleep(limit) => None,
    }
}
