//! Appending, and reading without a group.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;

use super::{PATIENCE, all_of, append, at, name, options, text, topic, value};
use crate::{
    Event, Log, MAX_READ_BYTES, MAX_RECORD_BYTES, ProduceRecord, Record, StreamErrorKind, partition_for_key,
};

pub(super) async fn come_back_as_they_went_in(log: &dyn Log) {
    let topic = topic(log, 1).await;
    let full = ProduceRecord {
        topic: topic.clone(),
        key: Some(Bytes::from_static(b"acme/host-1")),
        partition: None,
        value: Some(Bytes::from_static(b"\x00binary\xff")),
        headers: vec![
            ("firn-tenant".to_owned(), Bytes::from_static(b"acme")),
            ("firn-tenant".to_owned(), Bytes::from_static(b"twice")),
            ("empty".to_owned(), Bytes::new()),
        ],
    };
    let tombstone = ProduceRecord { value: None, headers: Vec::new(), ..full.clone() };
    let bare =
        ProduceRecord { key: None, value: Some(Bytes::new()), partition: Some(0), ..tombstone.clone() };
    let offsets = append(log, vec![full.clone(), tombstone.clone(), bare.clone()]).await;
    assert_eq!(offsets, [0, 1, 2]);

    let read = all_of(log, &at(&topic, 0)).await;
    for (record, sent) in read.iter().zip([&full, &tombstone, &bare]) {
        assert_eq!((&record.key, &record.value, &record.headers), (&sent.key, &sent.value, &sent.headers));
        assert!(record.timestamp_ms > 1_700_000_000_000, "milliseconds since the epoch");
    }
    assert_eq!(read.len(), 3);
    let range = log.offsets(&topic).await.expect("offsets")[0];
    assert_eq!((range.start, range.end), (0, 3));
    let limited = log.read(&at(&topic, 0), 1, 1, PATIENCE).await.expect("read");
    assert_eq!(limited.iter().map(|record| record.offset).collect::<Vec<_>>(), [1]);
}

pub(super) async fn of_one_key_share_a_partition_in_order(log: &dyn Log) {
    let topic = topic(log, 4).await;
    let keys: Vec<String> = (0..20).map(|host| format!("acme/host-{host}")).collect();
    let keyed = |key: &String, round: i32| ProduceRecord {
        topic: topic.clone(),
        key: Some(Bytes::copy_from_slice(key.as_bytes())),
        partition: None,
        value: Some(Bytes::from(round.to_string())),
        headers: Vec::new(),
    };
    let records = (0..3).flat_map(|round| keys.iter().map(move |key| (key, round)));
    for (result, key) in log
        .append(records.map(|(key, round)| keyed(key, round)).collect())
        .await
        .into_iter()
        .zip(keys.iter().cycle())
    {
        let (partition, _) = result.expect("appended");
        assert_eq!(partition, at(&topic, partition_for_key(key.as_bytes(), 4)), "{key}");
    }
    for partition in 0..4 {
        let read = all_of(log, &at(&topic, partition)).await;
        for key in &keys {
            let of_key: Vec<String> =
                read.iter().filter(|r| r.key.as_deref() == Some(key.as_bytes())).map(value).collect();
            assert!(of_key.is_empty() || of_key == ["0", "1", "2"], "{key}: {of_key:?}");
        }
    }
}

pub(super) async fn are_refused_one_by_one(log: &dyn Log) {
    let topic = topic(log, 1).await;
    let large = ProduceRecord { value: Some(vec![b'x'; MAX_RECORD_BYTES + 1].into()), ..text(&topic, 0, "") };
    let largest = ProduceRecord { value: Some(vec![b'x'; MAX_RECORD_BYTES].into()), ..text(&topic, 0, "") };
    let records = vec![
        text(&topic, 0, "a"),
        large,
        text(&topic, 7, "b"),
        text(&name("missing"), 0, "c"),
        largest,
        text(&topic, 0, "d"),
    ];
    let results = log.append(records).await;
    let kinds: Vec<_> = results.iter().map(|result| result.as_ref().err().map(|error| error.kind)).collect();
    assert_eq!(
        kinds,
        [
            None,
            Some(StreamErrorKind::TooLarge),
            Some(StreamErrorKind::Config),
            Some(StreamErrorKind::NoSuchTopic),
            None,
            None
        ]
    );
    let read: Vec<String> = all_of(log, &at(&topic, 0)).await.iter().map(value).collect();
    assert_eq!(
        (read.len(), read[0].as_str(), read[1].len(), read[2].as_str()),
        (3, "a", MAX_RECORD_BYTES, "d")
    );
}

pub(super) async fn appended_by_many_are_all_there_once(log: &dyn Log) {
    let topic = topic(log, 2).await;
    let writer = async |writer: i32| {
        let mut acknowledged = Vec::new();
        for round in 0..20 {
            let records = (0..2).map(|p| text(&topic, p, &format!("{writer}-{round}"))).collect();
            for result in log.append(records).await {
                let (partition, offset) = result.expect("appended");
                acknowledged.push((partition.partition, offset, format!("{writer}-{round}")));
            }
        }
        acknowledged
    };
    let acknowledged: BTreeSet<_> =
        futures::future::join_all((0..8).map(writer)).await.into_iter().flatten().collect();
    let mut read = BTreeSet::new();
    for partition in 0..2 {
        let records = all_of(log, &at(&topic, partition)).await;
        read.extend(records.iter().map(|record| (record.partition, record.offset, value(record))));
    }
    assert_eq!(acknowledged.len(), 320);
    assert_eq!(read, acknowledged);
}

pub(super) async fn wake_a_waiting_reader(log: &dyn Log) {
    let topic = topic(log, 1).await;
    let partition = at(&topic, 0);
    let nothing = log.read(&partition, 0, 10, Duration::from_millis(100)).await.expect("read");
    assert!(nothing.is_empty(), "there is nothing yet");
    let reader = log.read(&partition, 0, 10, PATIENCE);
    let (read, _) = tokio::join!(reader, append(log, vec![text(&topic, 0, "late")]));
    assert_eq!(read.expect("read").iter().map(value).collect::<Vec<_>>(), ["late"]);
}

pub(super) async fn outside_of_the_log_are_truncated(log: &dyn Log) {
    let topic = topic(log, 1).await;
    append(log, vec![text(&topic, 0, "only")]).await;
    let error = log.read(&at(&topic, 0), 50, 10, PATIENCE).await.expect_err("beyond the end");
    assert_eq!(error.kind, StreamErrorKind::Truncated, "{error}");
    assert!(error.message.contains(&topic), "{error}");
}

pub(super) async fn of_many_bytes_come_in_bounded_reads(log: &dyn Log) {
    const RECORDS: i64 = 12;
    let topic = topic(log, 1).await;
    for _ in 0..RECORDS {
        let large = vec![b'x'; MAX_RECORD_BYTES - 1000];
        append(log, vec![ProduceRecord { value: Some(large.into()), ..text(&topic, 0, "") }]).await;
    }
    let bounded = |records: &[Record]| {
        let bytes: usize = records.iter().map(Record::payload_bytes).sum();
        assert!(bytes < MAX_READ_BYTES + 2 * MAX_RECORD_BYTES, "{bytes} bytes at once");
    };
    let mut read = Vec::new();
    while i64::try_from(read.len()).unwrap_or(0) < RECORDS {
        let offset = i64::try_from(read.len()).unwrap_or(0);
        let records = log.read(&at(&topic, 0), offset, 1000, PATIENCE).await.expect("read");
        assert!(!records.is_empty(), "{offset} of {RECORDS} records");
        bounded(&records);
        read.extend(records.iter().map(|record| record.offset));
    }
    assert_eq!(read, (0..RECORDS).collect::<Vec<_>>());

    let mut consumer = log.subscribe(options(&name("large"), &[&topic])).await.expect("joined");
    let mut polled = Vec::new();
    while i64::try_from(polled.len()).unwrap_or(0) < RECORDS {
        if let Some(Event::Records(_, records)) = consumer.poll(1000, PATIENCE).await.expect("polled") {
            bounded(&records);
            polled.extend(records.iter().map(|record| record.offset));
        }
    }
    assert_eq!(polled, (0..RECORDS).collect::<Vec<_>>());
    consumer.close().await;
}
