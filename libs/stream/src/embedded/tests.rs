#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::{Event, conformance};

fn spec(name: &str, compacted: bool) -> TopicSpec {
    TopicSpec { name: name.to_owned(), partitions: 1, compacted, retention: None }
}

fn record(topic: &str, key: &'static str, value: Option<&'static str>) -> ProduceRecord {
    ProduceRecord {
        topic: topic.to_owned(),
        key: Some(Bytes::from_static(key.as_bytes())),
        partition: None,
        value: value.map(|value| Bytes::from_static(value.as_bytes())),
        headers: vec![("h".to_owned(), Bytes::from_static(b"v"))],
    }
}

fn at(topic: &str) -> TopicPartition {
    TopicPartition { topic: topic.to_owned(), partition: 0 }
}

fn options(group: &str, topic: &str) -> SubscribeOptions {
    SubscribeOptions {
        group: group.to_owned(),
        topics: vec![topic.to_owned()],
        instance_id: None,
        from_beginning: true,
    }
}

async fn values(log: &EmbeddedLog, topic: &str, from: i64) -> Vec<String> {
    let records = log.read(&at(topic), from, 1000, Duration::ZERO).await.unwrap();
    records
        .iter()
        .map(|r| {
            r.value.as_deref().map_or("-".to_owned(), |value| String::from_utf8_lossy(value).into_owned())
        })
        .collect()
}

async fn assigned(log: &EmbeddedLog, group: &str, topic: &str) -> Box<dyn Consumer> {
    let mut consumer = log.subscribe(options(group, topic)).await.unwrap();
    let event = consumer.poll(1, Duration::from_secs(5)).await.unwrap();
    assert!(matches!(event, Some(Event::Assigned(_))), "{event:?}");
    consumer
}

/// A transaction is in the file a moment before its end is published.
#[tokio::test]
async fn readers_stop_at_the_end_that_they_were_told() {
    let dir = TempDir::new().unwrap();
    let log = EmbeddedLog::open(EmbeddedConfig::new(dir.path().join("log.db"))).unwrap();
    log.ensure_topic(&spec("inventory", false)).await.unwrap();
    log.append((0..5).map(|_| record("inventory", "a", Some("x"))).collect()).await;
    let slot = log.core.layout().slot_of(&at("inventory")).unwrap();
    let ahead = OffsetRange { start: 1, end: 3 };
    let read = log.core.readers.run(move |connection| readers::records(connection, slot, 0, ahead, 10)).await;
    let offsets: Vec<i64> = read.unwrap().iter().map(|record| record.offset).collect();
    assert_eq!(offsets, [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn passes_the_conformance_suite() {
    let dir = TempDir::new().unwrap();
    let log = EmbeddedLog::open(EmbeddedConfig::new(dir.path().join("log.db"))).unwrap();
    conformance(log).await;
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let config = EmbeddedConfig::new(dir.path().join("log.db"));
    let log = EmbeddedLog::open(config.clone()).unwrap();
    let topic = log.ensure_topic(&spec("inventory", false)).await.unwrap();
    log.append(vec![record("inventory", "a", Some("1")), record("inventory", "b", Some("2"))]).await;
    let mut consumer = assigned(&log, "ingest", "inventory").await;
    consumer.commit(&[(at("inventory"), 1)]).await.unwrap();
    let mut producer = log.transactional("worker").await.unwrap();
    drop((consumer, log));

    // The producer still holds the log open, so a second one is refused until it is gone.
    let error = EmbeddedLog::open(config.clone()).err().unwrap();
    assert_eq!(error.kind, StreamErrorKind::Config);
    assert!(error.message.contains("in use"), "{error}");
    producer.commit(vec![record("inventory", "c", Some("3"))], &[], None).await.unwrap();
    drop(producer);

    let log = EmbeddedLog::open(config).unwrap();
    assert_eq!(log.topic("inventory").await.unwrap(), Some(topic));
    assert_eq!(values(&log, "inventory", 0).await, ["1", "2", "3"]);
    assert_eq!(log.committed("ingest", "inventory").await.unwrap(), [Some(1)]);
    let mut consumer = assigned(&log, "ingest", "inventory").await;
    let event = consumer.poll(10, Duration::ZERO).await.unwrap();
    assert!(
        matches!(event, Some(Event::Records(_, records)) if records[0].offset == 1 && records.len() == 2)
    );
}

#[tokio::test]
async fn compaction_keeps_the_newest_record_of_each_key() {
    let dir = TempDir::new().unwrap();
    let log = EmbeddedLog::open(EmbeddedConfig::new(dir.path().join("log.db"))).unwrap();
    log.ensure_topic(&spec("state", true)).await.unwrap();
    log.append(vec![
        record("state", "a", Some("a1")),
        record("state", "b", Some("b1")),
        record("state", "a", Some("a2")),
        record("state", "b", None),
    ])
    .await;
    log.maintain().await.unwrap();
    assert_eq!(values(&log, "state", 0).await, ["a2", "-"], "a young tombstone stays");
    log.append(vec![record("state", "a", Some("a3"))]).await;
    log.maintain().await.unwrap();
    assert_eq!(values(&log, "state", 0).await, ["-", "a3"]);
    assert_eq!(log.offsets("state").await.unwrap(), [OffsetRange { start: 0, end: 5 }]);

    let error =
        log.append(vec![ProduceRecord { key: None, ..record("state", "", Some("x")) }]).await.remove(0);
    assert_eq!(error.unwrap_err().kind, StreamErrorKind::Config);
}

#[tokio::test]
async fn compaction_leaves_what_a_group_has_still_to_read() {
    let dir = TempDir::new().unwrap();
    let log = EmbeddedLog::open(EmbeddedConfig::new(dir.path().join("log.db"))).unwrap();
    log.ensure_topic(&spec("state", true)).await.unwrap();
    let mut consumer = assigned(&log, "g", "state").await;
    log.append((0..3).map(|_| record("state", "a", Some("x"))).collect()).await;
    log.maintain().await.unwrap();
    assert_eq!(values(&log, "state", 0).await.len(), 3);
    consumer.commit(&[(at("state"), 2)]).await.unwrap();
    log.maintain().await.unwrap();
    assert_eq!(values(&log, "state", 0).await.len(), 2);
}

#[tokio::test]
async fn tombstones_go_after_a_day() {
    let dir = TempDir::new().unwrap();
    let log = EmbeddedLog::open(EmbeddedConfig::new(dir.path().join("log.db"))).unwrap();
    log.ensure_topic(&spec("state", true)).await.unwrap();
    log.ensure_topic(&spec("plain", false)).await.unwrap();
    log.append(vec![
        record("state", "a", Some("a1")),
        record("state", "a", None),
        record("plain", "a", None),
    ])
    .await;
    log.maintain().await.unwrap();
    let tomorrow = |batch: &mut batch::Batch<'_>| {
        batch.now_ms += 24 * 3600 * 1000;
        retention::step(batch).map(Ok)
    };
    log.core.submit(0, tomorrow).await.unwrap();
    assert!(values(&log, "state", 0).await.is_empty());
    assert_eq!(
        values(&log, "plain", 0).await,
        ["-"],
        "a null in a topic that is not compacted is just a record"
    );
}

#[tokio::test]
async fn old_records_go_once_every_group_has_passed_them() {
    let dir = TempDir::new().unwrap();
    let log = EmbeddedLog::open(EmbeddedConfig {
        retention_s: 0,
        ..EmbeddedConfig::new(dir.path().join("log.db"))
    })
    .unwrap();
    log.ensure_topic(&spec("inventory", false)).await.unwrap();
    log.ensure_topic(&TopicSpec { retention: Some(Duration::from_secs(3600)), ..spec("kept", false) })
        .await
        .unwrap();
    log.append(vec![record("kept", "a", Some("x"))]).await;
    let mut consumer = assigned(&log, "ingest", "inventory").await;
    log.append((0..5000).map(|_| record("inventory", "a", Some("x"))).collect()).await;
    // The log looks after itself as well, so what counts is what is left.
    log.maintain().await.unwrap();
    let all = [OffsetRange { start: 0, end: 5000 }];
    assert_eq!(log.offsets("inventory").await.unwrap(), all, "nothing is read yet");
    consumer.commit(&[(at("inventory"), 4500)]).await.unwrap();
    log.maintain().await.unwrap();
    assert_eq!(log.offsets("inventory").await.unwrap(), [OffsetRange { start: 4500, end: 5000 }]);
    assert_eq!(values(&log, "kept", 0).await, ["x"]);

    let error = log.read(&at("inventory"), 10, 1, Duration::ZERO).await.unwrap_err();
    assert_eq!(error.kind, StreamErrorKind::Truncated, "{error}");
    consumer.seek(&at("inventory"), 10).await.unwrap();
    let error = consumer.poll(1, Duration::ZERO).await.unwrap_err();
    assert_eq!(error.kind, StreamErrorKind::Truncated, "{error}");
    consumer.seek(&at("inventory"), 4500).await.unwrap();
    assert!(matches!(consumer.poll(1, Duration::ZERO).await.unwrap(), Some(Event::Records(..))));
}

#[tokio::test]
async fn a_log_full_of_unread_records_refuses_more_until_they_are_read() {
    let dir = TempDir::new().unwrap();
    let log = EmbeddedLog::open(EmbeddedConfig {
        max_bytes: 10_000,
        ..EmbeddedConfig::new(dir.path().join("log.db"))
    })
    .unwrap();
    log.ensure_topic(&spec("inventory", false)).await.unwrap();
    let mut consumer = assigned(&log, "ingest", "inventory").await;
    let mut accepted = 0;
    let refused = loop {
        match log.append(vec![record("inventory", "a", Some("0123456789"))]).await.remove(0) {
            Ok(_) => accepted += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused.kind, StreamErrorKind::Unavailable, "{refused}");
    assert!(refused.message.contains("still to read"), "{refused}");
    assert_eq!(
        log.offsets("inventory").await.unwrap(),
        [OffsetRange { start: 0, end: accepted }],
        "nothing was dropped"
    );

    // The consumer can still write its results and move on, and then there is room again.
    let mut producer = log.transactional("worker").await.unwrap();
    let output = vec![record("inventory", "a", Some("result"))];
    producer.commit(output, &[(at("inventory"), accepted)], Some(consumer.as_ref())).await.unwrap();
    assert!(log.append(vec![record("inventory", "a", Some("0123456789"))]).await.remove(0).is_ok());
    let range = log.offsets("inventory").await.unwrap()[0];
    assert!(range.start > 0 && range.start <= accepted, "{range:?}");
    consumer.commit(&[(at("inventory"), range.end)]).await.unwrap();
}

#[tokio::test]
async fn sizes_are_counted_the_same_in_and_out() {
    let dir = TempDir::new().unwrap();
    let log = EmbeddedLog::open(EmbeddedConfig {
        retention_s: 0,
        ..EmbeddedConfig::new(dir.path().join("log.db"))
    })
    .unwrap();
    log.ensure_topic(&spec("inventory", false)).await.unwrap();
    log.append(vec![record("inventory", "a", Some("x")), record("inventory", "b", None)]).await;
    assert!(log.core.layout().bytes() > 0);
    log.maintain().await.unwrap();
    assert_eq!(log.core.layout().bytes(), 0);
}

#[test]
fn a_file_that_is_no_log_is_refused_and_left_alone() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("log.db");
    std::fs::write(&path, "not a database, but something a user cares about".repeat(100)).unwrap();
    let error = EmbeddedLog::open(EmbeddedConfig::new(&path)).err().unwrap();
    assert_eq!(error.kind, StreamErrorKind::Broken, "{error}");
    assert!(std::fs::read_to_string(&path).unwrap().starts_with("not a database"));
    let error = EmbeddedLog::open(EmbeddedConfig::new(dir.path().join("missing/log.db"))).err().unwrap();
    assert_eq!(error.kind, StreamErrorKind::Config, "{error}");
}
