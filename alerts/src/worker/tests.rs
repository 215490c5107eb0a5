//! The worker over the embedded log: restarts, crashes and failing transactions against a replay of the same records.

#![allow(clippy::unwrap_used)]

mod faults;
mod rebuild;
mod repartition;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use chrono::Utc;
use firn_catalog_client::{CatalogClient, StaticToken};
use firn_inventory::{
    BronzeBuilder, LogPosition, bronze_schema, decode, record_key,
    tables::{COMPLIANCE_TOPIC, INVENTORY_TOPIC, RECEIVED_AT_HEADER, TENANT_HEADER},
};
use firn_policy::{
    Observation, Policy, Standing, Told, Transition, TransitionRecord, compile, finding_id, parse, shipped,
};
use firn_stream::{
    Contents, EmbeddedConfig, EmbeddedLog, KafkaConfig, KafkaLog, ProduceRecord, Record, TopicPartition,
    TopicSpec, partition_for_key,
};
use firn_table::{FileIo, StorageConfig};
use firn_tests::Kafka;
use serde_json::json;

use super::*;
use crate::index::Filter;
use faults::{Fault, FaultyLog};

const PARTITIONS: i32 = 2;
const PATIENCE: Duration = Duration::from_secs(60);

/// The shipped rules, and one over windows, one about silence and one with a limit on flapping that see something within hours.
fn policies() -> Vec<Policy> {
    let more = [
        "id='busy'\ntitle='B'\nseverity='low'\nrule='avg(cpu_usage) <= 5000'\n[window]\nsize_s=3600\nslide_s=1800\nin_a_row=2",
        "id='mute'\ntitle='M'\nseverity='low'\nabsence_s=3600",
        "id='torn'\ntitle='T'\nseverity='low'\nrule='disk_free_bytes < 100'\n[flapping]\nopenings=2\nwithin_s=14400",
    ];
    shipped().into_iter().chain(more.map(|text| parse(text, "test.toml").unwrap())).collect()
}

struct Lab {
    log: Arc<dyn Log>,
    /// Receipt time of the first record: in the future, so that the wall clock opens nothing. A midnight, so that windows begin
    /// between the same records whenever this runs.
    base_us: i64,
    place: Place,
}

/// Where the log is.
enum Place {
    Embedded(tempfile::TempDir),
    Kafka(KafkaConfig),
}

impl Lab {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = EmbeddedLog::open(EmbeddedConfig::new(folder.path().join("log.db"))).unwrap();
        Self::over(log, Place::Embedded(folder)).await
    }

    async fn on_kafka(kafka: &Kafka) -> Self {
        let config = KafkaConfig { replication: 1, ..KafkaConfig::new(kafka.bootstrap_servers()) };
        Self::over(KafkaLog::connect(config.clone()).await.unwrap(), Place::Kafka(config)).await
    }

    async fn over(log: Arc<dyn Log>, place: Place) -> Self {
        let day_us = 86_400_000_000;
        let base_us = Utc::now().timestamp_micros() / day_us * day_us + 2 * day_us;
        let lab = Self { log, base_us, place };
        lab.grow(INVENTORY_TOPIC, PARTITIONS).await;
        lab
    }

    /// As where a process ends and another begins: an embedded log's groups end with it, Kafka's clients know of topics anew.
    async fn end_process(&mut self) {
        let folder = match &self.place {
            Place::Kafka(config) => {
                self.log = KafkaLog::connect(config.clone()).await.unwrap();
                return;
            }
            Place::Embedded(folder) => folder,
        };
        let open = |name: &str| EmbeddedLog::open(EmbeddedConfig::new(folder.path().join(name)));
        self.log = open("none.db").unwrap();
        let closed = async {
            loop {
                match open("log.db") {
                    Ok(log) => return log,
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        self.log = tokio::time::timeout(PATIENCE, closed).await.expect("the log is closed");
    }

    /// Makes a topic of so many partitions, or adds what is missing.
    async fn grow(&self, topic: &str, partitions: i32) {
        let spec = TopicSpec { name: topic.to_owned(), partitions, compacted: false, retention: None };
        self.log.ensure_topic(&spec).await.unwrap();
    }

    fn worker(&self, log: Arc<dyn Log>) -> Worker {
        let tokens = Arc::new(StaticToken("none".to_owned()));
        // Port 1 answers nobody: rules come from the book alone.
        let catalog = CatalogClient::new("http://127.0.0.1:1", tokens).unwrap();
        Self::worker_over(log, catalog)
    }

    fn worker_over(log: Arc<dyn Log>, catalog: CatalogClient) -> Worker {
        let book = RuleBook::new(catalog, FileIo::new(StorageConfig::default()));
        for tenant in ["acme", "zeta"] {
            book.put(tenant, policies().into_iter().map(Ok).collect(), "commit-1", None);
        }
        Worker {
            log,
            book: Arc::new(book),
            index: FindingsIndex::default(),
            board: StatusBoard::default(),
            config: AlertsConfig { partitions: PARTITIONS, ..AlertsConfig::default() },
        }
    }

    /// Hosts that break and mend rules, by a generator that knows its seed; `count` records from `first` on.
    async fn upload(&self, first: i64, count: i64) {
        self.upload_by(first, count, None).await;
    }

    /// The same by one who knows of so many partitions.
    async fn upload_by(&self, first: i64, count: i64, partitions: Option<i32>) {
        let records = (first..first + count).map(|number| {
            let dice = |sides: i64, salt: i64| (number.wrapping_mul(2_654_435_761) >> salt).rem_euclid(sides);
            let (tenant, host) = (["acme", "zeta"][(dice(2, 7)) as usize], format!("host-{}", dice(9, 11)));
            let inventory = json!({
                "host_id": host, "hostname": host, "os_type": "windows",
                "disk_encrypted": dice(3, 13) > 0, "firewall_enabled": dice(4, 15) > 0,
                "cpu_usage": dice(10_000, 21), "disk_total_bytes": 1000, "disk_free_bytes": 50 + dice(100, 17),
                "local_admins": vec!["admin"; dice(6, 19) as usize],
            });
            let key = record_key(tenant, &host);
            ProduceRecord {
                topic: INVENTORY_TOPIC.to_owned(),
                partition: partitions.map(|partitions| partition_for_key(key.as_bytes(), partitions)),
                key: Some(key.into()),
                value: Some(inventory.to_string().into()),
                headers: vec![
                    (TENANT_HEADER.to_owned(), tenant.into()),
                    // 97 seconds apart: an hour of grace ends after some dozen records.
                    (RECEIVED_AT_HEADER.to_owned(), (self.base_us + number * 97_000_000).to_string().into()),
                ],
            }
        });
        for result in self.log.append(records.collect()).await {
            result.unwrap();
        }
    }

    async fn read_all(&self, topic: &str) -> BTreeMap<i32, Vec<Record>> {
        let Some(known) = self.log.topic(topic).await.unwrap() else { return BTreeMap::new() };
        let ranges = self.log.offsets(topic).await.unwrap();
        let read = (0..known.partitions).zip(ranges).map(async |(partition, range)| {
            let from = TopicPartition { topic: topic.to_owned(), partition };
            let (mut contents, mut records) = (Contents::new(self.log.as_ref(), from, range), Vec::new());
            while let Some(more) = contents.next().await.unwrap() {
                records.extend(more);
            }
            (partition, records)
        });
        futures::future::join_all(read).await.into_iter().collect()
    }

    /// Inventories by the partition that their host's records come to now, in the order of receipt.
    async fn read_by_home(&self) -> Vec<Vec<Record>> {
        let all = self.read_all(INVENTORY_TOPIC).await;
        let mut by_home = vec![Vec::new(); all.len()];
        for record in all.values().flatten() {
            let home = partition_for_key(record.key.as_deref().unwrap(), all.len() as i32);
            by_home[home as usize].push(record.clone());
        }
        by_home.iter_mut().for_each(|records| records.sort_by_key(crate::engine::received_us));
        by_home
    }

    async fn transitions(&self) -> Vec<TransitionRecord> {
        let records = self.read_all(COMPLIANCE_TOPIC).await;
        let parse = |record: &Record| serde_json::from_slice(record.value.as_deref().unwrap()).unwrap();
        records.values().flatten().map(parse).collect()
    }

    /// Waits until the group has passed every record of `inventory`.
    async fn until_caught_up(&self) {
        self.until_caught_up_with(INVENTORY_TOPIC).await;
    }

    async fn until_caught_up_with(&self, topic: &str) {
        let caught_up = async {
            loop {
                let ends = self.log.offsets(topic).await.unwrap();
                // A broker that has just begun has no coordinator of the group yet.
                let committed = self.log.committed(GROUP, topic).await.or_else(|error| {
                    if error.kind == StreamErrorKind::Unavailable { Ok(Vec::new()) } else { Err(error) }
                });
                let committed = committed.unwrap().into_iter().map(Option::unwrap_or_default);
                if ends.iter().map(|range| range.end).eq(committed) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, caught_up).await.expect("the worker catches up");
    }

    /// Waits until at least `count` transitions are published.
    async fn until_transitions(&self, count: usize) {
        let enough = async {
            while self.transitions().await.len() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let all = tokio::time::timeout(PATIENCE, enough).await;
        assert!(all.is_ok(), "{} of {count} transitions are published", self.transitions().await.len());
    }

    /// What must have been told, computed a record at a time from the log and the rules alone.
    async fn expected(&self) -> Vec<(String, u64, String)> {
        let tell = |id: &str, told: &Told| {
            let Transition { to, at_us, version, .. } = &told.transition;
            (id.to_owned(), *version, format!("{to:?} {at_us}"))
        };
        let rules: Vec<_> =
            policies().iter().map(|policy| compile(policy, &bronze_schema()).unwrap()).collect();
        let mut told = Vec::new();
        for records in self.read_by_home().await {
            let mut standings: HashMap<(String, String, usize), Standing> = HashMap::new();
            let mut time_us = i64::MIN;
            for record in &records {
                let decoded = decode(record.value.as_deref().unwrap()).unwrap();
                let text = |at: usize| std::str::from_utf8(&record.headers[at].1).unwrap().to_owned();
                let (tenant, received_at_us) = (text(0), text(1).parse::<i64>().unwrap());
                time_us = time_us.max(received_at_us);
                let position = LogPosition {
                    topic_id: "t".to_owned(),
                    partition: record.partition,
                    offset: record.offset,
                    received_at_us,
                    source: "native".to_owned(),
                };
                let mut builder = BronzeBuilder::default();
                builder.push(&decoded, &position);
                let batch = builder.finish();
                for (at, rule) in rules.iter().enumerate() {
                    let place = (tenant.clone(), decoded.inventory.host_id.clone(), at);
                    let id = finding_id(&place.0, &place.1, &rule.policy.id);
                    let order = (received_at_us, received_at_us, record.partition, record.offset);
                    let seen = Observation { verdict: rule.evaluate(&batch).0.verdicts[0], order };
                    let standing = standings.entry(place).or_default();
                    let mut all = Vec::new();
                    standing.pass(rule, received_at_us, &mut all);
                    standing.received_us = Some(received_at_us);
                    if let Some((samples, _)) = rule.samples(&batch) {
                        standing.sample(rule, order, &samples, 0);
                    }
                    standing.alive(rule, received_at_us, &mut all);
                    if rule.policy.is_per_record() {
                        standing.record(rule, seen, (i64::MIN, 0, 0, 0), String::new, &mut all);
                    }
                    told.extend(all.into_iter().map(|t| tell(&id, &t)));
                }
            }
            for ((tenant, host, at), mut standing) in standings {
                let (id, mut all) = (finding_id(&tenant, &host, &rules[at].policy.id), Vec::new());
                standing.pass(&rules[at], time_us, &mut all);
                told.extend(all.into_iter().map(|t| tell(&id, &t)));
            }
        }
        told.sort();
        told
    }

    async fn assert_exactly_what_a_replay_tells(&self) {
        let expected = self.expected().await;
        assert!(expected.len() > 50, "the scenario is too quiet: {}", expected.len());
        for (rule, least) in [("busy", 1), ("mute", 5)] {
            let hosts = (0..9).flat_map(|host| {
                ["acme", "zeta"].map(|tenant| finding_id(tenant, &format!("host-{host}"), rule))
            });
            let ids: BTreeSet<String> = hosts.collect();
            let count = expected.iter().filter(|(id, ..)| ids.contains(id)).count();
            assert!(count >= least, "{rule} tells too little: {count}");
        }
        self.until_transitions(expected.len()).await;
        let counter = |version: u64| version & ((1 << 40) - 1);
        let tell =
            |t: TransitionRecord| (t.finding_id, counter(t.version), format!("{:?} {}", t.to, t.at_us));
        let mut told: Vec<_> = self.transitions().await.into_iter().map(tell).collect();
        told.sort();
        assert_eq!(told, expected);
    }
}

fn start(worker: &Worker) -> (tokio::task::JoinHandle<Result<(), AlertsError>>, CancellationToken) {
    let (worker, stop) = (worker.clone(), CancellationToken::new());
    let token = stop.clone();
    (tokio::spawn(async move { worker.run(&token).await }), stop)
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_and_kills_in_the_middle_lose_and_double_no_transition() {
    let lab = Lab::new().await;
    for round in 0..6 {
        lab.upload(round * 60, 60).await;
        let before = lab.transitions().await.len();
        let (task, stop) = start(&lab.worker(lab.log.clone()));
        lab.until_transitions(before + 1).await;
        if round % 2 == 0 {
            // As by kill -9: wherever it is, it never goes on.
            task.abort();
            let _ = task.await;
        } else {
            stop.cancel();
            task.await.unwrap().unwrap();
        }
    }
    let (task, stop) = start(&lab.worker(lab.log.clone()));
    lab.until_caught_up().await;
    lab.assert_exactly_what_a_replay_tells().await;
    stop.cancel();
    task.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_transactions_lose_and_double_nothing_whatever_became_of_them() {
    let lab = Lab::new().await;
    // Before the commit as by a kill between producing and committing; after it, as by an answer that got lost.
    let faults = vec![
        Fault::Before,
        Fault::None,
        Fault::After,
        Fault::After,
        Fault::Before,
        Fault::None,
        Fault::After,
    ];
    let faulty = Arc::new(FaultyLog::new(lab.log.clone(), faults));
    let worker = lab.worker(faulty.clone());
    let (task, stop) = start(&worker);
    for round in 0..8 {
        lab.upload(round * 40, 40).await;
        lab.until_caught_up().await;
    }
    assert_eq!(faulty.faults_left(), 0);
    lab.assert_exactly_what_a_replay_tells().await;
    stop.cancel();
    task.await.unwrap().unwrap();
}

/// The findings of `acme`, by id, once there are as many as told.
async fn page(worker: &Worker, count: usize) -> Vec<crate::Finding> {
    let all = async {
        loop {
            let mut page = worker.index.find("acme", &Filter::default(), 1_000, &worker.book);
            if page.total == count {
                page.findings.sort_by(|a, b| a.id.cmp(&b.id));
                return page.findings;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, all).await.expect("findings are shown")
}

#[tokio::test(flavor = "multi_thread")]
async fn restored_index_shows_what_the_live_one_showed() {
    let lab = Lab::new().await;
    lab.upload(0, 120).await;
    let first = lab.worker(lab.log.clone());
    let (task, stop) = start(&first);
    lab.until_caught_up().await;
    lab.until_transitions(lab.expected().await.len()).await;
    let told = lab.transitions().await;
    let ids: BTreeSet<_> = told.iter().filter(|t| t.tenant == "acme").map(|t| &t.finding_id).collect();
    let live = page(&first, ids.len()).await;
    stop.cancel();
    task.await.unwrap().unwrap();
    page(&first, 0).await;

    let second = lab.worker(lab.log.clone());
    let (task, stop) = start(&second);
    assert_eq!(page(&second, ids.len()).await, live);
    stop.cancel();
    task.await.unwrap().unwrap();
}
