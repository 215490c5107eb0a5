//! After `inventory` grew: takes each host's state to the partition that its records come to now.
//!
//! First the log is judged up to now in the old order, by states that lie where they lay: all partitions at once, in the order
//! of receipt, since what a host sent before the growth lies in another partition than what it sent since. Each step is a
//! transaction of states, transitions and positions, as any worker's. Then states move, each taken out of one partition and put
//! into another by one transaction, so that it lies in exactly one at any time.
//!
//! The topic of commands grows last: before that no worker begins. Whatever ends this in its midst, the next run finds the
//! states where they lie by then and does what is left.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::Utc;
use firn_inventory::tables::{ALERTS_COMMANDS_TOPIC, ALERTS_STATE_TOPIC, COMPLIANCE_TOPIC, INVENTORY_TOPIC};
use firn_stream::{Record, TopicPartition, partition_for_key};
use futures::{StreamExt as _, TryStreamExt as _};

use super::{
    GROUP, Worker,
    alone::{alone, still_alone},
    backlog::{self, Backlog},
    outputs,
    restore::{States, states},
    session::Session,
    topics::{self, Counts, home},
};
use crate::{AlertsError, engine::Batch, host::HostKey, packed::Packed};

/// Its name as a producer: a killed run's open transaction is ended by the next one.
const PRODUCER: &str = "firn-alerts-repartition";
/// Partitions whose states are read at once.
const RESTORES: usize = 8;
/// A record received this short ago may be overtaken on its way into the log.
const ON_ITS_WAY_US: i64 = 2_000_000;
/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// How to do it.
#[derive(Clone, Debug)]
pub(crate) struct Repartitioning {
    /// How long those who write to `inventory` may take to learn of new partitions.
    pub(crate) settle: Duration,
    /// How long to wait until all partitions are ours. Above the session of a worker that was killed.
    pub(crate) patience: Duration,
    /// Records received later are left to the workers; as of now, if `None`.
    pub(crate) until_us: Option<i64>,
    /// Records of one step, at the most.
    pub(crate) records_at_once: usize,
    /// States moved by one transaction.
    pub(crate) moves_at_once: usize,
}

impl Repartitioning {
    pub(crate) fn after(settle: Duration) -> Self {
        Self {
            settle,
            patience: Duration::from_secs(60),
            until_us: None,
            records_at_once: 5_000,
            moves_at_once: 2_000,
        }
    }
}

/// Hosts that went from one partition to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// Where their states lay.
    pub from: i32,
    /// Where their states lie now.
    pub to: i32,
    /// How many.
    pub hosts: u64,
}

/// What was done, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repartitioned {
    /// Partitions before and after.
    pub partitions: (i32, i32),
    /// All hosts.
    pub hosts: u64,
    /// By partitions.
    pub moves: Vec<Move>,
    /// Records and commands that waited, and were judged before. Before it is done, ends less positions.
    pub records: u64,
    /// What these told.
    pub transitions: u64,
}

impl Repartitioned {
    /// Hosts that changed their partition.
    #[must_use]
    pub fn moved(&self) -> u64 {
        self.moves.iter().map(|moved| moved.hosts).sum()
    }

    fn of(counts: &Counts, lie: &BTreeMap<i32, States>) -> Self {
        let to = counts.inventory.partitions;
        let mut moves: BTreeMap<(i32, i32), u64> = BTreeMap::new();
        for (from, states) in lie {
            for key in states.keys().filter(|key| home(key, to) != *from) {
                *moves.entry((*from, home(key, to))).or_default() += 1;
            }
        }
        Self {
            partitions: (counts.commands, to),
            hosts: lie.values().map(|states| states.len() as u64).sum(),
            moves: moves.into_iter().map(|((from, to), hosts)| Move { from, to, hosts }).collect(),
            records: 0,
            transitions: 0,
        }
    }
}

impl Worker {
    /// What [`Worker::repartition`] would do as of now; changes nothing.
    pub(crate) async fn plan_repartition(&self) -> Result<Repartitioned, AlertsError> {
        let log = self.log.as_ref();
        let counts = topics::counts(log).await?;
        let mut plan = Repartitioned::of(&counts, &read_states(self, counts.states).await?);
        let failed = || AlertsError::stream("asking for positions");
        for topic in [INVENTORY_TOPIC, ALERTS_COMMANDS_TOPIC] {
            let ranges = log.offsets(topic).await.map_err(failed())?;
            let committed = log.committed(GROUP, topic).await.map_err(failed())?;
            let waiting = |(range, done): (&firn_stream::OffsetRange, &Option<i64>)| {
                (range.end - done.unwrap_or(range.start)).max(0).unsigned_abs()
            };
            plan.records += ranges.iter().zip(&committed).map(waiting).sum::<u64>();
        }
        Ok(plan)
    }

    /// See the module. `tell` hears what is going on.
    pub(crate) async fn repartition(
        &self,
        how: &Repartitioning,
        tell: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<Repartitioned, AlertsError> {
        let log = self.log.as_ref();
        let counts = topics::counts(log).await?;
        if !counts.are_equal() && !how.settle.is_zero() {
            let settle_s = how.settle.as_secs();
            tell(&format!("waiting {settle_s} s, until all who write know of the new partitions"));
            tokio::time::sleep(how.settle).await;
        }
        let all = (counts.inventory.clone(), counts.commands);
        let mut session = match alone(self, all, how.patience, PRODUCER).await {
            Ok(session) => session,
            Err(occupied @ AlertsError::Config(_)) => {
                let plan = self.plan_repartition().await?;
                if plan.moved() > 0 || !counts.are_equal() {
                    return Err(occupied);
                }
                tell(
                    "workers are at work, and every state lies where it belongs; if they stop again and again nevertheless, stop \
                     all of them, then run this again",
                );
                return Ok(Repartitioned { records: 0, ..plan });
            }
            Err(error) => return Err(error),
        };
        let done = self.carry_out(&counts, how, tell, &mut session).await;
        session.leave().await;
        done
    }

    async fn carry_out(
        &self,
        counts: &Counts,
        how: &Repartitioning,
        tell: &(dyn Fn(&str) + Send + Sync),
        session: &mut Session<'_>,
    ) -> Result<Repartitioned, AlertsError> {
        for topic in [COMPLIANCE_TOPIC, ALERTS_STATE_TOPIC] {
            topics::grow(self.log.as_ref(), topic, counts.inventory.partitions).await?;
        }
        let lie = read_states(self, counts.inventory.partitions).await?;
        let mut owners = Owners { partitions: counts.commands, lie: HashMap::new() };
        for (number, states) in lie {
            owners.learn(number, &states);
            session.engine.assign(number, states);
        }
        let (records, transitions) = self.catch_up(&owners, how, tell, session).await?;
        let mut done = self.move_states(counts, how, tell, session).await?;
        (done.records, done.transitions) = (records, transitions);
        topics::grow(self.log.as_ref(), ALERTS_COMMANDS_TOPIC, counts.inventory.partitions).await?;
        Ok(done)
    }

    /// Judges what waits; answers how much that was, and how many transitions it told.
    async fn catch_up(
        &self,
        owners: &Owners,
        how: &Repartitioning,
        tell: &(dyn Fn(&str) + Send + Sync),
        session: &mut Session<'_>,
    ) -> Result<(u64, u64), AlertsError> {
        let until_us = how.until_us.unwrap_or_else(|| Utc::now().timestamp_micros() - ON_ITS_WAY_US);
        let left = backlog::left(self.log.as_ref(), &session.positions).await?;
        let mut backlog = Backlog::open(self.log.as_ref(), left, until_us).await?;
        let (mut records, mut transitions, mut told_at) = (0, 0, Instant::now());
        loop {
            let (mut batch, mut read) = (Batch::default(), BTreeMap::new());
            let mut count = 0;
            while count < how.records_at_once
                && let Some((from, record)) = backlog.next().await?
            {
                let is_inventory = from.topic == INVENTORY_TOPIC;
                let to = if is_inventory { &mut batch.records } else { &mut batch.commands };
                read.insert(from, record.offset + 1);
                to.entry(owners.of(&record)).or_default().push(record);
                count += 1;
            }
            if count == 0 {
                return Ok((records, transitions));
            }
            session.complete(&mut batch).await?;
            transitions += session.step(batch, read).await? as u64;
            records += count as u64;
            still_alone(session).await?;
            if told_at.elapsed() >= TELL_EVERY {
                tell(&format!("{records} records that waited are judged"));
                told_at = Instant::now();
            }
        }
    }

    async fn move_states(
        &self,
        counts: &Counts,
        how: &Repartitioning,
        tell: &(dyn Fn(&str) + Send + Sync),
        session: &mut Session<'_>,
    ) -> Result<Repartitioned, AlertsError> {
        let to = counts.inventory.partitions;
        let (mut hosts, mut astray) = (0, Vec::new());
        for (from, key, state) in session.engine.states() {
            hosts += 1;
            if home(key, to) != from {
                astray.push((from, Arc::clone(key), state.clone()));
            }
        }
        // Positions go along unchanged: the log refuses the transaction of one who is no longer alone.
        let positions: Vec<(TopicPartition, i64)> =
            session.positions.iter().map(|(partition, position)| (partition.clone(), *position)).collect();
        let (mut moved, mut told_at) = (BTreeMap::new(), Instant::now());
        for part in astray.chunks(how.moves_at_once) {
            let records = part.iter().flat_map(|(from, key, state)| moving(*from, home(key, to), key, state));
            let commit =
                session.producer.commit(records.collect(), &positions, Some(session.consumer.as_ref()));
            commit.await.map_err(AlertsError::stream("moving states"))?;
            for (from, key, _) in part {
                *moved.entry((*from, home(key, to))).or_default() += 1;
            }
            still_alone(session).await?;
            if told_at.elapsed() >= TELL_EVERY {
                let done: u64 = moved.values().sum();
                tell(&format!("{done} of {} hosts moved", astray.len()));
                told_at = Instant::now();
            }
        }
        let moves = moved.into_iter().map(|((from, to), hosts)| Move { from, to, hosts }).collect();
        Ok(Repartitioned { partitions: (counts.commands, to), hosts, moves, records: 0, transitions: 0 })
    }
}

/// A state on its way: into one partition and out of another.
fn moving(from: i32, to: i32, key: &HostKey, state: &Packed) -> [firn_stream::ProduceRecord; 2] {
    [outputs::state(to, key, Some(state)), outputs::state(from, key, None)]
}

/// Whose partition a record is: that of its host's state, or before there is one that of the old count.
struct Owners {
    partitions: i32,
    /// Hosts that lie elsewhere than by the old count.
    lie: HashMap<Arc<HostKey>, i32>,
}

impl Owners {
    fn learn(&mut self, number: i32, states: &States) {
        let elsewhere = states.keys().filter(|key| home(key, self.partitions) != number);
        self.lie.extend(elsewhere.map(|key| (Arc::clone(key), number)));
    }

    fn of(&self, record: &Record) -> i32 {
        let key = record.key.as_deref().unwrap_or_default();
        let known = if self.lie.is_empty() { None } else { HostKey::parse(key) };
        let known = known.and_then(|key| self.lie.get(&key).copied());
        known.unwrap_or_else(|| partition_for_key(key, self.partitions))
    }
}

/// All states, by the partition that they lie in.
async fn read_states(worker: &Worker, partitions: i32) -> Result<BTreeMap<i32, States>, AlertsError> {
    let log = worker.log.as_ref();
    let read = (0..partitions)
        .map(|number| async move { Ok::<_, AlertsError>((number, states(log, number).await?)) });
    futures::stream::iter(read).buffer_unordered(RESTORES).try_collect().await
}
