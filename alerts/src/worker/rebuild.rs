//! After states were lost, or are doubted: makes them anew from the ledger.
//!
//! The ledger says which findings people were told of: rows of `gold.transitions`, and what lies in the topic `compliance`, which
//! is written together with states. What it does not say follows from the records, which are replayed up to where they were
//! judged: what lies within its grace, windows, when a host was heard of last. A host whose state says of findings what the
//! ledger says, and is as new as its records, is left as it is.
//!
//! Invariant: the workers go on from there, and over the whole run the transitions are those of a run that lost nothing, none missing
//! and none doubled, whenever states were lost: a replay decides nothing that a worker had not decided (see [`records`]).
//!
//! States are written by transactions, each of some hosts. Whatever ends this in its midst, the next run finds what differs
//! still and does what is left.

mod ledger;
mod records;
mod remake;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use firn_inventory::tables::{ALERTS_COMMANDS_TOPIC, ALERTS_STATE_TOPIC, INVENTORY_TOPIC};
use firn_stream::{OffsetRange, Topic, TopicPartition};
use futures::{StreamExt as _, TryStreamExt as _};

use super::{
    GROUP, Worker,
    alone::{alone, still_alone},
    outputs, restore,
    session::Session,
    topics::{self, home},
};
use crate::{
    AlertsError,
    engine::is_erased,
    host::{HostKey, HostState},
    packed::Packed,
};
use ledger::Ledger;

/// Its name as a producer: a killed run's open transaction is ended by the next one.
const PRODUCER: &str = "firn-alerts-rebuild";
/// Partitions whose states are read at once.
const RESTORES: usize = 8;
/// Differences that are shown; all are counted.
const SHOWN: usize = 1_000;
/// How often the group is asked whether it has others, while states are compared.
const POLL_EVERY: Duration = Duration::from_secs(2);
/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// How to do it.
#[derive(Clone, Debug)]
pub(crate) struct Rebuilding {
    /// How long to wait until all partitions are ours. Above the session of a worker that was killed.
    pub(crate) patience: Duration,
    /// States written by one transaction.
    pub(crate) hosts_at_once: usize,
}

impl Default for Rebuilding {
    fn default() -> Self {
        Self { patience: Duration::from_secs(60), hosts_at_once: 2_000 }
    }
}

/// Where a state says something else than the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Tenant.
    pub tenant: String,
    /// Host.
    pub host_id: String,
    /// Rule; none if all of the host's state is meant.
    pub rule_id: Option<String>,
    /// What the state says.
    pub state: String,
    /// What the ledger says.
    pub ledger: String,
}

/// What was made anew, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Hosts that states, ledger or records know.
    pub hosts: u64,
    /// Findings in the ledger.
    pub findings: u64,
    /// Hosts whose state was not there, or could not be read.
    pub lost: u64,
    /// Hosts whose state said something else than the ledger, or was older than their records.
    pub wrong: u64,
    /// Findings of which two transitions have the same version: they were told by a worker that had lost its state.
    pub doubled: u64,
    /// Where states differed, the first thousand.
    pub differences: Vec<Difference>,
    /// Whether workers wrote states while this was looked at: what differs may be what they wrote.
    pub busy: bool,
}

/// What is to be written, and the report.
struct Comparison {
    remade: Vec<(Arc<HostKey>, Option<HostState>)>,
    report: Rebuilt,
}

impl Worker {
    /// What [`Worker::rebuild`] would do as of now; changes nothing.
    pub(crate) async fn plan_rebuild(
        &self,
        tell: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<Rebuilt, AlertsError> {
        let inventory = topics::inventory(self.log.as_ref()).await?;
        let before = self.state_ends().await?;
        let Comparison { mut report, .. } = self.compare(&inventory, tell).await?;
        report.busy = before != self.state_ends().await?;
        Ok(report)
    }

    /// See the module. `tell` hears what is going on.
    pub(crate) async fn rebuild(
        &self,
        how: &Rebuilding,
        tell: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<Rebuilt, AlertsError> {
        topics::inventory(self.log.as_ref()).await?;
        let inventory = topics::make(self.log.as_ref(), self.config.partitions).await?;
        let all = (inventory.clone(), inventory.partitions);
        let mut session = alone(self, all, how.patience, PRODUCER).await?;
        let done = async {
            let Comparison { remade, report } = self.compare_alone(&mut session, &inventory, tell).await?;
            write(&remade, inventory.partitions, how, tell, &mut session).await?;
            Ok(report)
        };
        let done = done.await;
        session.leave().await;
        done
    }

    /// Compares, which may take longer than a group waits for a member to poll.
    async fn compare_alone(
        &self,
        session: &mut Session<'_>,
        inventory: &Topic,
        tell: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<Comparison, AlertsError> {
        let mut compared = std::pin::pin!(self.compare(inventory, tell));
        loop {
            tokio::select! {
                compared = &mut compared => return compared,
                () = tokio::time::sleep(POLL_EVERY) => still_alone(session).await?,
            }
        }
    }

    async fn state_ends(&self) -> Result<Vec<i64>, AlertsError> {
        if !self.has(ALERTS_STATE_TOPIC).await? {
            return Ok(Vec::new());
        }
        let ranges = self.log.offsets(ALERTS_STATE_TOPIC).await;
        let ranges = ranges.map_err(AlertsError::stream("reading the ends"))?;
        Ok(ranges.iter().map(|range| range.end).collect())
    }

    async fn has(&self, topic: &str) -> Result<bool, AlertsError> {
        let topic = self.log.topic(topic).await;
        Ok(topic.map_err(AlertsError::stream("asking for the topics of alerts"))?.is_some())
    }

    async fn compare(
        &self,
        inventory: &Topic,
        tell: &(dyn Fn(&str) + Send + Sync),
    ) -> Result<Comparison, AlertsError> {
        self.book.learn_erased().await?;
        let tenants = self.book.tenants().await?.into_iter().collect();
        let (known, broken) = self.states(inventory.partitions).await?;
        tell(&format!("{} states are read; reading the ledger", known.len()));
        let judged = self.judged(INVENTORY_TOPIC).await?;
        let ledger = self.ledger(&tenants).await?;
        tell(&format!("{} findings were told; replaying the records", ledger.findings()));
        let replayed = records::replay(self, &tenants, inventory, &judged, &ledger).await?;
        let erased = self.book.erased();
        let counts =
            |key: &HostKey| tenants.contains(&key.tenant) && !is_erased(&erased, &key.tenant, &key.host_id);
        Ok(compare(counts, &known, &broken, &ledger, &replayed))
    }

    async fn states(&self, partitions: i32) -> Result<(restore::States, BTreeSet<HostKey>), AlertsError> {
        let (mut known, mut unreadable) = (HashMap::new(), BTreeSet::new());
        if !self.has(ALERTS_STATE_TOPIC).await? {
            return Ok((known, unreadable));
        }
        let log = self.log.as_ref();
        let read = (0..partitions)
            .map(|number| async move { Ok::<_, AlertsError>((number, restore::read(log, number).await?)) });
        let mut read = futures::stream::iter(read).buffer_unordered(RESTORES);
        while let Some((number, restore::Read { hosts, broken })) = read.try_next().await? {
            restore::check_places(&hosts, number, partitions)?;
            known.extend(hosts);
            unreadable.extend(broken.into_keys());
        }
        Ok((known, unreadable))
    }

    /// What lies before the group's positions.
    async fn judged(&self, topic: &str) -> Result<BTreeMap<TopicPartition, OffsetRange>, AlertsError> {
        if !self.has(topic).await? {
            return Ok(BTreeMap::new());
        }
        let failed = || AlertsError::stream("asking for positions");
        let ranges = self.log.offsets(topic).await.map_err(failed())?;
        let committed = self.log.committed(GROUP, topic).await.map_err(failed())?;
        let judged = ranges.iter().zip(&committed).zip(0..).map(|((range, committed), partition)| {
            let end = committed.unwrap_or(range.start).min(range.end);
            let range = OffsetRange { start: range.start.min(end), end };
            (TopicPartition { topic: topic.to_owned(), partition }, range)
        });
        Ok(judged.collect())
    }

    async fn ledger(&self, tenants: &BTreeSet<String>) -> Result<Ledger, AlertsError> {
        let mut ledger = Ledger::default();
        for tenant in tenants {
            ledger.read_kept(&self.book, tenant).await?;
        }
        let whole = self.whole(firn_inventory::tables::COMPLIANCE_TOPIC).await?;
        ledger.read_topic(self.log.as_ref(), whole, tenants).await?;
        ledger.read_commands(self.log.as_ref(), self.judged(ALERTS_COMMANDS_TOPIC).await?).await?;
        ledger.forget_erased(&self.book.erased());
        Ok(ledger)
    }

    async fn whole(&self, topic: &str) -> Result<BTreeMap<TopicPartition, OffsetRange>, AlertsError> {
        if !self.has(topic).await? {
            return Ok(BTreeMap::new());
        }
        let ranges = self.log.offsets(topic).await.map_err(AlertsError::stream("reading the ends"))?;
        let place = |partition| TopicPartition { topic: topic.to_owned(), partition };
        Ok(ranges.into_iter().zip(0..).map(|(range, partition)| (place(partition), range)).collect())
    }
}

/// Which states are to be others. Hosts of tenants that nobody knows stay as they are, and those that are erased are the workers' to
/// forget.
fn compare(
    counts: impl Fn(&HostKey) -> bool,
    known: &restore::States,
    broken: &BTreeSet<HostKey>,
    ledger: &Ledger,
    replayed: &restore::States,
) -> Comparison {
    let keys = known.keys().chain(replayed.keys()).map(AsRef::as_ref);
    let keys = keys.chain(ledger.keys()).filter(|key| counts(key));
    // No worker begins as long as there is one that can't be read, whosever it is.
    let keys: BTreeSet<&HostKey> = keys.chain(broken).collect();
    let mut report = Rebuilt {
        hosts: keys.len() as u64,
        findings: ledger.findings(),
        doubled: ledger.doubled(),
        ..Rebuilt::default()
    };
    let mut remade = Vec::new();
    for key in keys {
        let known = known.get(key).map(Packed::state);
        let replayed = replayed.get(key).map(Packed::state);
        let told = ledger.of(key);
        let differences = remake::differences(known.as_ref(), replayed.as_ref(), told);
        if differences.is_empty() {
            continue;
        }
        *(if known.is_some() { &mut report.wrong } else { &mut report.lost }) += 1;
        let room = SHOWN.saturating_sub(report.differences.len());
        let show = |(rule_id, state, ledger)| {
            let (tenant, host_id) = (key.tenant.clone(), key.host_id.clone());
            Difference { tenant, host_id, rule_id, state, ledger }
        };
        report.differences.extend(differences.into_iter().take(room).map(show));
        let state = remake::remake(known, replayed, told, ledger.retired_us(key));
        remade.push((Arc::new(key.clone()), state));
    }
    Comparison { remade, report }
}

/// Positions go along unchanged: the log refuses the transaction of one who is no longer alone.
async fn write(
    remade: &[(Arc<HostKey>, Option<HostState>)],
    partitions: i32,
    how: &Rebuilding,
    tell: &(dyn Fn(&str) + Send + Sync),
    session: &mut Session<'_>,
) -> Result<(), AlertsError> {
    let positions: Vec<(TopicPartition, i64)> =
        session.positions.iter().map(|(partition, position)| (partition.clone(), *position)).collect();
    let (mut written, mut told_at) = (0, Instant::now());
    for part in remade.chunks(how.hosts_at_once) {
        let record = |(key, state): &(Arc<HostKey>, Option<HostState>)| {
            outputs::state(home(key, partitions), key, state.as_ref().map(Packed::of).as_ref())
        };
        let records = part.iter().map(record).collect();
        let commit = session.producer.commit(records, &positions, Some(session.consumer.as_ref()));
        commit.await.map_err(AlertsError::stream("writing states"))?;
        written += part.len();
        still_alone(session).await?;
        if told_at.elapsed() >= TELL_EVERY {
            tell(&format!("{written} of {} states written", remade.len()));
            told_at = Instant::now();
        }
    }
    Ok(())
}
