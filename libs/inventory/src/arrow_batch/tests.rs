#![allow(clippy::unwrap_used)]

use arrow::{
    array::{ArrayRef, AsArray, RecordBatch},
    datatypes::TimestampMicrosecondType,
    util::pretty::pretty_format_batches,
};
use expect_test::expect;

use super::*;
use crate::{Decoded, Rejection, RejectionKind, decode};

const RECEIVED_AT_US: i64 = 1_790_000_000_000_000;

fn position(offset: i64) -> LogPosition {
    LogPosition {
        topic_id: "t1".into(),
        partition: 3,
        offset,
        received_at_us: RECEIVED_AT_US,
        source: "native".into(),
    }
}

/// As a table. Zones are dropped: this crate alone builds Arrow without a time zone database.
fn shown(batch: &RecordBatch, columns: &[&str]) -> String {
    let without_zone = |column: &ArrayRef| match column.as_primitive_opt::<TimestampMicrosecondType>() {
        Some(instants) => std::sync::Arc::new(instants.clone().with_timezone_opt(None::<&str>)) as ArrayRef,
        None => column.clone(),
    };
    let columns = columns.iter().map(|name| (*name, without_zone(batch.column_by_name(name).unwrap()), true));
    let shown = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    pretty_format_batches(&[shown]).unwrap().to_string()
}

fn record(json: &str) -> Decoded {
    decode(json.as_bytes()).unwrap()
}

#[test]
fn records_become_rows() {
    let mut builder = BronzeBuilder::default();
    builder.push(
        &record(
            r#"{"host_id":"a","collected_at":"2026-09-21T13:00:00Z","sent_at":"2026-09-21T14:00:00Z","cpu_usage":250,
                "disk_encrypted":true,"host_ip":["::1","10.0.0.1"],"software":[{"name":"vim","version":"9"}],"x":1}"#,
        ),
        &position(7),
    );
    builder.push(&record(r#"{"host_id":"b","software":[]}"#), &position(8));
    assert_eq!(builder.len(), 2);
    assert!(builder.memory_bytes() > 100);
    let batch = builder.finish();
    assert!(builder.is_empty());
    let columns = [
        "received_at",
        "event_time",
        "clock_skew_s",
        "log_offset",
        "host_id",
        "cpu_usage",
        "disk_encrypted",
        "host_ip",
        "software",
        "extra",
    ];
    let table = shown(&batch, &columns);
    expect![[r#"
        +---------------------+---------------------+--------------+------------+---------+-----------+----------------+-----------------+-------------------------------------+---------+
        | received_at         | event_time          | clock_skew_s | log_offset | host_id | cpu_usage | disk_encrypted | host_ip         | software                            | extra   |
        +---------------------+---------------------+--------------+------------+---------+-----------+----------------+-----------------+-------------------------------------+---------+
        | 2026-09-21T14:13:20 | 2026-09-21T13:13:20 | -800         | 7          | a       | 250       | true           | [::1, 10.0.0.1] | [{name: vim, version: 9, vendor: }] | {"x":1} |
        | 2026-09-21T14:13:20 | 2026-09-21T14:13:20 |              | 8          | b       |           |                |                 | []                                  |         |
        +---------------------+---------------------+--------------+------------+---------+-----------+----------------+-----------------+-------------------------------------+---------+"#]].assert_eq(&table);
}

#[test]
fn some_columns_are_what_they_are_among_all() {
    let record = record(r#"{"host_id":"a","os_name":"Ubuntu 22.04.3 LTS","os_type":"linux","seq":3,"x":1}"#);
    let mut all = BronzeBuilder::default();
    all.push(&record, &position(7));
    let all = all.finish();
    let wanted = [&["seq", "platform", "extra"][..], &["platform_version"], &["os_type", "host_id"], &[]];
    for names in wanted {
        let mut some = BronzeBuilder::of_columns(1, &names.iter().map(|name| (*name).to_owned()).collect());
        some.push(&record, &position(7));
        let some = some.finish();
        assert_eq!(some.num_columns(), 7 + names.len(), "{names:?}");
        for (field, column) in some.schema().fields().iter().zip(some.columns()) {
            assert_eq!(Some(column), all.column_by_name(field.name()), "{}", field.name());
        }
        names.iter().for_each(|name| assert!(some.column_by_name(name).is_some(), "{name}"));
    }
}

#[test]
fn event_time_trusts_durations_and_not_clocks() {
    let delay = |collected: &str, sent: &str| {
        let json = format!(r#"{{"host_id":"a","collected_at":"{collected}","sent_at":"{sent}"}}"#);
        let mut builder = BronzeBuilder::default();
        builder.push(&record(&json), &position(0));
        let batch = builder.finish();
        let times = batch.column_by_name("event_time").unwrap();
        let times = times.as_any().downcast_ref::<arrow::array::TimestampMicrosecondArray>().unwrap();
        (RECEIVED_AT_US - times.value(0)) / 1_000_000
    };
    assert_eq!(delay("1970-01-01T00:00:00Z", "1970-01-01T00:01:00Z"), 60);
    assert_eq!(delay("2026-01-01T00:01:00Z", "2026-01-01T00:00:00Z"), 0);
    assert_eq!(delay("0001-01-01T00:00:00Z", "9999-01-01T00:00:00Z"), 30 * 24 * 3600);
}

#[test]
fn rejected_records_keep_their_bytes() {
    let mut builder = QuarantineBuilder::default();
    builder.push(&decode(b"\xff").unwrap_err(), b"\xff", &position(1));
    let raw = br#"{"host_id":"a","seq":-1}"#;
    builder.push(&decode(raw).unwrap_err(), raw, &position(2));
    builder.push(&Rejection::new(RejectionKind::Tombstone, "no payload"), b"", &position(3));
    let columns = ["received_at", "reason", "reason_kind", "host_id", "raw", "log_partition", "log_offset"];
    let table = shown(&builder.finish(), &columns);
    expect![[r#"
        +---------------------+--------------------------------------------------------+--------------+---------+--------------------------------------------------+---------------+------------+
        | received_at         | reason                                                 | reason_kind  | host_id | raw                                              | log_partition | log_offset |
        +---------------------+--------------------------------------------------------+--------------+---------+--------------------------------------------------+---------------+------------+
        | 2026-09-21T14:13:20 | not UTF-8 at byte 0                                    | not_json     |         | ff                                               | 3             | 1          |
        | 2026-09-21T14:13:20 | field 'seq' is -1, not within 0 to 9223372036854775807 | out_of_range | a       | 7b22686f73745f6964223a2261222c22736571223a2d317d | 3             | 2          |
        | 2026-09-21T14:13:20 | no payload                                             | tombstone    |         |                                                  | 3             | 3          |
        +---------------------+--------------------------------------------------------+--------------+---------+--------------------------------------------------+---------------+------------+"#]].assert_eq(&table);
}

#[test]
fn columns_document_unit_and_class() {
    let schema = bronze_schema();
    let doc = |name: &str| schema.field_with_name(name).unwrap().metadata()["doc"].clone();
    assert_eq!(doc("memory_total_bytes"), "Memory, bytes. Unit: bytes. Class: public.");
    assert_eq!(doc("owner_email"), "Mail address of its owner. Class: personal.");
    for column in schema.fields().iter().chain(quarantine_schema().fields()) {
        assert!(column.metadata()["doc"].contains("Class: "), "{}", column.name());
    }
}
