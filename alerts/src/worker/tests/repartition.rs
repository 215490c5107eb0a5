//! `inventory` grows: alerts stop, states move, and nothing is told twice or not at all.

use firn_inventory::tables::ALERTS_STATE_TOPIC;
use firn_stream::{Assigned, OffsetRange};

use super::*;
use crate::worker::topics::home;

fn at_once() -> Repartitioning {
    Repartitioning {
        until_us: Some(i64::MAX),
        records_at_once: 25,
        moves_at_once: 2,
        ..Repartitioning::after(Duration::ZERO)
    }
}

async fn work(lab: &mut Lab) {
    let (task, stop) = start(&lab.worker(lab.log.clone()));
    lab.until_caught_up().await;
    stop.cancel();
    task.await.unwrap().unwrap();
    lab.end_process().await;
}

/// The same, until all was told that there is to tell.
async fn work_and_compare(lab: &mut Lab) {
    let (task, stop) = start(&lab.worker(lab.log.clone()));
    lab.until_caught_up().await;
    lab.assert_exactly_what_a_replay_tells().await;
    stop.cancel();
    task.await.unwrap().unwrap();
    lab.end_process().await;
}

async fn stopped(lab: &mut Lab) -> String {
    let (worker, forever) = (lab.worker(lab.log.clone()), CancellationToken::new());
    let ended = tokio::time::timeout(PATIENCE, worker.run(&forever)).await.expect("the worker stops");
    drop(worker);
    lab.end_process().await;
    ended.unwrap_err().to_string()
}

async fn repartition(lab: &Lab, log: Arc<dyn Log>) -> Result<Repartitioned, AlertsError> {
    lab.worker(log).repartition(&at_once(), &|_| {}).await
}

/// A backlog from before the growth, another from after it, and between them one of those who did not know of it.
async fn outgrow(lab: &mut Lab, partitions: i32) {
    lab.upload(0, 120).await;
    work(lab).await;
    lab.upload(120, 60).await;
    lab.grow(INVENTORY_TOPIC, partitions).await;
    lab.end_process().await;
    for number in 180..220 {
        lab.upload_by(number, 1, Some(if number % 3 == 0 { PARTITIONS } else { partitions })).await;
    }
    lab.upload_by(220, 60, Some(partitions)).await;
}

/// Goes on, and says whether all was told once, and whether each state lies where it belongs.
async fn assert_it_goes_on(lab: &mut Lab, partitions: i32) {
    lab.upload_by(280, 120, Some(partitions)).await;
    work_and_compare(lab).await;
    for number in 0..partitions {
        let hosts = restore::states(lab.log.as_ref(), number).await.unwrap();
        assert!(hosts.keys().all(|key| home(key, partitions) == number), "partition {number}");
        assert!(!hosts.is_empty(), "partition {number} says nothing");
    }
}

async fn assert_growth_loses_and_doubles_nothing(lab: &mut Lab, partitions: i32) {
    outgrow(lab, partitions).await;
    let error = stopped(lab).await;
    assert!(error.contains("run 'firn alerts repartition'"), "{error}");
    let plan = lab.worker(lab.log.clone()).plan_repartition().await.unwrap();
    assert_eq!((plan.partitions, plan.hosts, plan.records), ((PARTITIONS, partitions), 18, 160));
    let done = repartition(lab, lab.log.clone()).await.unwrap();
    assert!(done.moved() > 4 && done.transitions > 20, "{done:?}");
    assert_eq!(done, Repartitioned { transitions: done.transitions, ..plan });
    assert_it_goes_on(lab, partitions).await;
    let again = repartition(lab, lab.log.clone()).await.unwrap();
    assert_eq!((again.moved(), again.records, again.transitions), (0, 0, 0), "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn growth_by_a_multiple_and_by_another_number_loses_and_doubles_nothing() {
    for partitions in [4, 5] {
        assert_growth_loses_and_doubles_nothing(&mut Lab::new().await, partitions).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn repartition_that_fails_anywhere_is_completed_by_the_next() {
    // Seven steps judge what waits, the others move states.
    for (broken_at, fault) in (0..11).zip([Fault::Before, Fault::After].into_iter().cycle()) {
        let mut lab = Lab::new().await;
        outgrow(&mut lab, 5).await;
        let mut faults = vec![Fault::None; broken_at];
        faults.push(fault);
        let faulty = Arc::new(FaultyLog::new(lab.log.clone(), faults));
        let error = repartition(&lab, faulty.clone()).await.unwrap_err();
        assert!(matches!(error, AlertsError::Stream { .. }), "{broken_at}: {error}");
        assert_eq!(faulty.faults_left(), 0);
        drop(faulty);
        let error = stopped(&mut lab).await;
        assert!(error.contains("run 'firn alerts repartition'"), "{broken_at}: {error}");
        // What comes meanwhile waits, too.
        lab.upload_by(280, 20, Some(5)).await;
        repartition(&lab, lab.log.clone()).await.unwrap();
        lab.upload_by(300, 100, Some(5)).await;
        work_and_compare(&mut lab).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_kafka_growth_and_a_kill_in_the_middle_lose_and_double_nothing() {
    let kafka = Kafka::start().await.unwrap();
    let mut lab = Lab::on_kafka(&kafka).await;
    outgrow(&mut lab, 5).await;
    let error = stopped(&mut lab).await;
    assert!(error.contains("run 'firn alerts repartition'"), "{error}");
    let all = lab.worker(lab.log.clone()).plan_repartition().await.unwrap().moved();
    // As by kill -9, while it judges what waits and while it moves states: it never goes on.
    for (transactions, moves) in [(3, false), (6, true)] {
        let mut faults = vec![Fault::None; transactions];
        faults.push(Fault::Stuck);
        let faulty = Arc::new(FaultyLog::new(lab.log.clone(), faults));
        let killed = lab.worker(faulty.clone());
        let task = tokio::spawn(async move { killed.repartition(&at_once(), &|_| {}).await.map(drop) });
        while faulty.faults_left() > 0 {
            assert!(!task.is_finished(), "{:?}", task.await);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        lab.end_process().await;
        let at_home = lab.worker(lab.log.clone()).plan_repartition().await.unwrap();
        assert_eq!(at_home.moved() < all, moves, "{at_home:?}");
    }
    let done = repartition(&lab, lab.log.clone()).await.unwrap();
    assert!(done.moved() > 0, "{done:?}");
    assert_it_goes_on(&mut lab, 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_are_at_work_are_left_alone_and_named() {
    let mut lab = Lab::new().await;
    lab.upload(0, 60).await;
    work(&mut lab).await;
    let mut other = lab.log.subscribe(membership(Some("firn-alerts-0".to_owned()))).await.unwrap();
    let _ = other.poll(1, Duration::from_millis(100)).await.unwrap();
    let how = Repartitioning { patience: Duration::from_secs(1), ..at_once() };
    let keep = tokio::spawn(async move { while other.poll(1, Duration::from_millis(50)).await.is_ok() {} });
    let quick = lab.worker(lab.log.clone()).repartition(&how, &|_| {}).await.unwrap();
    assert_eq!((quick.moved(), quick.hosts), (0, 18), "there is nothing to do");
    lab.grow(INVENTORY_TOPIC, 4).await;
    let error = lab.worker(lab.log.clone()).repartition(&how, &|_| {}).await.unwrap_err().to_string();
    assert!(error.contains("alerts workers are at work"), "{error}");
    assert_eq!(lab.log.topic(ALERTS_STATE_TOPIC).await.unwrap().unwrap().partitions, PARTITIONS);
    keep.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn records_and_states_that_lie_elsewhere_than_their_keys_say_stop_the_worker() {
    let mut lab = Lab::new().await;
    lab.upload(0, 60).await;
    work(&mut lab).await;
    // As by one that learns late that partitions were added.
    lab.upload_by(60, 60, Some(1)).await;
    let error = stopped(&mut lab).await;
    assert!(
        error.contains("belongs to another partition") && error.contains("alerts repartition"),
        "{error}"
    );
    let done = repartition(&lab, lab.log.clone()).await.unwrap();
    assert_eq!((done.records, done.moved()), (60, 0));
    lab.upload(120, 60).await;
    work_and_compare(&mut lab).await;

    // As by a person who adds partitions to all topics.
    for topic in [INVENTORY_TOPIC, ALERTS_STATE_TOPIC, COMPLIANCE_TOPIC, ALERTS_COMMANDS_TOPIC] {
        lab.grow(topic, 4).await;
    }
    let error = stopped(&mut lab).await;
    assert!(error.contains("keeps host") && error.contains("alerts repartition"), "{error}");
    assert!(repartition(&lab, lab.log.clone()).await.unwrap().moved() > 0);
    lab.upload(180, 120).await;
    work_and_compare(&mut lab).await;
}

#[test]
fn commands_of_hosts_that_are_anothers_are_not_taken() {
    // What a member gets of 10 and 8 partitions among three, before the last one has stopped.
    let assigned = |inventory: std::ops::Range<i32>, commands: std::ops::Range<i32>| {
        let of = |topic: &'static str| {
            move |partition| Assigned {
                partition: TopicPartition { topic: topic.to_owned(), partition },
                topic_id: "t".to_owned(),
                offset: 0,
                range: OffsetRange { start: 0, end: 0 },
            }
        };
        let commands = commands.map(of(ALERTS_COMMANDS_TOPIC));
        inventory.map(of(INVENTORY_TOPIC)).chain(commands).collect::<Vec<_>>()
    };
    topics::check_assigned(&assigned(0..4, 0..3)).unwrap();
    let error = topics::check_assigned(&assigned(4..7, 3..6)).unwrap_err().to_string();
    assert!(error.contains("run 'firn alerts repartition'"), "{error}");
}

#[tokio::test]
async fn topics_larger_than_inventory_are_named_with_the_way_out() {
    let mut lab = Lab::new().await;
    work(&mut lab).await;
    lab.grow(COMPLIANCE_TOPIC, 5).await;
    let error = repartition(&lab, lab.log.clone()).await.unwrap_err().to_string();
    assert!(error.contains("raise 'inventory' to 5"), "{error}");
}

#[tokio::test]
async fn unequal_partition_counts_stop_the_worker_with_the_way_out() {
    let lab = Lab::new().await;
    lab.grow(COMPLIANCE_TOPIC, 5).await;
    let error = lab.worker(lab.log.clone()).run(&CancellationToken::new()).await.unwrap_err();
    assert!(error.to_string().contains("firn alerts repartition"), "{error}");
}
