//! What a header says, and what is said of a wrong one.

#![allow(clippy::unwrap_used)]

use expect_test::expect;

use super::*;

fn error_of(text: &str) -> String {
    parse("m.sql", text).unwrap_err().to_string()
}

#[test]
fn header_is_read_whole() {
    let text = "-- About\n-- devices.\n-- model: silver.device\n-- kind: latest\n-- key: host_id\n\
                -- order: event_time, log_offset\n-- partition: day(received_at), bucket[16](host_id)\n\
                -- interval: 5m\n-- check: sane fail a < b\n-- column: a Width, in metres.\n\nSELECT * FROM silver.inventory";
    let model = parse("m.sql", text).unwrap();
    assert_eq!(model.table.to_string(), "silver.device");
    assert_eq!(model.description, "About devices.");
    assert_eq!(model.order, ["event_time", "log_offset"]);
    assert_eq!(model.partitioning[1].transform, "bucket[16]");
    assert_eq!(model.interval, Some(Duration::from_secs(300)));
    assert_eq!(model.checks[0].condition, "a < b");
    assert_eq!(model.columns["a"], "Width, in metres.");
    assert_eq!(model.inputs, [TableIdent::new("silver", "inventory")]);
}

#[test]
fn a_lazy_model_is_computed_twice_in_the_time_that_it_may_be_behind() {
    let model =
        |lines: &str| parse("m.sql", &format!("-- model: a.b\n-- kind: full\n{lines}\nSELECT * FROM x.y"));
    let eager = model("-- freshness: 10m").unwrap();
    assert_eq!((eager.freshness, eager.interval), (Some(Duration::from_secs(600)), None));
    let lazy = model("-- freshness: 10m lazy").unwrap();
    assert_eq!(
        (lazy.freshness, lazy.interval),
        (Some(Duration::from_secs(600)), Some(Duration::from_secs(300)))
    );
    let wrong = |lines: &str| model(lines).unwrap_err().to_string();
    assert!(wrong("-- freshness: soon").starts_with("m.sql:3:15: 'soon' is no duration"));
    assert!(wrong("-- freshness: 10m eager").starts_with("m.sql:3:19: unknown word 'eager'"));
    assert!(
        wrong("-- interval: 1m\n-- freshness: 10m lazy").starts_with("m.sql:4:19: 'lazy' says how often")
    );
}

#[test]
fn dedup_is_read() {
    let text = "-- model: a.b\n-- kind: append\n-- dedup: h, e within 7d of t by p, o\nSELECT * FROM x.y";
    let dedup = parse("m.sql", text).unwrap().dedup.unwrap();
    assert_eq!(
        (dedup.key, dedup.time, dedup.order),
        (vec!["h".into(), "e".into()], "t".into(), vec!["p".into(), "o".into()])
    );
    assert_eq!(dedup.within, Duration::from_secs(7 * 86_400));
}

#[test]
fn errors_point_at_the_word() {
    let wrong = [
        "SELECT * FROM a.b",
        "-- model: silver.x\n-- kynd: append\nSELECT * FROM a.b",
        "-- model: Silver\n-- kind: append\nSELECT * FROM a.b",
        "-- model: a.c\n-- kind: upsert\nSELECT * FROM a.b",
        "-- model: a.c\n-- kind: append\n-- kind: full\nSELECT * FROM a.b",
        "-- model: a.c\n-- kind: append\n-- check: x loud a > 1\nSELECT * FROM a.b",
        "-- model: a.c\n-- kind: append\n-- check: x warn\nSELECT * FROM a.b",
        "-- model: a.c\n-- kind: append\n-- interval: soon\nSELECT * FROM a.b",
        "-- model: a.c\n-- kind: append\n-- dedup: a within 7d by c\nSELECT * FROM a.b",
        "-- model: a.c\n-- kind: append\n-- partition: week(t)\nSELECT * FROM a.b",
        "-- model: a.c\n-- kind: latest\nSELECT * FROM a.b",
        "-- model: a.c\n-- kind: append\nSELECT * FROM a.b JOIN a.d ON true",
        "-- model: a.c\n-- kind: append\n-- key:\nSELECT * FROM a.b",
        "-- model: a.c\n-- kind: rules\nSELECT * FROM a.b",
        "-- model: a.c\n-- kind: aggregate\n-- judged: rule_id\nSELECT * FROM a.b",
        "-- model: a.c\n-- kind: append\nSELECT *\nFROM inventory",
        "-- model: a.c\n-- kind: append\nSELECT *\nFROM a.b WHERE (x",
        "-- model: a.c\n-- kind: append\nSELECT 1",
        "-- model: a.c\n-- kind: append\nSELECT * FROM a.b; SELECT * FROM a.d",
    ];
    let messages: Vec<_> = wrong.iter().map(|text| error_of(text)).collect();
    expect![[r#"
        m.sql:1:1: no 'model' in the header: add a line '-- model: silver.example'
        m.sql:2:4: unknown directive 'kynd': known are model, kind, key, order, dedup, current, judged, partition, interval, freshness, check, column
        m.sql:1:11: 'Silver' is no table name: write namespace.name in a-z, 0-9 and _
        m.sql:2:10: unknown kind 'upsert': append, latest, aggregate, full or rules
        m.sql:3:10: 'kind' stands twice: keep one of them
        m.sql:3:13: unknown severity 'loud': warn, drop or fail
        m.sql:3:17: check 'x' has no condition: add a SQL boolean
        m.sql:3:14: 'soon' is no duration: write a number and s, m, h or d
        m.sql:3:11: write 'KEYS within DURATION of TIME by ORDER', such as 'event_id within 7d of received_at by log_offset'
        m.sql:3:15: 'week(t)' is no partition field: write TRANSFORM(COLUMN) with identity, year, month, day, hour, bucket, truncate
        m.sql:2:10: kind 'latest' needs '-- key:' and '-- order:'
        m.sql:2:10: kind 'append' reads one table incrementally, this one reads a.b, a.d: use kind full, or join in a later model
        m.sql:3:8: 'key' has no value
        m.sql:2:10: kind 'rules' needs '-- current:', the table of latest records
        m.sql:3:12: write the names of two columns, such as 'rule_id, state'
        m.sql:4:6: table 'inventory' must be written as namespace.name
        m.sql:1:1: SQL error: ParserError("Expected: ), found: EOF")
        m.sql:3:1: the SELECT names no table
        m.sql:3:1: a model is one SELECT, this file holds 2 statements
    "#]].assert_eq(&(messages.join("\n") + "\n"));
}
