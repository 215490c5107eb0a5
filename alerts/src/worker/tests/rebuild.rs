//! States are lost, or say what nobody was told: they come back from the ledger, and nothing is told twice or not at all.

use firn_inventory::tables::{ALERTS_COMMANDS_TOPIC, ALERTS_STATE_TOPIC, GOLD_TRANSITIONS, SILVER_INVENTORY};
use firn_policy::{Command, FindingStatus, TransitionsBuilder};
use futures::StreamExt as _;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
};

use super::*;
use crate::{
    engine::CommandRecord,
    host::{HostKey, HostState},
    lake::Lake,
    packed::Packed,
    worker::{outputs, topics::home},
};

/// A log with a lake that has some of what lies in it.
struct Estate {
    lab: Lab,
    lake: Lake,
}

impl Estate {
    async fn new() -> Self {
        Self::at(0).await
    }

    /// With windows that begin so many seconds before the first record.
    async fn at(alignment_s: i64) -> Self {
        let mut lab = Lab::new().await;
        lab.base_us += alignment_s * 1_000_000;
        Self { lab, lake: Lake::open(&["acme", "zeta"]).await }
    }

    fn worker(&self, log: Arc<dyn Log>) -> Worker {
        Lab::worker_over(log, self.lake.catalog.clone())
    }

    async fn work(&mut self) {
        let (task, stop) = start(&self.worker(self.lab.log.clone()));
        self.lab.until_caught_up().await;
        self.lab.until_caught_up_with(ALERTS_COMMANDS_TOPIC).await;
        stop.cancel();
        task.await.unwrap().unwrap();
        self.lab.end_process().await;
    }

    async fn rebuild(&self, log: Arc<dyn Log>) -> Result<Rebuilt, AlertsError> {
        let how = Rebuilding { hosts_at_once: 3, ..Rebuilding::default() };
        self.worker(log).rebuild(&how, &|_| {}).await
    }

    async fn plan(&self) -> Rebuilt {
        self.worker(self.lab.log.clone()).plan_rebuild(&|_| {}).await.unwrap()
    }

    /// As by promotion: a part of the records that came so far.
    async fn promote(&self, share: usize) {
        let topic_id = self.lab.log.topic(INVENTORY_TOPIC).await.unwrap().unwrap().id;
        for tenant in ["acme", "zeta"] {
            let mut builder = BronzeBuilder::default();
            for records in self.lab.read_all(INVENTORY_TOPIC).await.into_values() {
                for record in &records[..records.len() / share] {
                    let text = |at: usize| std::str::from_utf8(&record.headers[at].1).unwrap();
                    if text(0) == tenant {
                        let position = LogPosition {
                            topic_id: topic_id.clone(),
                            partition: record.partition,
                            offset: record.offset,
                            received_at_us: text(1).parse().unwrap(),
                            source: "native".to_owned(),
                        };
                        builder.push(&decode(record.value.as_deref().unwrap()).unwrap(), &position);
                    }
                }
            }
            self.lake.append(tenant, SILVER_INVENTORY, &builder.finish()).await;
        }
    }

    /// As by ingest: all transitions so far.
    async fn keep_transitions(&self) {
        for tenant in ["acme", "zeta"] {
            let mut builder = TransitionsBuilder::default();
            for record in self.lab.read_all(COMPLIANCE_TOPIC).await.into_values().flatten() {
                let transition: TransitionRecord =
                    serde_json::from_slice(record.value.as_deref().unwrap()).unwrap();
                if transition.tenant == tenant {
                    let place = (record.partition, record.offset);
                    builder.push(&transition, "t", place, record.timestamp_ms * 1_000);
                }
            }
            self.lake.append(tenant, GOLD_TRANSITIONS, &builder.finish()).await;
        }
    }

    async fn states(&self) -> BTreeMap<HostKey, HostState> {
        let mut all = BTreeMap::new();
        for number in 0..PARTITIONS {
            let hosts = restore::states(self.lab.log.as_ref(), number).await.unwrap();
            all.extend(hosts.into_iter().map(|(key, state)| (HostKey::clone(&key), state.state())));
        }
        all
    }

    async fn write(&self, states: impl Iterator<Item = (HostKey, Option<HostState>)>) {
        let record = |(key, state): (HostKey, Option<HostState>)| {
            outputs::state(home(&key, PARTITIONS), &key, state.as_ref().map(Packed::of).as_ref())
        };
        for result in self.lab.log.append(states.map(record).collect()).await {
            result.unwrap();
        }
    }

    /// All states are gone.
    async fn lose(&self) {
        self.write(self.states().await.into_keys().map(|key| (key, None))).await;
        assert!(self.states().await.is_empty());
    }

    async fn command(&self, key: &HostKey, rule_id: &str, command: Command) {
        let (by, at_us) = ("jo".to_owned(), self.lab.base_us + 240 * 97_000_000);
        let command = CommandRecord { rule_id: rule_id.to_owned(), command, by, note: String::new(), at_us };
        let record = ProduceRecord {
            topic: ALERTS_COMMANDS_TOPIC.to_owned(),
            partition: Some(home(key, PARTITIONS)),
            key: Some(key.to_bytes()),
            value: Some(serde_json::to_vec(&command).unwrap().into()),
            headers: Vec::new(),
        };
        self.lab.log.append(vec![record]).await.pop().unwrap().unwrap();
    }

    /// Goes on, and says whether all was told as if nothing had happened.
    async fn assert_it_goes_on(&mut self) {
        self.lab.upload(240, 120).await;
        let (task, stop) = start(&self.worker(self.lab.log.clone()));
        self.lab.until_caught_up().await;
        self.lab.assert_exactly_what_a_replay_tells().await;
        stop.cancel();
        task.await.unwrap().unwrap();
        self.lab.end_process().await;
    }
}

/// Runs a scenario with records that begin at some seconds after a full hour, spread over it: it depends on them what windows and
/// graces hold when states are lost. At as many as `FIRN_TEST_ALIGNMENTS` says, else at a few.
async fn at_alignments<F: Future<Output = ()> + Send + 'static>(few: i64, scenario: impl Fn(i64, i64) -> F) {
    let count = std::env::var("FIRN_TEST_ALIGNMENTS").map_or(few, |count| count.parse().unwrap());
    let runs = (0..count).map(|number| {
        let alignment_s = number * 3_600 / count;
        let run = tokio::spawn(scenario(number, alignment_s));
        async move { run.await.is_err().then_some(alignment_s) }
    });
    let failed: Vec<i64> =
        futures::stream::iter(runs).buffered(4).filter_map(std::future::ready).collect().await;
    assert_eq!(failed, [0; 0], "seconds after the hour at which it fails");
}

/// Whether all say the same. Epochs tell that there was a rebuild; windows that are over are closed at the next look at them.
fn assert_same(after: &BTreeMap<HostKey, HostState>, before: &BTreeMap<HostKey, HostState>) {
    assert!(after.keys().eq(before.keys()));
    for (key, after) in after {
        let (before, now) = (&before[key], after);
        for (finding, was) in now.findings.iter().zip(&before.findings) {
            assert_eq!(finding, was, "{key:?}");
        }
        let (epoch, windows) = (before.epoch, before.windows.clone());
        assert_eq!(HostState { epoch, windows, ..now.clone() }, *before, "{key:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_states_come_back_as_they_were_and_nothing_is_lost_or_told_twice() {
    at_alignments(3, |_, alignment_s| lose_and_rebuild(alignment_s)).await;
}

async fn lose_and_rebuild(alignment_s: i64) {
    let mut estate = Estate::at(alignment_s).await;
    estate.lab.upload(0, 160).await;
    estate.work().await;
    let sound = estate.plan().await;
    assert_eq!((sound.lost, sound.wrong, sound.doubled, sound.busy), (0, 0, 0, false), "{sound:?}");
    estate.promote(3).await;
    estate.keep_transitions().await;
    estate.lab.upload(160, 80).await;
    estate.work().await;
    assert_eq!(estate.plan().await.differences, []);
    let before = estate.states().await;
    estate.lose().await;
    let plan = estate.plan().await;
    assert_eq!((plan.lost, plan.wrong, plan.hosts), (18, 0, 18), "{plan:?}");
    assert!(plan.findings > 18 && plan.differences.len() == 18, "{plan:?}");
    assert_eq!(plan.differences[0].state, "is not there");
    assert!(estate.states().await.is_empty(), "it only tells");
    assert_eq!(estate.rebuild(estate.lab.log.clone()).await.unwrap(), plan);
    let after = estate.states().await;
    assert!(after.values().all(|state| state.epoch == 2));
    assert_same(&after, &before);
    estate.lab.end_process().await;
    let again = estate.rebuild(estate.lab.log.clone()).await.unwrap();
    assert_eq!((again.lost, again.wrong, again.hosts), (0, 0, 18));
    estate.lab.end_process().await;
    estate.assert_it_goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rebuild_that_fails_anywhere_is_completed_by_the_next() {
    at_alignments(6, |number, alignment_s| {
        let fault = if number % 2 == 0 { Fault::Before } else { Fault::After };
        rebuild_that_fails(number as usize % 6, fault, alignment_s)
    })
    .await;
}

async fn rebuild_that_fails(broken_at: usize, fault: Fault, alignment_s: i64) {
    let mut estate = Estate::at(alignment_s).await;
    estate.lab.upload(0, 240).await;
    estate.work().await;
    estate.lose().await;
    let mut faults = vec![Fault::None; broken_at];
    faults.push(fault);
    let faulty = Arc::new(FaultyLog::new(estate.lab.log.clone(), faults));
    let error = estate.rebuild(faulty.clone()).await.unwrap_err();
    assert!(matches!(error, AlertsError::Stream { .. }), "{broken_at}: {error}");
    assert_eq!(faulty.faults_left(), 0);
    drop(faulty);
    estate.lab.end_process().await;
    let written = 3 * (broken_at + usize::from(fault == Fault::After));
    assert_eq!(estate.states().await.len(), written, "{broken_at}");
    assert_eq!(estate.rebuild(estate.lab.log.clone()).await.unwrap().lost, 18 - written as u64);
    estate.lab.end_process().await;
    estate.assert_it_goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn states_lost_at_any_moment_of_a_killed_worker_come_back_and_nothing_is_lost_or_told_twice() {
    at_alignments(2, |_, alignment_s| lose_again_and_again(alignment_s)).await;
}

async fn lose_again_and_again(alignment_s: i64) {
    let mut estate = Estate::at(alignment_s).await;
    for round in 0..6 {
        estate.lab.upload(round * 40, 40).await;
        let told = estate.lab.transitions().await.len();
        let (task, _) = start(&estate.worker(estate.lab.log.clone()));
        estate.lab.until_transitions(told + 1).await;
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        estate.lab.end_process().await;
        estate.lose().await;
        estate.rebuild(estate.lab.log.clone()).await.unwrap();
        estate.lab.end_process().await;
    }
    estate.assert_it_goes_on().await;
}

/// A host of a tenant, and a rule of it that is open and can't end by itself meanwhile.
async fn open(estate: &Estate, count: usize) -> Vec<(HostKey, String)> {
    let states = estate.states().await;
    let open = states.iter().filter_map(|(key, state)| {
        let is_open = |status: FindingStatus| status == FindingStatus::Open;
        let finding = state.findings.iter().find(|finding| is_open(finding.status))?;
        Some((key.clone(), finding.rule_id.clone()))
    });
    open.take(count).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_said_comes_back_too() {
    let mut estate = Estate::new().await;
    estate.lab.upload(0, 240).await;
    estate.work().await;
    let chosen = open(&estate, 4).await;
    let until_us = estate.lab.base_us + 365 * 86_400_000_000;
    let commands = [
        vec![Command::Acknowledge, Command::Assign { to: Some("kim".to_owned()) }],
        vec![Command::Snooze { until_us: until_us - 1 }, Command::Snooze { until_us }, Command::Comment],
        vec![Command::Comment],
        vec![Command::Retire],
    ];
    for ((key, rule_id), commands) in chosen.iter().zip(commands) {
        for command in commands {
            estate.command(key, rule_id, command).await;
        }
    }
    estate.work().await;
    let before = estate.states().await;
    let finding = |at: usize| before[&chosen[at].0].finding(&chosen[at].1).unwrap();
    assert_eq!(
        (finding(0).status, finding(0).assignee.as_deref()),
        (FindingStatus::Acknowledged, Some("kim"))
    );
    assert_eq!((finding(1).status, finding(1).snoozed_until_us), (FindingStatus::Snoozed, Some(until_us)));
    assert_eq!(estate.plan().await.differences, []);
    estate.keep_transitions().await;
    estate.lose().await;
    assert_eq!(estate.rebuild(estate.lab.log.clone()).await.unwrap().lost, 18);
    assert_same(&estate.states().await, &before);
}

#[tokio::test(flavor = "multi_thread")]
async fn states_that_are_wrong_or_old_and_those_that_cant_be_read_are_corrected() {
    let mut estate = Estate::new().await;
    estate.lab.upload(0, 240).await;
    estate.work().await;
    let (before, chosen) = (estate.states().await, open(&estate, 4).await);
    let [(reopened, rule), (forgot, _), (broken, _), (old, _)] = chosen.as_slice() else {
        panic!("{chosen:?}")
    };
    let mut wrong = before[reopened].clone();
    let finding = wrong.findings.iter_mut().find(|finding| finding.rule_id == *rule).unwrap();
    (finding.status, finding.version) = (FindingStatus::Acknowledged, finding.version + 1);
    let mut empty = before[forgot].clone();
    empty.findings.clear();
    // As in a copy from before the last record, which told nothing.
    let mut copy = before[old].clone();
    copy.received_us -= 1;
    copy.windows.clear();
    let wrong = [(reopened, wrong), (forgot, empty), (old, copy)];
    estate.write(wrong.into_iter().map(|(key, state)| (key.clone(), Some(state)))).await;
    let mut record = outputs::state(home(broken, PARTITIONS), broken, None);
    record.value = Some(b"\x63nonsense".to_vec().into());
    estate.lab.log.append(vec![record]).await.pop().unwrap().unwrap();
    let (worker, forever) = (estate.worker(estate.lab.log.clone()), CancellationToken::new());
    let error = worker.run(&forever).await.unwrap_err().to_string();
    assert!(error.contains("run 'firn alerts rebuild'"), "{error}");
    drop(worker);
    estate.lab.end_process().await;

    let plan = estate.plan().await;
    assert_eq!((plan.wrong, plan.lost), (3, 1), "{plan:?}");
    let difference =
        plan.differences.iter().find(|difference| difference.rule_id.as_ref() == Some(rule)).unwrap();
    assert!(difference.state.starts_with("acknowledged since "), "{difference:?}");
    assert!(difference.ledger.starts_with("open since "), "{difference:?}");
    estate.rebuild(estate.lab.log.clone()).await.unwrap();
    assert_same(&estate.states().await, &before);
    estate.lab.end_process().await;
    estate.assert_it_goes_on().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_are_at_work_are_left_alone_and_named() {
    let mut estate = Estate::new().await;
    estate.lab.upload(0, 60).await;
    estate.work().await;
    let mut other = estate.lab.log.subscribe(membership(Some("firn-alerts-0".to_owned()))).await.unwrap();
    let _ = other.poll(1, Duration::from_millis(100)).await.unwrap();
    let keep = tokio::spawn(async move { while other.poll(1, Duration::from_millis(50)).await.is_ok() {} });
    let how = Rebuilding { patience: Duration::from_secs(1), ..Rebuilding::default() };
    let error = estate.worker(estate.lab.log.clone()).rebuild(&how, &|_| {}).await.unwrap_err().to_string();
    assert!(error.contains("alerts workers are at work"), "{error}");
    keep.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn on_kafka_a_topic_of_states_that_is_gone_stops_the_worker_and_a_killed_rebuild_is_completed() {
    let kafka = Kafka::start().await.unwrap();
    let lake = Lake::open(&["acme", "zeta"]).await;
    let mut estate = Estate { lab: Lab::on_kafka(&kafka).await, lake };
    estate.lab.upload(0, 240).await;
    estate.work().await;
    let before = estate.states().await;
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", kafka.bootstrap_servers()).create().unwrap();
    admin.delete_topics(&[ALERTS_STATE_TOPIC], &AdminOptions::new()).await.unwrap();
    estate.lab.end_process().await;
    let (worker, forever) = (estate.worker(estate.lab.log.clone()), CancellationToken::new());
    let ended = tokio::time::timeout(PATIENCE, worker.run(&forever)).await.expect("the worker stops");
    let error = ended.unwrap_err().to_string();
    assert!(error.contains("is gone") && error.contains("run 'firn alerts rebuild'"), "{error}");
    drop(worker);
    estate.lab.end_process().await;
    assert_eq!(estate.plan().await.lost, 18);

    let faulty =
        Arc::new(FaultyLog::new(estate.lab.log.clone(), vec![Fault::None, Fault::None, Fault::Stuck]));
    let killed = estate.worker(faulty.clone());
    let how = Rebuilding { hosts_at_once: 3, ..Rebuilding::default() };
    let task = tokio::spawn(async move { killed.rebuild(&how, &|_| {}).await.map(drop) });
    while faulty.faults_left() > 0 {
        assert!(!task.is_finished(), "{:?}", task.await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    estate.lab.end_process().await;
    assert_eq!(estate.rebuild(estate.lab.log.clone()).await.unwrap().lost, 12);
    assert_same(&estate.states().await, &before);
    estate.lab.end_process().await;
    estate.assert_it_goes_on().await;
}
