#![allow(clippy::unwrap_used)]

use firn_inventory::{BronzeBuilder, LogPosition, bronze_schema, decode};
use serde_json::json;

use super::*;
use crate::{compile, parse};

const SECOND: i64 = 1_000_000;

fn rule(toml: &str) -> CompiledRule {
    compile(&parse(&format!("title='T'\nseverity='low'\n{toml}"), "t.toml").unwrap(), &bronze_schema())
        .unwrap()
}

/// Records (host, second of receipt, fields) in log order, sorted as a replay wants them.
fn batch(records: &[(&str, i64, Value)]) -> RecordBatch {
    let mut records: Vec<_> = records.iter().zip(0_i64..).collect();
    records.sort_by_key(|((host, ..), offset)| (*host, *offset));
    let mut builder = BronzeBuilder::default();
    for ((host, second, fields), offset) in records {
        let mut record =
            json!({ "host_id": host, "hostname": format!("name of {host}"), "organization_id": "org" });
        record.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let position = LogPosition {
            topic_id: "t".to_owned(),
            partition: 0,
            offset,
            received_at_us: second * SECOND,
            source: "native".to_owned(),
        };
        builder.push(&decode(record.to_string().as_bytes()).unwrap(), &position);
    }
    builder.finish()
}

fn replay(rules: Vec<CompiledRule>, records: &[(&str, i64, Value)], end: i64) -> Findings {
    let mut backtest = Backtest::new(rules, end * SECOND);
    let all = batch(records);
    // In batches of two: a host may begin in one and end in another.
    for first in (0..all.num_rows()).step_by(2) {
        backtest.add(&all.slice(first, 2.min(all.num_rows() - first))).unwrap();
    }
    backtest.finish()
}

fn told(findings: &Findings) -> Vec<(&str, &str, i64, Option<i64>)> {
    let show = |episode: &Episode| episode.resolved_us.map(|at| at / SECOND);
    let of = findings.episodes.iter();
    of.map(|e| (e.rule_id.as_str(), e.host_id.as_str(), e.opened_us / SECOND, show(e))).collect()
}

#[test]
fn findings_open_and_end_with_grace_windows_and_silence_as_in_the_stream() {
    let rules = vec![
        rule("id='enc'\nrule='disk_encrypted'\ngrace_s=10"),
        rule("id='cpu'\nrule='avg(cpu_usage) <= 9000'\n[window]\nsize_s=10\nin_a_row=2\nlateness_s=0"),
        rule("id='mute'\nabsence_s=60"),
    ];
    let (on, off) =
        (json!({ "disk_encrypted": true }), json!({ "disk_encrypted": false, "cpu_usage": 9_500 }));
    let records = [
        ("a", 1, off.clone()),
        ("b", 2, on.clone()),
        ("a", 15, off.clone()),
        ("a", 30, on.clone()),
        ("c", 95, off),
        ("b", 99, on),
    ];
    let found = replay(rules, &records, 100);
    assert_eq!(
        told(&found),
        [
            ("enc", "a", 11, Some(30)),
            ("cpu", "a", 20, None),
            ("mute", "a", 90, None),
            ("mute", "b", 62, Some(99))
        ]
    );
    assert_eq!((found.records, found.hosts), (6, 3));
    assert_eq!(found.pending, BTreeMap::from([("enc".to_owned(), 1)]));
    assert_eq!(found.episodes[0].evidence, json!({ "disk_encrypted": false }));
    assert_eq!(found.episodes[0].hostname.as_deref(), Some("name of a"));
}

#[test]
fn rule_that_fails_at_run_time_is_named() {
    let rules = vec![rule("id='div'\nrule='disk_free_bytes / disk_total_bytes > 0'")];
    let found = replay(rules, &[("a", 1, json!({ "disk_free_bytes": 1, "disk_total_bytes": 0 }))], 2);
    assert!(found.errors["div"].to_lowercase().contains("zero"), "{:?}", found.errors);
    assert!(found.episodes.is_empty());
}
