#![allow(clippy::unwrap_used)]

use firn_inventory::{BronzeBuilder, LogPosition, decode};
use serde_json::json;

use super::*;

fn organizations(rows: Value) -> Organizations {
    Organizations::of(Some(7), serde_json::from_value(rows).unwrap()).unwrap()
}

/// What the columns say of records, each as one line.
fn filled(organizations: &Organizations, records: &[Value]) -> Vec<String> {
    let mut builder = BronzeBuilder::default();
    for record in records {
        let position = LogPosition {
            topic_id: "t".to_owned(),
            partition: 0,
            offset: 0,
            received_at_us: 1,
            source: "native".to_owned(),
        };
        builder.push(&decode(record.to_string().as_bytes()).unwrap(), &position);
    }
    let batch = organizations.fill(&builder.finish()).unwrap();
    let columns =
        ORGANIZATION_COLUMNS.map(|name| batch.column_by_name(name).unwrap().as_string::<i32>().clone());
    let line =
        |row| columns.iter().map(|column| value(column, row).unwrap_or("-")).collect::<Vec<_>>().join(" ");
    (0..batch.num_rows()).map(line).collect()
}

#[test]
fn computer_owner_and_reported_organisation_count_in_this_order() {
    let all = organizations(json!([
        {"organization_id": "sales", "name": "Sales", "unit": "EMEA", "cost_center": 4711},
        {"organization_id": "lab", "name": "Research"},
        {"organization_id": "lab", "host_id": "pc-1"},
        {"organization_id": "sales", "owner_email": "Ann@Example.org", "unit": "Board", "host_id": ""},
        {"organization_id": "gone", "host_id": "pc-9", "note": true},
        {"host_id": "pc-2", "name": "names nobody"},
    ]));
    let rows = filled(
        &all,
        &[
            json!({"host_id": "pc-1", "owner_email": "ann@example.org", "organization_id": "sales"}),
            json!({"host_id": "pc-2", "owner_email": "ANN@example.org", "organization_id": "lab"}),
            json!({"host_id": "pc-3", "owner_email": "bob@example.org", "organization_id": "sales"}),
            json!({"host_id": "pc-4", "organization_id": "unknown"}),
            json!({"host_id": "pc-9"}),
        ],
    );
    assert_eq!(
        rows,
        [
            "lab Research - -",
            r#"sales Sales Board {"cost_center":4711}"#,
            r#"sales Sales EMEA {"cost_center":4711}"#,
            "- - - -",
            r#"gone - - {"note":true}"#,
        ]
    );
    assert_eq!((all.rows(), all.snapshot_id()), (5, Some(7)));
}

#[test]
fn of_rows_for_the_same_the_same_counts_whatever_their_order() {
    let (one, two) = (
        json!({"organization_id": "a", "name": "One", "host_id": "pc"}),
        json!({"organization_id": "a", "name": "Two", "host_id": "pc"}),
    );
    let there = organizations(json!([one, two]));
    assert_eq!(there, organizations(json!([two, one])));
    assert_eq!(filled(&there, &[json!({"host_id": "pc"})]), ["a One - -"]);
}

#[test]
fn a_table_without_organisations_is_told_and_an_empty_one_says_nothing() {
    let rows = vec![serde_json::from_value(json!({"name": "Sales"})).unwrap()];
    assert!(Organizations::of(None, rows).unwrap_err().contains("'organization_id'"));
    let empty = Organizations::of(Some(1), Vec::new()).unwrap();
    assert_eq!(filled(&empty, &[json!({"host_id": "pc", "organization_id": "a"})]), ["- - - -"]);
}

#[test]
fn computers_of_one_organisation_share_what_it_says() {
    let mut rows = vec![json!({"organization_id": "lab", "name": "x".repeat(10_000)})];
    rows.extend((0..100).map(|host| json!({"organization_id": "lab", "host_id": format!("pc-{host}")})));
    let all = organizations(json!(rows));
    assert!(all.by_host.values().all(|organization| Arc::ptr_eq(organization, &all.by_id["lab"])));
    assert!((100 * 64..100 * 10_000).contains(&all.memory_bytes()), "{}", all.memory_bytes());
}
