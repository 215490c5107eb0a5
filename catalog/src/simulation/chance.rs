//! What goes wrong, and when: drawn from the seed alone.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use firn_runtime::clock::VirtualTime;

/// How often things go wrong in a world.
#[derive(Clone, Copy, Debug)]
struct Weather {
    /// Of calls to the database and the object store.
    faults: f64,
    /// Of calls that fail, those that are done all the same.
    done_all_the_same: f64,
    /// Longest usual way there and back.
    latency: Duration,
    /// Calls that take much longer.
    slow: f64,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is done and answered.
    Done,
    /// It isn't done, and that is said.
    Refused,
    /// Nothing is answered, and it was done.
    LostAfter,
    /// Nothing is answered, and it wasn't done.
    LostBefore,
    /// Nothing is answered, and it will be done in a while: the other side hasn't begun.
    LostAhead,
    /// Nothing is answered, and it will be done in a while: the other side is at it.
    LostWithin,
}

/// The dice of a world. Cheap to clone.
#[derive(Clone)]
pub(super) struct Chance {
    random: Arc<Mutex<StdRng>>,
    weather: Weather,
    time: VirtualTime,
    faults: Arc<Mutex<u64>>,
}

impl Chance {
    pub(super) fn new(seed: u64, time: &VirtualTime) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let weather = Weather {
            faults: *pick(&mut random, &[0.0, 0.005, 0.02, 0.08]),
            done_all_the_same: 0.5,
            latency: Duration::from_millis(*pick(&mut random, &[1, 5, 40])),
            slow: *pick(&mut random, &[0.0, 0.01, 0.05]),
        };
        Self { random: Arc::new(Mutex::new(random)), weather, time: time.clone(), faults: Arc::default() }
    }

    /// Of a world in which nothing goes wrong and nothing takes time.
    pub(super) fn none(time: &VirtualTime) -> Self {
        let weather = Weather { faults: 0.0, done_all_the_same: 0.0, latency: Duration::ZERO, slow: 0.0 };
        Self { weather, ..Self::new(0, time) }
    }

    /// A number below a bound.
    pub(super) fn below(&self, bound: u64) -> u64 {
        self.random().random_range(0..bound.max(1))
    }

    /// One of several.
    pub(super) fn one<'a, T>(&self, of: &'a [T]) -> Option<&'a T> {
        let index = usize::try_from(self.below(of.len() as u64)).unwrap_or_default();
        of.get(index)
    }

    /// Whether something happens that does with this probability.
    pub(super) fn happens(&self, probability: f64) -> bool {
        self.random().random_bool(probability)
    }

    /// Waits up to a bound.
    pub(super) async fn pause(&self, longest: Duration) {
        let pause = self.random().random_range(Duration::ZERO..=longest);
        self.time.sleep(pause).await;
    }

    /// Waits as long as a call takes one way; calls overtake each other.
    pub(super) async fn travel(&self) {
        let slow = if self.happens(self.weather.slow) { 50 } else { 1 };
        self.pause(self.weather.latency * slow).await;
    }

    /// Waits as long as a call may hang before it is carried out after all: often only until others have looked for it, and
    /// not yet until they tried again.
    pub(super) async fn hang(&self) {
        let longest = if self.happens(0.5) { 5 } else { 20 };
        self.pause(self.weather.latency * longest).await;
    }

    /// What becomes of a call that changes something.
    pub(super) fn fate(&self) -> Fate {
        if !self.happens(self.weather.faults) {
            return Fate::Done;
        }
        self.count_fault();
        let lost = [Fate::LostAfter, Fate::LostWithin, Fate::LostAhead];
        match self.happens(self.weather.done_all_the_same) {
            true => self.one(&lost).copied().unwrap_or(Fate::LostAfter),
            false => self.one(&[Fate::Refused, Fate::LostBefore]).copied().unwrap_or(Fate::Refused),
        }
    }

    /// Whether a call that only asks fails.
    pub(super) fn fails(&self) -> bool {
        let fails = self.happens(self.weather.faults);
        if fails {
            self.count_fault();
        }
        fails
    }

    /// Whether the whole world is calm.
    pub(super) fn is_calm(&self) -> bool {
        self.weather.faults == 0.0
    }

    /// Faults so far.
    pub(super) fn faults(&self) -> u64 {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count_fault(&self) {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    }

    fn random(&self) -> MutexGuard<'_, StdRng> {
        self.random.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pick<'a, T>(random: &mut StdRng, of: &'a [T]) -> &'a T {
    &of[random.random_range(0..of.len())]
}
