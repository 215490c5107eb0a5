//! Time that passes only while everybody waits for it, and the runtime that makes it pass.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};

use crate::clock::Clock;

/// The world's time began here: 2026-01-01.
const BEGINNING_S: i64 = 1_767_225_600;

/// What everybody's clocks go by. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Time(Arc<Mutex<Timers>>);

#[derive(Default)]
struct Timers {
    passed: Duration,
    made: u64,
    /// Who waits, by when; of those at once the first who began to wait comes first.
    waiting: BTreeMap<(Duration, u64), Waker>,
}

impl Time {
    /// How long the world has been.
    pub(super) fn passed(&self) -> Duration {
        self.timers().passed
    }

    /// Waits.
    pub(super) fn sleep(&self, pause: Duration) -> Sleep {
        let mut timers = self.timers();
        timers.made += 1;
        Sleep { time: self.clone(), at: (timers.passed + pause, timers.made) }
    }

    /// Goes on to the next instant that somebody waits for.
    fn advance(&self) {
        let mut timers = self.timers();
        let Some(((at, _), waker)) = timers.waiting.pop_first() else { return };
        timers.passed = timers.passed.max(at);
        drop(timers);
        waker.wake();
    }

    fn timers(&self) -> MutexGuard<'_, Timers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a world on this thread. Whenever nobody can go on, time does: so nothing waits in earnest, and what happens next
    /// follows from what happened before alone.
    pub(super) fn run<T>(&self, world: impl Future<Output = T>) -> std::io::Result<T> {
        let time = self.clone();
        // The runtime's own timers are there for what has a deadline that a world never comes to.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .on_thread_park(move || time.advance())
            .build()?;
        Ok(runtime.block_on(world))
    }
}

/// See [`Time::sleep`].
pub(super) struct Sleep {
    time: Time,
    at: (Duration, u64),
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut timers = self.time.timers();
        if timers.passed >= self.at.0 {
            return Poll::Ready(());
        }
        timers.waiting.insert(self.at, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.time.timers().waiting.remove(&self.at);
    }
}

/// A machine's clock, which may be ahead or behind.
pub(super) struct SkewedClock {
    time: Time,
    skew: TimeDelta,
    began: Instant,
}

impl SkewedClock {
    pub(super) fn new(time: &Time, skew: TimeDelta) -> Self {
        // What is measured against the real clock never seems old: how fast this machine is must not matter.
        Self { time: time.clone(), skew, began: Instant::now() + Duration::from_secs(3600) }
    }
}

#[async_trait::async_trait]
impl Clock for SkewedClock {
    fn now(&self) -> DateTime<Utc> {
        let passed = TimeDelta::from_std(self.time.passed()).unwrap_or(TimeDelta::MAX);
        DateTime::from_timestamp(BEGINNING_S, 0).unwrap_or_default() + passed + self.skew
    }

    fn instant(&self) -> Instant {
        self.began + self.time.passed()
    }

    async fn sleep(&self, pause: Duration) {
        self.time.sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_hour_passes_at_once_and_in_order() {
        let (time, began) = (Time::default(), Instant::now());
        let order = Arc::new(Mutex::new(Vec::new()));
        time.run(async {
            let sleepers: Vec<_> = [3600, 5, 60, 5]
                .into_iter()
                .enumerate()
                .map(|(number, seconds)| {
                    let (time, order) = (time.clone(), Arc::clone(&order));
                    tokio::spawn(async move {
                        time.sleep(Duration::from_secs(seconds)).await;
                        order.lock().unwrap().push((number, time.passed().as_secs()));
                    })
                })
                .collect();
            for sleeper in sleepers {
                sleeper.await.unwrap();
            }
        })
        .unwrap();
        assert_eq!(*order.lock().unwrap(), [(1, 5), (3, 5), (2, 60), (0, 3600)]);
        assert!(began.elapsed() < Duration::from_secs(60), "nobody waited in earnest");
    }
}
