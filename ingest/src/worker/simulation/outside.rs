//! Everything outside of the workers: what the log and the tables hold, and the dice.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use firn_runtime::clock::{Clock, VirtualTime};
use firn_stream::Record;
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::worker::positions::Positions;

/// A record of the log, and whose it is.
pub(super) struct Sent {
    pub(super) tenant: String,
    pub(super) record: Record,
}

/// A tenant's table: rows by their place in the log.
#[derive(Default)]
pub(super) struct Table {
    pub(super) rows: Vec<(i32, i64)>,
    pub(super) positions: Positions,
}

/// What there is.
#[derive(Default)]
pub(super) struct State {
    /// The log, by partition.
    pub(super) log: Vec<Vec<Sent>>,
    /// The group's offsets.
    pub(super) committed: BTreeMap<i32, i64>,
    /// Members of the group, by when they joined.
    pub(super) members: BTreeSet<u64>,
    pub(super) joined: u64,
    /// Who owns a partition; nobody while it passes from one to another.
    pub(super) owners: BTreeMap<i32, u64>,
    pub(super) tables: BTreeMap<String, Table>,
    pub(super) suspended: BTreeSet<String>,
    /// What should never have happened.
    pub(super) wrong: Vec<String>,
    pub(super) told: super::history::Told,
    hasher: DefaultHasher,
}

impl State {
    /// Notes that something happened, so that two runs can be compared.
    pub(super) fn note(&mut self, what: impl Hash) {
        what.hash(&mut self.hasher);
    }

    pub(super) fn print(&self) -> u64 {
        self.hasher.finish()
    }

    /// A tenant's places in a partition, from an offset up to another.
    pub(super) fn places(&self, tenant: &str, partition: i32, from: i64, to: i64) -> BTreeSet<i64> {
        let records = usize::try_from(partition).ok().and_then(|index| self.log.get(index));
        let own = records.into_iter().flatten().filter(|sent| sent.tenant == tenant);
        own.map(|sent| sent.record.offset).filter(|offset| (from..to).contains(offset)).collect()
    }
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(super) struct Outside {
    pub(super) time: VirtualTime,
    state: Arc<Mutex<State>>,
    random: Arc<Mutex<StdRng>>,
    /// How often something fails.
    faults: Arc<Mutex<f64>>,
    began: Instant,
}

/// What becomes of a request that changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Done,
    /// It isn't done, and that is said.
    Refused,
    /// It is done, now or in a while, and nobody hears of it.
    Unheard,
}

impl Outside {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let faults = [0.0, 0.01, 0.05, 0.2][random.random_range(0..4)];
        Self {
            time: VirtualTime::default(),
            state: Arc::default(),
            random: Arc::new(Mutex::new(random)),
            faults: Arc::new(Mutex::new(faults)),
            began: Instant::now(),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on nothing fails.
    pub(super) fn calm(&self) {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner) = 0.0;
    }

    /// A number below a bound.
    pub(super) fn below(&self, bound: u64) -> u64 {
        self.random().random_range(0..bound.max(1))
    }

    /// Whether a request that only asks fails.
    pub(super) fn fails(&self) -> bool {
        let faults = *self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let fails = self.random().random_bool(faults);
        self.state().told.faults += u64::from(fails);
        fails
    }

    pub(super) fn fate(&self) -> Fate {
        match self.fails() {
            false => Fate::Done,
            true if self.below(2) == 0 => Fate::Refused,
            true => Fate::Unheard,
        }
    }

    /// Waits up to a bound.
    pub(super) async fn pause(&self, longest: Duration) {
        let pause = self.random().random_range(Duration::ZERO..=longest);
        self.time.sleep(pause).await;
    }

    /// Waits as long as a request takes one way: mostly little.
    pub(super) async fn travel(&self) {
        let longest = if self.below(50) == 0 { 5_000 } else { 20 };
        self.pause(Duration::from_millis(longest)).await;
    }

    fn random(&self) -> MutexGuard<'_, StdRng> {
        self.random.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Clock for Outside {
    fn now(&self) -> DateTime<Utc> {
        self.time.now()
    }

    fn instant(&self) -> Instant {
        self.began + self.time.passed()
    }

    async fn sleep(&self, pause: Duration) {
        self.time.sleep(pause).await;
    }

    fn jitter(&self) -> f64 {
        self.random().random()
    }
}
