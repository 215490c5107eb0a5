//! Trying again: bounded, exponential, with jitter, and over at once when the process shuts down.

use std::{fmt::Display, time::Duration};

use tokio_util::sync::CancellationToken;

/// How often and how long to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Upper bound of the first wait.
    pub initial: Duration,
    /// Upper bound of every wait.
    pub max: Duration,
    /// Attempts in all, at least one.
    pub attempts: u32,
}

impl Default for Backoff {
    /// Five attempts within about three seconds.
    fn default() -> Self {
        Self { initial: Duration::from_millis(100), max: Duration::from_secs(2), attempts: 5 }
    }
}

impl Backoff {
    /// The wait after `failures` failures (from 1): between half of and the whole doubling bound, so that many clients
    /// that failed together don't return together.
    #[must_use]
    pub fn delay(&self, failures: u32) -> Duration {
        self.delay_by(failures, rand::random())
    }

    /// The same with a random number from 0 to 1 of the caller's.
    #[must_use]
    pub fn delay_by(&self, failures: u32, jitter: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(20);
        let bound = self.initial.saturating_mul(1 << doublings).min(self.max);
        bound.mul_f64(0.5 + jitter / 2.0)
    }
}

/// Runs `operation` until it succeeds, fails for good (`again` says no), attempts are used up, or `shutdown` is cancelled;
/// the last error is returned.
pub async fn retry<T, E: Display>(
    backoff: Backoff,
    shutdown: &CancellationToken,
    what: &str,
    mut operation: impl AsyncFnMut() -> Result<T, E>,
    again: impl Fn(&E) -> bool,
) -> Result<T, E> {
    let mut failures = 0;
    loop {
        let error = match operation().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        failures += 1;
        if failures >= backoff.attempts || !again(&error) {
            return Err(error);
        }
        let delay = backoff.delay(failures);
        tracing::debug!(what, failures, ?delay, %error, "trying again");
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = shutdown.cancelled() => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const QUICK: Backoff =
        Backoff { initial: Duration::from_millis(1), max: Duration::from_millis(4), attempts: 4 };

    #[test]
    fn delay_doubles_up_to_its_bound() {
        for (failures, bound_ms) in [(1, 1), (2, 2), (3, 4), (9, 4), (u32::MAX, 4)] {
            let delay = QUICK.delay(failures);
            let bound = Duration::from_millis(bound_ms);
            assert!(delay <= bound && delay >= bound / 2, "{failures}: {delay:?}");
        }
    }

    #[tokio::test]
    async fn attempts_are_bounded() {
        let mut calls = 0;
        let result: Result<(), _> = retry(
            QUICK,
            &CancellationToken::new(),
            "test",
            async || {
                calls += 1;
                Err("no")
            },
            |_| true,
        )
        .await;
        assert_eq!((result, calls), (Err("no"), 4));
    }

    #[tokio::test]
    async fn errors_that_repeat_themselves_are_not_tried_again() {
        let mut calls = 0;
        let result: Result<(), _> = retry(
            QUICK,
            &CancellationToken::new(),
            "test",
            async || {
                calls += 1;
                Err("no")
            },
            |_| false,
        )
        .await;
        assert_eq!((result, calls), (Err("no"), 1));
    }

    #[tokio::test]
    async fn shutdown_ends_the_wait() {
        let slow =
            Backoff { initial: Duration::from_secs(3600), max: Duration::from_secs(3600), attempts: 9 };
        let shutdown = CancellationToken::new();
        shutdown.cancel();
        let result: Result<(), _> = retry(slow, &shutdown, "test", async || Err("no"), |_| true).await;
        assert_eq!(result, Err("no"));
    }
}
