//! A machine's clock in the world's time.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use firn_runtime::clock::{Clock, VirtualTime};

/// Ahead of the world's time, or behind it.
pub(super) struct SkewedClock {
    time: VirtualTime,
    skew: TimeDelta,
    began: Instant,
}

impl SkewedClock {
    pub(super) fn new(time: &VirtualTime, skew: TimeDelta) -> Self {
        // What is measured against the real clock never seems old: how fast this machine is must not matter.
        Self { time: time.clone(), skew, began: Instant::now() + Duration::from_secs(3600) }
    }
}

#[async_trait::async_trait]
impl Clock for SkewedClock {
    fn now(&self) -> DateTime<Utc> {
        self.time.now() + self.skew
    }

    fn instant(&self) -> Instant {
        self.began + self.time.passed()
    }

    async fn sleep(&self, pause: Duration) {
        self.time.sleep(pause).await;
    }

    fn jitter(&self) -> f64 {
        0.5
    }
}
