#![allow(clippy::unwrap_used)]

use expect_test::expect;
use proptest::prelude::*;

use super::*;
use crate::Software;

fn rejected(json: &str) -> String {
    let rejection = decode(json.as_bytes()).unwrap_err();
    format!("{}: {}", rejection.kind.as_str(), rejection.reason)
}

#[test]
fn the_smallest_record_is_a_host_id() {
    let decoded = decode(br#" {"host_id":"a"} "#).unwrap();
    assert_eq!(decoded.inventory, Inventory { host_id: "a".into(), ..Inventory::default() });
    assert_eq!(decoded.extra, None);
}

#[test]
fn unknown_fields_are_kept_as_they_came() {
    let decoded = decode(
        br#"{"host_id":"a","gpu":{"name":"x","n":1.50},"none":null,"k\n":[1, 2],
            "software":[{"name":"vim"},{"name":"git","arch":"arm64"}]}"#,
    )
    .unwrap();
    let software = decoded.inventory.software.unwrap();
    assert_eq!(software.iter().map(|package| package.name.as_str()).collect::<Vec<_>>(), ["vim", "git"]);
    expect![[r#"{"gpu":{"name":"x","n":1.50},"none":null,"k\n":[1, 2],"software[1].arch":"arm64"}"#]]
        .assert_eq(&decoded.extra.unwrap());
}

#[test]
fn escapes_in_keys_and_values_are_read() {
    let decoded = decode(br#"{"host\u005fid":"a\u00e9\"b","hostname":"\ud83d\ude00"}"#).unwrap();
    assert_eq!(decoded.inventory.host_id, "a\u{e9}\"b");
    assert_eq!(decoded.inventory.hostname.as_deref(), Some("\u{1f600}"));
}

#[test]
fn absurd_instants_are_kept() {
    let decoded = decode(
        br#"{"host_id":"a","sent_at":"9999-12-31T23:59:59Z","booted_at":"0001-01-01T00:00:00+14:00"}"#,
    );
    assert_eq!(decoded.unwrap().inventory.sent_at.as_deref(), Some("9999-12-31T23:59:59Z"));
}

#[test]
fn records_of_any_later_version_are_read_and_what_they_add_is_kept() {
    let decoded = decode(br#"{"schema_version":99,"host_id":"a","seq":3,"npu_count":2}"#).unwrap();
    assert_eq!((decoded.inventory.schema_version, decoded.inventory.seq), (Some(99), Some(3)));
    assert_eq!(decoded.extra.as_deref(), Some(r#"{"npu_count":2}"#));
    assert!(
        rejected(r#"{"host_id":"a","schema_version":0}"#)
            .starts_with("out_of_range: field 'schema_version' is 0")
    );
    assert!(
        rejected(r#"{"host_id":"a","schema_version":"2"}"#).starts_with("wrong_type: field 'schema_version'")
    );
}

#[test]
fn rejections_say_what_is_wrong_and_where() {
    let cases = [
        "",
        "  ",
        "nonsense",
        r#"{"host_id":"a""#,
        r#"{"host_id":"a"} x"#,
        "{\"host_id\":\"a\"}\u{c}",
        r#"{"host_id":"a","cpu_count":"four","#,
        r#"{"host_id":"a","x":tru}"#,
        r#"{"host_id":"a","hostname":"\ud800"}"#,
        "[1]",
        "\"text\"",
        "{}",
        r#"{"host_id":null}"#,
        r#"{"host_id":" "}"#,
        r#"{"host_id":7}"#,
        r#"{"host_id":"a","host_id":"b"}"#,
        r#"{"host_id":"a","x":1,"x":1}"#,
        r#"{"host_id":"a","cpu_count":"four"}"#,
        r#"{"host_id":"a","cpu_count":1.5}"#,
        r#"{"host_id":"a","cpu_count":0}"#,
        r#"{"host_id":"a","cpu_usage":10001}"#,
        r#"{"host_id":"a","disk_free_bytes":-1}"#,
        r#"{"host_id":"a","disk_free_bytes":99999999999999999999}"#,
        r#"{"host_id":"a","disk_encrypted":"yes"}"#,
        r#"{"host_id":"a","collected_at":"yesterday"}"#,
        r#"{"host_id":"a","collected_at":1790000000}"#,
        r#"{"host_id":"a","host_ip":"10.0.0.1"}"#,
        r#"{"host_id":"a","host_ip":["10.0.0.1",null]}"#,
        r#"{"host_id":"a","software":[{"version":"1"}]}"#,
        r#"{"host_id":"a","software":["vim"]}"#,
        r#"{"host_id":"a","software":[{"name":"vim","name":"vim"}]}"#,
    ];
    let answers: String = cases.iter().map(|case| rejected(case) + "\n").collect();
    expect![[r#"
        not_json: the record is empty
        not_json: the record is empty
        not_json: not JSON: Invalid literal (`true`, `false`, or a `null`) while parsing at line 1 column 4
        not_json: not JSON: EOF while parsing at line 1 column 14
        not_json: not JSON: JSON has non-whitespace trailing characters after the value at line 1 column 17
        not_json: not JSON: JSON has non-whitespace trailing characters after the value at line 1 column 16
        not_json: not JSON: Expected this character to be '"' or '}' at line 1 column 34
        not_json: not JSON: Invalid literal (`true`, `false`, or a `null`) while parsing at line 1 column 23
        not_json: field 'hostname' holds an escape that is no character
        not_an_object: the record is not a JSON object
        not_an_object: the record is not a JSON object
        missing_field: field 'host_id' is missing
        missing_field: field 'host_id' is missing
        missing_field: field 'host_id' is empty
        wrong_type: field 'host_id' holds a number, not text
        duplicate_field: field 'host_id' stands twice
        duplicate_field: field 'x' stands twice
        wrong_type: field 'cpu_count' holds text, not a whole number
        wrong_type: field 'cpu_count' holds a number with a fraction or exponent, not a whole number
        out_of_range: field 'cpu_count' is 0, not within 1 to 1048576 (processors)
        out_of_range: field 'cpu_usage' is 10001, not within 0 to 10000 (1/100 percent)
        out_of_range: field 'disk_free_bytes' is -1, not within 0 to 9223372036854775807 (bytes)
        out_of_range: field 'disk_free_bytes' is 99999999999999999999, not within 0 to 9223372036854775807 (bytes)
        wrong_type: field 'disk_encrypted' holds text, not true or false
        wrong_type: field 'collected_at' holds 'yesterday', not an instant such as 2026-11-22T10:00:00Z
        wrong_type: field 'collected_at' holds a number, not an instant such as 2026-11-22T10:00:00Z
        wrong_type: field 'host_ip' holds text, not an array
        wrong_type: field 'host_ip[1]' holds null, not text
        missing_field: field 'software[0].name' is missing
        wrong_type: field 'software[0]' holds text, not an object
        duplicate_field: field 'software[0].name' stands twice
    "#]].assert_eq(&answers);
}

#[test]
fn invalid_utf8_is_rejected() {
    let rejection = decode(b"{\"host_id\":\"a\xff\"}").unwrap_err();
    assert_eq!(rejection.reason, "not UTF-8 at byte 13");
}

#[test]
fn deep_nesting_is_rejected_before_it_can_overflow_the_stack() {
    let deep = format!(r#"{{"host_id":"a","x":{}"#, "[".repeat(1_000_000));
    assert_eq!(decode(deep.as_bytes()).unwrap_err().kind, RejectionKind::OutOfRange);
    assert_eq!(host_id(deep.as_bytes()).unwrap_err().kind, RejectionKind::OutOfRange);
    let brackets_in_text = format!(r#"{{"host_id":"a","hostname":"\"{}"}}"#, "[".repeat(1000));
    decode(brackets_in_text.as_bytes()).unwrap();
    let wide = format!(r#"{{"host_id":"a","x":[{}[]]}}"#, "[],".repeat(1000));
    decode(wide.as_bytes()).unwrap();
    let nested =
        |depth: usize| format!(r#"{{"host_id":"a","x":{}{}}}"#, "[".repeat(depth - 1), "]".repeat(depth - 1));
    decode(nested(MAX_NESTING).as_bytes()).unwrap();
    let rejection = decode(nested(MAX_NESTING + 1).as_bytes()).unwrap_err();
    assert_eq!(rejection.reason, "objects and arrays are nested more than 64 deep");
}

#[test]
fn host_id_is_found_without_judging_the_rest() {
    assert_eq!(host_id(br#"{"cpu_count":"four","host_id":"a","host_id":"b""#).unwrap(), "a");
    for (record, kind) in [
        (&b"[]"[..], RejectionKind::NotAnObject),
        (b"", RejectionKind::NotJson),
        (b"{}", RejectionKind::MissingField),
        (br#"{"host_id":""}"#, RejectionKind::MissingField),
        (br#"{"host_id":1}"#, RejectionKind::WrongType),
        (br#"{"x":{"host_id":"inner"}}"#, RejectionKind::MissingField),
        (br#"{"x""#, RejectionKind::NotJson),
    ] {
        assert_eq!(host_id(record).unwrap_err().kind, kind, "{}", String::from_utf8_lossy(record));
    }
}

prop_compose! {
    fn inventories()(
        host_id in "[a-z]\\PC{0,20}",
        texts in proptest::collection::vec(proptest::option::of(".{0,20}"), 4),
        second in proptest::option::of(0..253_402_300_799_i64),
        seq in proptest::option::of(0..i64::MAX),
        cpu_usage in proptest::option::of(0..=10_000),
        disk_free_bytes in proptest::option::of(0..i64::MAX),
        disk_encrypted in any::<Option<bool>>(),
        host_ip in proptest::option::of(proptest::collection::vec(".{0,10}", 0..4)),
        names in proptest::option::of(proptest::collection::vec((".{0,9}", proptest::option::of(".{0,9}")), 0..100)),
    ) -> Inventory {
        let instant = |s| chrono::DateTime::from_timestamp(s, 0).unwrap().to_rfc3339();
        let software = |(name, version)| Software { name, version, vendor: None };
        Inventory {
            host_id,
            event_id: texts[0].clone(),
            hostname: texts[1].clone(),
            os_name: texts[2].clone(),
            owner_email: texts[3].clone(),
            collected_at: second.map(instant),
            seq, cpu_usage, disk_free_bytes, disk_encrypted, host_ip,
            software: names.map(|names| names.into_iter().map(software).collect()),
            ..Inventory::default()
        }
    }
}

proptest! {
    #[test]
    fn what_was_written_is_read(record in inventories()) {
        let json = serde_json::to_vec(&record).unwrap();
        let decoded = decode(&json).unwrap();
        prop_assert_eq!(&decoded.inventory, &record);
        prop_assert_eq!(decoded.extra, None);
        prop_assert_eq!(host_id(&json).unwrap(), record.host_id);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes);
        let _ = host_id(&bytes);
    }

    #[test]
    fn almost_json_never_panics(text in r#"\{("(host_id|software|x)":(\[\{"name":"a"|"a"|1|nul|\]|\}|,|\\u12)*,?)*"#) {
        let _ = decode(text.as_bytes());
        let _ = host_id(text.as_bytes());
    }
}
