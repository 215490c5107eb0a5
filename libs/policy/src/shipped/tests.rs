//! Each shipped rule against rows that pass, fail and can't be told, over the real schema of `bronze.inventory`.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, sync::Arc};

use arrow::{array::RecordBatch, json::ReaderBuilder};
use firn_inventory::bronze_schema;
use serde_json::{Value, json};

use super::*;
use crate::{
    CompiledRule,
    Verdict::{self, Fail, NoResult, Pass},
    compile,
};

/// A batch of one record, received at noon of 2026-11-22.
fn record(fields: &Value) -> RecordBatch {
    let mut row = json!({
        "received_at": "2026-11-22T12:00:00Z", "event_time": "2026-11-22T12:00:00Z", "clock_skew_s": 0, "source": "native",
        "log_topic_id": "t", "log_partition": 0, "log_offset": 0, "host_id": "h",
    });
    row.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let mut decoder = ReaderBuilder::new(Arc::clone(&bronze_schema())).build_decoder().unwrap();
    decoder.serialize(&[row]).unwrap();
    decoder.flush().unwrap().unwrap()
}

fn rule(id: &str) -> CompiledRule {
    let policy = shipped().into_iter().find(|policy| policy.id == id).unwrap();
    compile(&policy, &bronze_schema()).unwrap()
}

fn check(id: &str, rows: &[(Value, Verdict)]) {
    let rule = rule(id);
    for (fields, expected) in rows {
        let (evaluation, error) = rule.evaluate(&record(fields));
        assert_eq!((evaluation.verdicts[0], error), (*expected, None), "{id}: {fields}");
    }
}

#[test]
fn every_file_ships_under_its_own_id_with_words_for_people() {
    let policies = shipped();
    let ids: BTreeSet<String> = policies.iter().map(|policy| format!("{}.toml", policy.id)).collect();
    assert_eq!(ids, FILES.iter().map(|(file, _)| (*file).to_owned()).collect());
    for policy in &policies {
        compile(policy, &bronze_schema()).unwrap();
        for text in [&policy.description, &policy.rationale, &policy.remediation] {
            assert!(!text.trim().is_empty(), "{} lacks words", policy.id);
        }
    }
}

#[test]
fn plain_switches_pass_fail_or_are_unknown() {
    for (id, column) in [
        ("disk-encryption", "disk_encrypted"),
        ("firewall", "firewall_enabled"),
        ("screen-lock", "screen_lock_enabled"),
    ] {
        let of = |value: Value| json!({ "os_type": "windows", "host_type": "laptop", column: value });
        check(id, &[(of(json!(true)), Pass), (of(json!(false)), Fail), (of(Value::Null), NoResult)]);
    }
}

#[test]
fn screens_of_servers_are_not_judged() {
    check("screen-lock", &[(json!({ "host_type": "server", "screen_lock_enabled": false }), NoResult)]);
}

#[test]
fn disk_space_needs_a_tenth_free() {
    check(
        "disk-space",
        &[
            (json!({ "disk_free_bytes": 100, "disk_total_bytes": 1000 }), Pass),
            (json!({ "disk_free_bytes": 99, "disk_total_bytes": 1000 }), Fail),
            (
                json!({ "disk_free_bytes": 9_000_000_000_000_000_000_i64, "disk_total_bytes": 9_100_000_000_000_000_000_i64 }),
                Pass,
            ),
            (json!({ "disk_free_bytes": 5, "disk_total_bytes": 0 }), NoResult),
            (json!({ "disk_free_bytes": 5 }), NoResult),
        ],
    );
}

#[test]
fn antivirus_must_be_on_and_fresh() {
    let of = |enabled: bool, updated: &str| json!({ "os_type": "windows", "antivirus_enabled": enabled, "antivirus_updated_at": updated });
    check(
        "antivirus",
        &[
            (of(true, "2026-11-08T12:00:00Z"), Pass),
            (of(true, "2026-11-08T11:59:59Z"), Fail),
            (of(false, "2026-11-22T12:00:00Z"), Fail),
            (json!({ "os_type": "windows", "antivirus_enabled": false }), Fail),
            (json!({ "os_type": "windows", "antivirus_enabled": true }), NoResult),
            (json!({ "os_type": "linux", "antivirus_enabled": false }), NoResult),
        ],
    );
}

#[test]
fn secure_boot_and_tpm_are_both_needed() {
    let of =
        |boot: Value, tpm: Value| json!({ "os_type": "windows", "secure_boot": boot, "tpm_present": tpm });
    check(
        "secure-boot-tpm",
        &[
            (of(json!(true), json!(true)), Pass),
            (of(json!(false), Value::Null), Fail),
            (of(json!(true), json!(false)), Fail),
            (of(json!(true), Value::Null), NoResult),
            (json!({ "os_type": "macos", "secure_boot": false, "tpm_present": false }), NoResult),
        ],
    );
}

#[test]
fn patches_may_be_thirty_days_old() {
    check(
        "patch-age",
        &[
            (json!({ "patched_at": "2026-10-23T12:00:00Z" }), Pass),
            (json!({ "patched_at": "2026-10-23T11:59:59Z" }), Fail),
            (json!({}), NoResult),
        ],
    );
}

#[test]
fn long_uptime_or_a_pending_reboot_is_a_breach() {
    check(
        "uptime-reboot",
        &[
            (json!({ "booted_at": "2026-11-01T00:00:00Z", "reboot_pending": false }), Pass),
            (json!({ "booted_at": "2026-11-01T00:00:00Z" }), Pass),
            (json!({ "booted_at": "2026-11-01T00:00:00Z", "reboot_pending": true }), Fail),
            (json!({ "booted_at": "2026-09-01T00:00:00Z" }), Fail),
            (json!({ "reboot_pending": true }), Fail),
            (json!({}), NoResult),
        ],
    );
}

#[test]
fn at_most_three_local_administrators() {
    check(
        "local-admins",
        &[
            (json!({ "local_admins": ["a", "b", "c"] }), Pass),
            (json!({ "local_admins": [] }), Pass),
            (json!({ "local_admins": ["a", "b", "c", "d"] }), Fail),
            (json!({}), NoResult),
        ],
    );
}

#[test]
fn minimum_versions_are_by_system() {
    let of = |os: &str, name: &str, version: &str| json!({ "os_type": os, "os_name": name, "os_version": version });
    check(
        "min-os-version",
        &[
            (of("windows", "Windows 11", "10.0.22631"), Pass),
            (of("windows", "Windows 10", "10.0.9200"), Fail),
            (of("macos", "macOS", "14.6.1"), Pass),
            (of("macos", "macOS", "12.7"), Fail),
            (of("linux", "Ubuntu", "24.04"), Pass),
            (of("linux", "Ubuntu", "20.04"), Fail),
            (of("linux", "Debian GNU/Linux", "12"), Pass),
            (of("linux", "Debian GNU/Linux", "10"), Fail),
            (of("linux", "Gentoo", "2.15"), NoResult),
            (of("linux", "Ubuntu", "unknown"), NoResult),
        ],
    );
}

#[test]
fn forbidden_packages_are_found_by_name() {
    let of = |names: &[&str]| {
        let software: Vec<Value> = names.iter().map(|name| json!({ "name": name, "version": "1" })).collect();
        json!({ "software": software })
    };
    check(
        "forbidden-software",
        &[
            (of(&["firefox", "curl"]), Pass),
            (of(&["curl", "uTorrent"]), Fail),
            (of(&[]), Pass),
            (json!({}), NoResult),
        ],
    );
}

#[test]
fn busy_processors_are_a_breach_after_three_windows_of_five_minutes() {
    const MINUTE: i64 = 60_000_000;
    let rule = rule("cpu-load");
    let window = rule.window().unwrap();
    let mut state = window.start();
    let mut told = Vec::new();
    // Two samples in each window: 9,200 and 8,900 are on average above 9,000 hundredths, 9,000 and 9,000 are not.
    for (minute, usage) in [(0, 9_200), (3, 8_900), (5, 9_500), (10, 10_000), (15, 9_000), (19, 9_000)] {
        let at = minute * MINUTE;
        told.extend(window.close(&mut state, at));
        let (samples, error) = rule.samples(&record(&json!({ "cpu_usage": usage }))).unwrap();
        assert_eq!((window.add(&mut state, at, at, &samples, 0), error), (false, None));
    }
    told.extend(window.close(&mut state, 21 * MINUTE));
    let told: Vec<_> = told.iter().map(|closed| (closed.end_us / MINUTE, closed.verdict)).collect();
    assert_eq!(told, [(5, NoResult), (10, NoResult), (15, Fail), (20, Pass)]);
}

#[test]
fn seven_silent_days_are_a_breach() {
    assert_eq!(rule("inventory-missing").absence_us(), Some(7 * 24 * 3_600 * 1_000_000));
}
