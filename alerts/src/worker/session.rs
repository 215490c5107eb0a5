//! One membership in the group: from joining to leaving, or to the first error.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::Utc;
use firn_inventory::tables::INVENTORY_TOPIC;
use firn_runtime::StageState;
use firn_stream::{
    Assigned, Consumer, Event, Record, Topic, TopicPartition, TransactionalProducer, partition_for_key,
};
use futures::StreamExt as _;

use super::{GROUP, STAGE, Worker, outputs::outputs, restore::restore, reviews::Reviews, topics};
use crate::{
    AlertsError,
    engine::{Batch, Engine, Step},
    host::HostKey,
    rules::{ErasureLists, RuleBook, TenantRules},
};

/// Records of one transaction, at the most.
const MAX_RECORDS: usize = 5_000;
/// How long records are gathered for one transaction.
const GATHER: Duration = Duration::from_millis(100);
/// How long to wait for a first record before looking after timers, rules and shutdown.
const IDLE: Duration = Duration::from_millis(250);
/// Partitions whose states are read back at once.
const RESTORES: usize = 8;
/// How often the topic's ends are asked for: lag, and whether a partition is read to its end.
const LOOK_AT_ENDS: Duration = Duration::from_secs(1);
/// A partition's time follows the wall clock this far behind, so that a record on its way is not overtaken by it.
const CLOCK_SLACK_US: i64 = 2_000_000;

/// See the module.
pub(super) struct Session<'a> {
    worker: &'a Worker,
    pub(super) consumer: Box<dyn Consumer>,
    pub(super) producer: Box<dyn TransactionalProducer>,
    pub(super) engine: Engine,
    /// The topic `inventory`, as it was when we joined.
    topic: Topic,
    /// Next offset to be read of each partition that is ours.
    pub(super) positions: BTreeMap<TopicPartition, i64>,
    /// End of each inventory partition, and the wall clock when that was asked for.
    ends: Vec<i64>,
    ends_at_us: i64,
    looked_at_ends: Option<Instant>,
    reviews: Reviews,
    /// The erasure lists that all hosts were looked through for.
    swept: Option<Arc<ErasureLists>>,
}

impl<'a> Session<'a> {
    /// Joins the group; an older worker of the same instance is fenced off.
    pub(super) async fn join(worker: &'a Worker) -> Result<Session<'a>, AlertsError> {
        let log = worker.log.as_ref();
        let topic = topics::ensure(log, worker.config.partitions).await?;
        let id = format!("{GROUP}-{}", worker.config.instance);
        let producer = log
            .transactional(&id)
            .await
            .map_err(AlertsError::stream("opening the transactional producer"))?;
        let options = super::membership(Some(id));
        let consumer = log.subscribe(options).await.map_err(AlertsError::stream("joining the group"))?;
        Ok(Self::of(worker, topic, consumer, producer))
    }

    /// A membership that owns nothing yet.
    pub(super) fn of(
        worker: &'a Worker,
        topic: Topic,
        consumer: Box<dyn Consumer>,
        producer: Box<dyn TransactionalProducer>,
    ) -> Self {
        Self {
            worker,
            consumer,
            producer,
            engine: Engine::new(worker.config.retire_after.map(micros)),
            topic,
            positions: BTreeMap::new(),
            ends: Vec::new(),
            ends_at_us: i64::MIN,
            looked_at_ends: None,
            reviews: Reviews::default(),
            swept: None,
        }
    }

    /// Gathers, decides, commits: one transaction, or none if there is nothing to do.
    pub(super) async fn turn(&mut self) -> Result<(), AlertsError> {
        let mut batch = Batch::default();
        let read = self.gather(&mut batch).await?;
        self.look_at_ends(&read).await?;
        self.complete(&mut batch).await?;
        batch.clock_us = self.clock(&read);
        let engine = &self.engine;
        batch.devices = self.reviews.next(&self.worker.book, |tenant| engine.hosts(tenant));
        let has_work = batch.sweeps_erased || self.engine.has_work(&batch);
        if batch.devices.is_some() || !read.is_empty() || has_work {
            self.step(batch, read).await?;
        }
        Ok(())
    }

    /// Adds who was erased, and the rules of all tenants that are in it.
    pub(super) async fn complete(&mut self, batch: &mut Batch) -> Result<(), AlertsError> {
        batch.topic_id.clone_from(&self.topic.id);
        batch.erased = self.worker.book.erased();
        batch.leave_out_erased();
        let is_swept = self.swept.as_ref().is_some_and(|swept| Arc::ptr_eq(swept, &batch.erased));
        batch.sweeps_erased = !is_swept && !batch.erased.is_empty();
        batch.rules = rules(&self.worker.book, self.tenants(batch)).await?;
        Ok(())
    }

    /// Leaves the group; the findings of its partitions are another's to show.
    pub(super) async fn leave(self) {
        let mut partitions: Vec<i32> = self.positions.keys().map(|partition| partition.partition).collect();
        partitions.dedup();
        for partition in partitions {
            self.worker.index.revoke(partition);
        }
        self.consumer.close().await;
    }

    /// Reads until there is enough for a transaction; answers the next offset of each partition read.
    async fn gather(&mut self, batch: &mut Batch) -> Result<BTreeMap<TopicPartition, i64>, AlertsError> {
        let mut read = BTreeMap::new();
        let (mut count, mut deadline) = (0, Instant::now() + IDLE);
        while count < MAX_RECORDS {
            let wait = deadline.saturating_duration_since(Instant::now());
            let event = self
                .consumer
                .poll(MAX_RECORDS - count, wait)
                .await
                .map_err(AlertsError::stream("reading"))?;
            match event {
                None => break,
                Some(Event::Assigned(assigned)) => self.assigned(assigned).await?,
                Some(Event::Revoked(partitions)) => {
                    for partition in &partitions {
                        read.remove(partition);
                        self.drop_partition(partition, batch);
                    }
                }
                Some(Event::Records(partition, records)) => {
                    let Some(last) = records.last() else { continue };
                    if count == 0 {
                        deadline = Instant::now() + GATHER;
                    }
                    self.check_places(&partition, &records)?;
                    count += records.len();
                    read.insert(partition.clone(), last.offset + 1);
                    let to = if partition.topic == INVENTORY_TOPIC {
                        &mut batch.records
                    } else {
                        &mut batch.commands
                    };
                    to.entry(partition.partition).or_insert_with(Vec::<Record>::new).extend(records);
                }
            }
            // Events other than records leave the wait as it was; a zero wait still drains what lies ready.
            if Instant::now() >= deadline {
                break;
            }
        }
        Ok(read)
    }

    /// Restores the partitions' states before any record of them is read.
    async fn assigned(&mut self, assigned: Vec<Assigned>) -> Result<(), AlertsError> {
        let log = self.worker.log.as_ref();
        topics::check_assigned(&assigned)?;
        let ours = assigned.iter().map(|assigned| &assigned.partition);
        let ours = ours.filter(|partition| partition.topic == INVENTORY_TOPIC);
        let numbers: Vec<i32> = ours.map(|partition| partition.partition).collect();
        let count = self.topic.partitions;
        // The end of each is waited for a while: beside each other, that is waited for once.
        let restored =
            numbers.into_iter().map(|number| async move { (number, restore(log, number, count).await) });
        let mut restored = futures::stream::iter(restored).buffer_unordered(RESTORES);
        while let Some((number, hosts)) = restored.next().await {
            let hosts = hosts?;
            self.worker.index.update(number, hosts.iter());
            self.engine.assign(number, hosts);
            self.swept = None;
        }
        self.positions.extend(assigned.into_iter().map(|assigned| (assigned.partition, assigned.offset)));
        Ok(())
    }

    /// A record that lies elsewhere than its key says is of a host that is known elsewhere.
    fn check_places(&self, from: &TopicPartition, records: &[Record]) -> Result<(), AlertsError> {
        let is_astray = |record: &&Record| {
            let is_elsewhere = |key: &[u8]| partition_for_key(key, self.topic.partitions) != record.partition;
            record.key.as_deref().is_some_and(|key| is_elsewhere(key) && HostKey::parse(key).is_some())
        };
        match records.iter().find(is_astray).filter(|_| from.topic == INVENTORY_TOPIC) {
            Some(record) => Err(topics::astray(record.partition, record.offset)),
            None => Ok(()),
        }
    }

    fn drop_partition(&mut self, partition: &TopicPartition, batch: &mut Batch) {
        self.positions.remove(partition);
        if partition.topic == INVENTORY_TOPIC {
            self.engine.revoke(partition.partition);
            self.worker.index.revoke(partition.partition);
            batch.records.remove(&partition.partition);
        } else {
            batch.commands.remove(&partition.partition);
        }
    }

    /// All tenants that the step may touch.
    fn tenants(&self, batch: &Batch) -> BTreeSet<String> {
        let mut tenants = self.engine.tenants();
        // One key of each tenant is looked at: what stands before the slash names it.
        let keys = batch.records.values().flatten().filter_map(|record| record.key.as_deref());
        let prefix = |key: &[u8]| key.split(|byte| *byte == b'/').next().unwrap_or_default().to_vec();
        let mut last = Vec::new();
        for key in keys {
            if !key.strip_prefix(last.as_slice()).is_some_and(|rest| rest.starts_with(b"/"))
                && let Some(parsed) = HostKey::parse(key)
            {
                last = prefix(key);
                tenants.insert(parsed.tenant);
            }
        }
        tenants
    }

    async fn look_at_ends(&mut self, read: &BTreeMap<TopicPartition, i64>) -> Result<(), AlertsError> {
        if self.looked_at_ends.is_some_and(|at| at.elapsed() < LOOK_AT_ENDS) {
            return Ok(());
        }
        let asked_at_us = Utc::now().timestamp_micros();
        let ranges = self
            .worker
            .log
            .offsets(INVENTORY_TOPIC)
            .await
            .map_err(AlertsError::stream("reading the ends"))?;
        self.ends = ranges.iter().map(|range| range.end).collect();
        self.ends_at_us = asked_at_us;
        self.looked_at_ends = Some(Instant::now());
        self.report(read);
        Ok(())
    }

    fn inventory(&self, read: &BTreeMap<TopicPartition, i64>) -> impl Iterator<Item = (i32, i64, i64)> {
        let positions = self.positions.iter().filter(|(partition, _)| partition.topic == INVENTORY_TOPIC);
        positions.map(|(partition, position)| {
            let next = read.get(partition).copied().unwrap_or(*position);
            let end = usize::try_from(partition.partition).ok().and_then(|at| self.ends.get(at)).copied();
            (partition.partition, next, end.unwrap_or(i64::MAX))
        })
    }

    /// The time of partitions that are read to their end.
    fn clock(&self, read: &BTreeMap<TopicPartition, i64>) -> BTreeMap<i32, i64> {
        let time_us = self.ends_at_us.saturating_sub(CLOCK_SLACK_US);
        self.inventory(read)
            .filter(|(_, next, end)| next >= end)
            .map(|(number, ..)| (number, time_us))
            .collect()
    }

    /// Decides and commits; answers how many transitions were told.
    pub(super) async fn step(
        &mut self,
        batch: Batch,
        read: BTreeMap<TopicPartition, i64>,
    ) -> Result<usize, AlertsError> {
        let engine = std::mem::take(&mut self.engine);
        let decide = move || {
            let step = engine.process(&batch);
            let records = outputs(&step);
            (engine, batch, step, records)
        };
        let decided = tokio::task::spawn_blocking(decide).await;
        let (engine, batch, step, records) =
            decided.map_err(|error| AlertsError::Crashed(error.to_string()))?;
        self.engine = engine;
        // Positions of all partitions written to, also of those not read: a worker that lost one must fail here.
        let offsets: Vec<(TopicPartition, i64)> = self
            .positions
            .iter()
            .filter(|(partition, _)| {
                read.contains_key(partition) || step.partitions.contains_key(&partition.partition)
            })
            .map(|(partition, position)| {
                (partition.clone(), read.get(partition).copied().unwrap_or(*position))
            })
            .collect();
        let commit = self.producer.commit(records, &offsets, Some(self.consumer.as_ref()));
        commit.await.map_err(AlertsError::stream("committing states, transitions and positions"))?;
        self.positions.extend(offsets);
        self.engine.accept(&step, &batch.rules);
        self.reviews.count(step.reviewed);
        let adopted: BTreeSet<&String> =
            step.partitions.values().flat_map(|part| part.adopted.keys()).collect();
        adopted.into_iter().for_each(|tenant| self.reviews.want(tenant));
        for (number, part) in &step.partitions {
            let changed = part.changed.iter().map(|(key, changed)| (key, &changed.state));
            self.worker.index.update(*number, changed);
            self.worker.index.forget(part.removed.iter());
        }
        if batch.sweeps_erased {
            self.swept = Some(batch.erased);
        }
        self.count(&step);
        Ok(step.partitions.values().map(|part| part.transitions.len()).sum())
    }

    fn count(&self, step: &Step) {
        for (tenant, counts) in &step.counts {
            metrics::counter!("firn_alerts_records_total", "tenant" => tenant.clone())
                .increment(counts.records);
            metrics::counter!("firn_alerts_late_samples_total", "tenant" => tenant.clone())
                .increment(counts.late);
            metrics::counter!("firn_alerts_transitions_total", "tenant" => tenant.clone())
                .increment(counts.transitions);
        }
        metrics::counter!("firn_alerts_unreadable_records_total").increment(step.unreadable);
        for ((tenant, rule), error) in &step.rule_errors {
            tracing::warn!(tenant, rule, error, "rule failed on a record; the verdict is 'no result'");
        }
        let live = self.worker.index.live();
        for (tenant, counts) in &step.counts {
            let open = live.get(tenant).copied().unwrap_or_default();
            self.worker.board.update(STAGE, tenant, |status| {
                if status.state == StageState::Starting {
                    status.state = StageState::Running;
                }
                status.fresh_until_ms = status.fresh_until_ms.max(Some(counts.received_at_us / 1_000));
                // Totals of the process: they outlive a session that ended for want of the log.
                let mut add = |name: &str, by: u64| *status.totals.entry(name.to_owned()).or_default() += by;
                add("records", counts.records);
                add("records_dropped", counts.dropped);
                add("samples_late", counts.late);
                add("transitions", counts.transitions);
                status.totals.insert("findings_open".to_owned(), open);
            });
        }
    }

    /// Lag is per partition and partitions hold all tenants: each tenant shows the whole lag, an upper bound of its own.
    fn report(&self, read: &BTreeMap<TopicPartition, i64>) {
        let behind = self
            .inventory(read)
            .filter(|(.., end)| *end != i64::MAX)
            .map(|(_, next, end)| (end - next).max(0));
        let lag: u64 = behind.sum::<i64>().unsigned_abs();
        metrics::gauge!("firn_alerts_lag_records").set(lag as f64);
        self.worker.board.update(STAGE, "*", |status| {
            status.state = StageState::Running;
            status.message = format!("{} partitions", self.ends.len());
            status.lag_records = Some(lag);
        });
        let live = self.worker.index.live();
        for tenant in self.engine.tenants() {
            let open = live.get(&tenant).copied().unwrap_or_default();
            self.worker.board.update(STAGE, &tenant, |status| {
                status.lag_records = Some(lag);
                status.totals.insert("findings_open".to_owned(), open);
            });
        }
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Rules of tenants. One that can't be asked about is an error: to guess that it has no rules would lose its records.
async fn rules(
    book: &RuleBook,
    tenants: BTreeSet<String>,
) -> Result<HashMap<String, Arc<TenantRules>>, AlertsError> {
    let mut rules = HashMap::new();
    for tenant in tenants {
        if let Some(known) = book.of(&tenant).await? {
            rules.insert(tenant, known);
        }
    }
    Ok(rules)
}
