//! What every backend must do. Run by each backend's own test with a fresh log.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use uuid::Uuid;

use crate::{
    Assigned, Consumer, Event, Log, ProduceRecord, Record, SubscribeOptions, TopicPartition, TopicSpec,
};

mod groups;
mod records;
mod topics;
mod transactions;

/// How long something that must happen may take, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the whole suite; panics with the claim that failed.
///
/// The names it uses are new each time, so the log may hold other things.
///
/// # Panics
/// If the log breaks its contract.
pub async fn conformance(log: Arc<dyn Log>) {
    let log = log.as_ref();
    topics::are_made_once_and_only_grow(log).await;
    topics::that_do_not_exist_are_named(log).await;
    records::come_back_as_they_went_in(log).await;
    records::of_one_key_share_a_partition_in_order(log).await;
    records::are_refused_one_by_one(log).await;
    records::appended_by_many_are_all_there_once(log).await;
    records::wake_a_waiting_reader(log).await;
    records::outside_of_the_log_are_truncated(log).await;
    records::of_many_bytes_come_in_bounded_reads(log).await;
    groups::continue_at_what_they_committed(log).await;
    groups::start_at_the_end_if_asked(log).await;
    groups::read_again_after_a_seek(log).await;
    groups::hold_back_paused_partitions(log).await;
    groups::share_partitions_and_fence_who_lost_one(log).await;
    groups::give_each_member_the_same_partitions_of_all_topics(log).await;
    groups::give_an_instance_its_partitions_back(log).await;
    transactions::move_records_and_positions_together(log).await;
    transactions::of_an_older_producer_are_fenced(log).await;
    transactions::that_fail_leave_nothing(log).await;
    transactions::of_a_member_that_lost_its_partition_are_fenced(log).await;
}

fn name(what: &str) -> String {
    format!("conformance-{what}-{}", Uuid::new_v4().simple())
}

async fn topic(log: &dyn Log, partitions: i32) -> String {
    let spec = TopicSpec { name: name("topic"), partitions, compacted: false, retention: None };
    log.ensure_topic(&spec).await.expect("a topic can be made").name
}

fn text(topic: &str, partition: i32, value: &str) -> ProduceRecord {
    ProduceRecord {
        topic: topic.to_owned(),
        key: None,
        partition: Some(partition),
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        headers: Vec::new(),
    }
}

fn at(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition { topic: topic.to_owned(), partition }
}

fn value(record: &Record) -> String {
    String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into_owned()
}

async fn append(log: &dyn Log, records: Vec<ProduceRecord>) -> Vec<i64> {
    let results = log.append(records).await;
    results.into_iter().map(|result| result.expect("a record can be appended").1).collect()
}

/// Everything a partition holds: reads on until a read comes back empty.
async fn all_of(log: &dyn Log, from: &TopicPartition) -> Vec<Record> {
    let mut records: Vec<Record> = Vec::new();
    let mut offset = 0;
    loop {
        let more = log.read(from, offset, 3, Duration::from_secs(2)).await.expect("a partition can be read");
        match more.last() {
            None => return records,
            Some(last) => offset = last.offset + 1,
        }
        records.extend(more);
    }
}

fn options(group: &str, topics: &[&str]) -> SubscribeOptions {
    SubscribeOptions {
        group: group.to_owned(),
        topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
        instance_id: None,
        from_beginning: true,
    }
}

/// A consumer, and what it was told so far.
struct Member {
    consumer: Box<dyn Consumer>,
    partitions: Vec<TopicPartition>,
    /// All that it was ever given.
    assigned: Vec<Assigned>,
    /// Values by partition, in the order they came.
    values: BTreeMap<TopicPartition, Vec<String>>,
    revocations: usize,
}

impl Member {
    async fn join(log: &dyn Log, options: SubscribeOptions) -> Self {
        let consumer = log.subscribe(options).await.expect("a group can be joined");
        Self {
            consumer,
            partitions: Vec::new(),
            assigned: Vec::new(),
            values: BTreeMap::new(),
            revocations: 0,
        }
    }

    /// Takes one event if there is one.
    async fn step(&mut self, wait: Duration) {
        match self.consumer.poll(100, wait).await.expect("a group can be polled") {
            None => {}
            Some(Event::Assigned(assigned)) => {
                self.partitions.extend(assigned.iter().map(|assigned| assigned.partition.clone()));
                self.assigned.extend(assigned);
            }
            Some(Event::Revoked(partitions)) => {
                self.revocations += 1;
                self.partitions.retain(|partition| !partitions.contains(partition));
            }
            Some(Event::Records(partition, records)) => {
                assert!(self.partitions.contains(&partition), "records of {partition:?}, which is not ours");
                assert!(records.iter().all(|record| record.partition == partition.partition));
                let offsets: Vec<i64> = records.iter().map(|record| record.offset).collect();
                assert!(offsets.is_sorted(), "{partition:?}: out of order: {offsets:?}");
                self.values.entry(partition).or_default().extend(records.iter().map(value));
            }
        }
        self.partitions.sort();
    }

    /// Polls until the claim holds.
    async fn until(&mut self, claim: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(Instant::now() < deadline, "not within a minute: {claim}; has {:?}", self.values);
            self.step(Duration::from_millis(200)).await;
        }
    }

    fn values_of(&self, partition: &TopicPartition) -> Vec<&str> {
        self.values
            .get(partition)
            .map(|values| values.iter().map(String::as_str).collect())
            .unwrap_or_default()
    }

    fn count(&self) -> usize {
        self.values.values().map(Vec::len).sum()
    }
}

/// Polls both in turn until the claim holds.
async fn both_until(
    one: &mut Member,
    two: &mut Member,
    claim: &str,
    holds: impl Fn(&Member, &Member) -> bool,
) {
    let deadline = Instant::now() + PATIENCE;
    while !holds(one, two) {
        assert!(Instant::now() < deadline, "not within a minute: {claim}");
        one.step(Duration::from_millis(50)).await;
        two.step(Duration::from_millis(50)).await;
    }
}
