//! Time that passes only while everybody waits for it, and the runtime that makes it pass.

use std::{
    collections::BTreeMap,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};

/// Worlds begin at this instant: 2026-01-01.
const BEGINNING_S: i64 = 1_767_225_600;

/// The time of a simulated world. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct VirtualTime(Arc<Mutex<Timers>>);

#[derive(Debug, Default)]
struct Timers {
    passed: Duration,
    made: u64,
    /// Who waits, by when; of those at once the first who began to wait comes first.
    waiting: BTreeMap<(Duration, u64), Waker>,
}

impl VirtualTime {
    /// How long the world has been.
    #[must_use]
    pub fn passed(&self) -> Duration {
        self.timers().passed
    }

    /// The time there is in the world.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        let passed = TimeDelta::from_std(self.passed()).unwrap_or(TimeDelta::MAX);
        DateTime::from_timestamp(BEGINNING_S, 0).unwrap_or_default() + passed
    }

    /// Waits.
    #[must_use]
    pub fn sleep(&self, pause: Duration) -> VirtualSleep {
        let mut timers = self.timers();
        timers.made += 1;
        VirtualSleep { time: self.clone(), at: (timers.passed.saturating_add(pause), timers.made) }
    }

    /// Runs a world on this thread. Whenever nobody can go on, time does: so nothing waits in earnest, and what happens next
    /// follows from what happened before alone. The world must wait for nothing outside of it.
    ///
    /// # Errors
    /// If the system gives no runtime.
    pub fn run<T>(&self, world: impl Future<Output = T>) -> io::Result<T> {
        let time = self.clone();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .on_thread_park(move || time.advance())
            .build()?;
        Ok(runtime.block_on(world))
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
}

/// See [`VirtualTime::sleep`].
#[derive(Debug)]
pub struct VirtualSleep {
    time: VirtualTime,
    at: (Duration, u64),
}

impl Future for VirtualSleep {
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

impl Drop for VirtualSleep {
    fn drop(&mut self) {
        self.time.timers().waiting.remove(&self.at);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Instant;

    use super::*;

    #[test]
    fn an_hour_passes_at_once_and_in_order() {
        let (time, began) = (VirtualTime::default(), Instant::now());
        let order = Arc::new(Mutex::new(Vec::new()));
        let world = async {
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
        };
        time.run(world).unwrap();
        assert_eq!(*order.lock().unwrap(), [(1, 5), (3, 5), (2, 60), (0, 3600)]);
        assert!(began.elapsed() < Duration::from_secs(60), "nobody waited in earnest");
    }
}
