//! Where a process gets its time from. The simulation has a time of its own, in which waiting takes none of ours.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

/// A process's clock. Clocks of two processes may differ.
#[async_trait::async_trait]
pub(crate) trait Clock: Send + Sync {
    /// The present time, as far as this clock knows.
    fn now(&self) -> DateTime<Utc>;

    /// The same for what is measured within the process.
    fn instant(&self) -> Instant;

    /// Waits.
    async fn sleep(&self, pause: Duration);
}

/// The machine's.
pub(crate) struct SystemClock;

#[async_trait::async_trait]
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
}
