//! Each update and requirement, on documents small enough to read.

#![allow(clippy::unwrap_used)]

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::*;

const NOW_MS: i64 = 1_800_000_000_000;

fn context(previous: Option<&str>) -> ApplyContext<'_> {
    ApplyContext {
        now_ms: NOW_MS,
        previous_location: previous,
        default_location: "file:///w/t/",
        fresh_uuid: "11111111-1111-4111-8111-111111111111",
    }
}

fn table(version: i64) -> Document {
    let new = NewTable {
        schema: json!({"type": "struct", "identifier-field-ids": [7], "fields": [
            {"id": 7, "name": "id", "type": "long", "required": true},
            {"id": 8, "name": "tags", "required": false, "type":
                {"type": "list", "element-id": 9, "element": "string", "element-required": false}},
            {"id": 3, "name": "at", "type": "timestamptz", "required": false},
        ]}),
        partition_spec: Some(json!({"type": "struct", "fields": [
            {"source-id": 3, "field-id": 77, "transform": "day", "name": "at_day"}]})),
        write_order: Some(json!({"order-id": 5, "fields": [
            {"source-id": 7, "transform": "identity", "direction": "asc", "null-order": "nulls-first"}]})),
        properties: [("format-version".to_owned(), json!(version.to_string())), ("a".to_owned(), json!("1"))]
            .into_iter()
            .collect(),
    };
    new_table(new, &context(None)).unwrap()
}

fn apply(base: &Document, updates: Value) -> Result<Document, MetadataError> {
    let updates = updates.as_array().unwrap();
    Ok(apply_updates(Some(base), updates, &context(Some("file:///w/t/metadata/1.json")))?.unwrap())
}

fn refused(base: &Document, updates: Value, expected: &Expect) {
    expected.assert_eq(&format!("{:?}", apply(base, updates).unwrap_err()));
}

fn snapshot(id: i64, parent: Option<i64>, sequence_number: i64) -> Value {
    json!({"action": "add-snapshot", "snapshot": {
        "snapshot-id": id, "parent-snapshot-id": parent, "sequence-number": sequence_number,
        "timestamp-ms": NOW_MS + id, "manifest-list": "file:///w/t/m.avro", "summary": {"operation": "append"},
        "first-row-id": (sequence_number - 1) * 10, "added-rows": 10, "from-the-future": [1],
    }})
}

fn set_ref(name: &str, id: i64) -> Value {
    json!({"action": "set-snapshot-ref", "ref-name": name, "type": "branch", "snapshot-id": id})
}

fn json_of(document: &Document) -> Value {
    serde_json::to_value(document).unwrap()
}

fn ids(document: &Document, list: &str, field: &str) -> Vec<i64> {
    document.list(list).iter().map(|element| element[field].as_i64().unwrap()).collect()
}

#[test]
fn a_new_table_has_fresh_ids_and_every_field() {
    let document = table(2);
    expect![[r#"
        {
          "current-schema-id": 0,
          "current-snapshot-id": -1,
          "default-sort-order-id": 1,
          "default-spec-id": 0,
          "format-version": 2,
          "last-column-id": 4,
          "last-partition-id": 1000,
          "last-sequence-number": 0,
          "last-updated-ms": 1800000000000,
          "location": "file:///w/t",
          "metadata-log": [],
          "partition-specs": [
            {
              "fields": [
                {
                  "field-id": 1000,
                  "name": "at_day",
                  "source-id": 3,
                  "transform": "day"
                }
              ],
              "spec-id": 0,
              "type": "struct"
            }
          ],
          "properties": {
            "a": "1"
          },
          "refs": {},
          "schemas": [
            {
              "fields": [
                {
                  "id": 1,
                  "name": "id",
                  "required": true,
                  "type": "long"
                },
                {
                  "id": 2,
                  "name": "tags",
                  "required": false,
                  "type": {
                    "element": "string",
                    "element-id": 4,
                    "element-required": false,
                    "type": "list"
                  }
                },
                {
                  "id": 3,
                  "name": "at",
                  "required": false,
                  "type": "timestamptz"
                }
              ],
              "identifier-field-ids": [
                1
              ],
              "schema-id": 0,
              "type": "struct"
            }
          ],
          "snapshot-log": [],
          "snapshots": [],
          "sort-orders": [
            {
              "fields": [
                {
                  "direction": "asc",
                  "null-order": "nulls-first",
                  "source-id": 1,
                  "transform": "identity"
                }
              ],
              "order-id": 1
            }
          ],
          "table-uuid": "11111111-1111-4111-8111-111111111111"
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&json_of(&document)).unwrap());
}

#[test]
fn versions_differ_in_what_they_hold() {
    let (v1, v3) = (table(1), table(3));
    assert!(json_of(&v1)["schema"].is_object() && json_of(&v1)["partition-spec"].is_array());
    assert!(v1.int("last-sequence-number").is_none() && v3.int("last-sequence-number") == Some(0));
    assert_eq!((v3.int("next-row-id"), &json_of(&v3)["current-snapshot-id"]), (Some(0), &Value::Null));
    let up = apply(&v1, json!([{"action": "upgrade-format-version", "format-version": 3}])).unwrap();
    assert!(!up.0.contains_key("schema") && up.int("next-row-id") == Some(0));
    refused(
        &up,
        json!([{"action": "upgrade-format-version", "format-version": 2}]),
        &expect![[
            r#"Invalid("updates[0] (upgrade-format-version): format version 3 can't be lowered to 2")"#
        ]],
    );
}

#[test]
fn an_old_document_is_adopted_and_unknown_fields_survive() {
    let old = json!({
        "format-version": 1, "table-uuid": "u", "location": "file:///w/t", "last-updated-ms": 5,
        "last-column-id": 1, "schema": {"type": "struct", "fields": [{"id": 1, "name": "a", "type": "int", "required": false}]},
        "partition-spec": [], "current-snapshot-id": 4, "properties": {}, "from-the-future": {"x": [1.5]},
        "snapshots": [{"snapshot-id": 4, "timestamp-ms": 5, "manifests": ["m"]}],
    });
    let document = Document::parse_table(old.to_string().as_bytes()).unwrap();
    let set = json!([{"action": "set-properties", "updates": {"b": "2"}}]);
    let document = apply(&document, set).unwrap();
    assert_eq!(json_of(&document)["from-the-future"], old["from-the-future"]);
    assert_eq!(json_of(&document)["snapshots"], old["snapshots"]);
    assert_eq!(json_of(&document)["refs"], json!({"main": {"type": "branch", "snapshot-id": 4}}));
    assert_eq!(
        json_of(&document)["metadata-log"],
        json!([{"metadata-file": "file:///w/t/metadata/1.json", "timestamp-ms": 5}])
    );
}

#[test]
fn nothing_changed_is_no_new_document() {
    let base = table(2);
    let updates = [
        json!({"action": "set-properties", "updates": {"a": "1"}}),
        json!({"action": "remove-properties", "removals": ["x"]}),
    ];
    assert!(apply_updates(Some(&base), &updates, &context(None)).unwrap().is_none());
}

#[test]
fn schemas_are_added_reused_and_removed() {
    let base = table(2);
    let mut schema = base.current_schema().unwrap().clone();
    schema["fields"]
        .as_array_mut()
        .unwrap()
        .push(json!({"id": 9, "name": "new", "type": "date", "required": false}));
    let add = json!({"action": "add-schema", "schema": schema});
    let current = json!({"action": "set-current-schema", "schema-id": -1});
    let wider = apply(&base, json!([add, current])).unwrap();
    assert_eq!((wider.int("current-schema-id"), wider.int("last-column-id")), (Some(1), Some(9)));
    let mut first = base.current_schema().unwrap().clone();
    first["schema-id"] = json!(55);
    first["fields"][0]["from-the-future"] = json!(true);
    let back = apply(&wider, json!([{"action": "add-schema", "schema": first}, current])).unwrap();
    assert_eq!((back.int("current-schema-id"), ids(&back, "schemas", "schema-id")), (Some(0), vec![0, 1]));
    let gone = apply(&back, json!([{"action": "remove-schemas", "schema-ids": [1, 99]}])).unwrap();
    assert_eq!(ids(&gone, "schemas", "schema-id"), [0]);
    refused(
        &gone,
        json!([{"action": "remove-schemas", "schema-ids": [0]}]),
        &expect![[
            r#"Invalid("updates[0] (remove-schemas): schema 0 is the current one and can't be removed")"#
        ]],
    );
    refused(
        &base,
        json!([current]),
        &expect![[
            r#"Invalid("updates[0] (set-current-schema): -1 means the schema just added, but none was")"#
        ]],
    );
    refused(
        &base,
        json!([{"action": "set-current-schema", "schema-id": 8}]),
        &expect![[r#"Invalid("updates[0] (set-current-schema): the table has no schema 8")"#]],
    );
}

#[test]
fn wrong_schemas_are_refused_with_the_place() {
    let add =
        |fields: Value| json!([{"action": "add-schema", "schema": {"type": "struct", "fields": fields}}]);
    let field =
        |id: i64, name: &str, kind: Value| json!({"id": id, "name": name, "type": kind, "required": false});
    let base = table(2);
    refused(
        &base,
        add(json!([field(1, "a", json!("int")), field(1, "b", json!("int"))])),
        &expect![[r#"Invalid("updates[0] (add-schema): the fields 'a' and 'b' have the same id 1")"#]],
    );
    refused(
        &base,
        add(json!([field(1, "a", json!("int")), field(2, "a", json!("int"))])),
        &expect![[r#"Invalid("updates[0] (add-schema): the schema has two fields named 'a'")"#]],
    );
    refused(
        &base,
        add(json!([field(1, "a", json!("variant"))])),
        &expect![[
            r#"Invalid("updates[0] (add-schema): 'a' has the type 'variant', which needs format version 3")"#
        ]],
    );
    let nested = json!({"type": "struct", "fields": [field(2, "b", json!("text"))]});
    refused(
        &base,
        add(json!([field(1, "a", nested)])),
        &expect![[r#"Invalid("updates[0] (add-schema): 'a.b' has the unknown type 'text'")"#]],
    );
    apply(&table(3), add(json!([field(1, "a", json!("variant"))]))).unwrap();
}

#[test]
fn specs_are_added_reused_and_removed() {
    let base = table(2);
    let spec = |transform: &str, name: &str| json!({"action": "add-spec", "spec": {"fields": [{"source-id": 1, "transform": transform, "name": name}]}});
    let default = json!({"action": "set-default-spec", "spec-id": -1});
    let document = apply(&base, json!([spec("bucket[4]", "b"), default])).unwrap();
    assert_eq!((document.int("default-spec-id"), document.int("last-partition-id")), (Some(1), Some(1001)));
    let again = apply(&document, json!([spec("bucket[4]", "other_name")])).unwrap();
    let fields = &again.list("partition-specs")[2]["fields"][0];
    assert_eq!(fields["field-id"], 1001, "an equal field keeps its id");
    let gone = apply(&again, json!([{"action": "remove-partition-specs", "spec-ids": [0, 2]}])).unwrap();
    assert_eq!(ids(&gone, "partition-specs", "spec-id"), [1]);
    refused(
        &gone,
        json!([{"action": "remove-partition-specs", "spec-ids": [1]}]),
        &expect![[
            r#"Invalid("updates[0] (remove-partition-specs): partition spec 1 is the default one and can't be removed")"#
        ]],
    );
    refused(
        &base,
        json!([spec("day", "d"), default]),
        &expect![[r#"Invalid("the partition field 'd': the transform 'day' does not take a 'long'")"#]],
    );
    refused(
        &base,
        json!([spec("bucket[4]", "at"), default]),
        &expect![[r#"Invalid("the partition field 'at' has the name of another column")"#]],
    );
}

#[test]
fn sort_orders_are_added_and_reused() {
    let base = table(2);
    assert_eq!(base.int("default-sort-order-id"), Some(1));
    let unsorted = json!({"action": "add-sort-order", "sort-order": {"order-id": 9, "fields": []}});
    let default = json!({"action": "set-default-sort-order", "sort-order-id": -1});
    let document = apply(&base, json!([unsorted, default])).unwrap();
    assert_eq!(document.int("default-sort-order-id"), Some(0));
    let known = base.list("sort-orders")[0].clone();
    let document =
        apply(&document, json!([{"action": "add-sort-order", "sort-order": known}, default])).unwrap();
    assert_eq!((document.int("default-sort-order-id"), document.list("sort-orders").len()), (Some(1), 2));
}

#[test]
fn a_snapshot_becomes_current_by_its_reference() {
    let base = table(3);
    let staged = apply(&base, json!([snapshot(1, None, 1)])).unwrap();
    assert_eq!((staged.current_snapshot_id(), staged.list("snapshot-log").len()), (None, 0));
    let current = apply(&staged, json!([set_ref("main", 1)])).unwrap();
    assert_eq!((current.current_snapshot_id(), current.int("next-row-id")), (Some(1), Some(10)));
    assert_eq!(current.list("snapshots")[0]["from-the-future"], json!([1]));
    let two =
        json!([snapshot(2, Some(1), 2), set_ref("main", 2), snapshot(3, Some(2), 3), set_ref("main", 3)]);
    let document = apply(&current, two).unwrap();
    assert_eq!(ids(&document, "snapshot-log", "snapshot-id"), [1, 3], "2 was current within the commit only");
    let back = apply(&document, json!([set_ref("main", 1)])).unwrap();
    assert_eq!(
        (back.current_snapshot_id(), ids(&back, "snapshot-log", "snapshot-id")),
        (Some(1), vec![1, 3, 1])
    );
}

#[test]
fn lost_races_are_told_from_wrong_requests() {
    let base = apply(&table(3), json!([snapshot(1, None, 1), set_ref("main", 1)])).unwrap();
    let base = apply(&base, json!([snapshot(2, Some(1), 2), set_ref("main", 2)])).unwrap();
    refused(
        &base,
        json!([snapshot(3, Some(1), 2)]),
        &expect![[
            r#"Stale("updates[0] (add-snapshot): sequence number 2 is taken, the table's last one is 2: load the table again")"#
        ]],
    );
    refused(
        &base,
        json!([snapshot(3, Some(1), 3), set_ref("main", 3)]),
        &expect![[
            r#"Stale("updates[1] (set-snapshot-ref): snapshot 3 was built on snapshot 1, but 'main' is at 2 now: load the table again")"#
        ]],
    );
    let mut rows = snapshot(3, Some(2), 3);
    rows["snapshot"]["first-row-id"] = json!(5);
    refused(
        &base,
        json!([rows]),
        &expect![[
            r#"Stale("updates[0] (add-snapshot): row id 5 is taken, the table's next one is 20: load the table again")"#
        ]],
    );
    refused(
        &base,
        json!([snapshot(2, Some(2), 3)]),
        &expect![[r#"Invalid("updates[0] (add-snapshot): the table has a snapshot 2 already")"#]],
    );
    refused(
        &base,
        json!([set_ref("main", 9)]),
        &expect![[
            r#"Invalid("updates[0] (set-snapshot-ref): the table has no snapshot 9 for the reference 'main'")"#
        ]],
    );
    let mut early = snapshot(3, Some(2), 3);
    early["snapshot"]["timestamp-ms"] = json!(NOW_MS - 100_000);
    refused(
        &base,
        json!([early]),
        &expect![[
            r#"Invalid("updates[0] (add-snapshot): the snapshot's time 1799999900000 is more than a minute before that of the latest one, 1800000000002: check the clock of the computer that made it")"#
        ]],
    );
    // A snapshot without parent replaces the content on purpose.
    apply(&base, json!([snapshot(3, None, 3), set_ref("main", 3)])).unwrap();
}

#[test]
fn references_come_and_go() {
    let base = apply(&table(2), json!([snapshot(1, None, 1), set_ref("main", 1)])).unwrap();
    let tag = json!({"action": "set-snapshot-ref", "ref-name": "v1", "type": "tag", "snapshot-id": 1, "max-ref-age-ms": 5});
    let tagged = apply(&base, json!([tag])).unwrap();
    assert_eq!(json_of(&tagged)["refs"]["v1"], json!({"type": "tag", "snapshot-id": 1, "max-ref-age-ms": 5}));
    let gone = apply(&tagged, json!([{"action": "remove-snapshot-ref", "ref-name": "v1"}])).unwrap();
    assert_eq!(gone.0["refs"], base.0["refs"]);
    let main = json!({"action": "set-snapshot-ref", "ref-name": "main", "type": "tag", "snapshot-id": 1});
    refused(
        &base,
        json!([main]),
        &expect![[r#"Invalid("updates[0] (set-snapshot-ref): 'main' can't be a tag")"#]],
    );
    let kept = json!({"action": "set-snapshot-ref", "ref-name": "t", "type": "tag", "snapshot-id": 1, "min-snapshots-to-keep": 1});
    refused(
        &base,
        json!([kept]),
        &expect![[
            r#"Invalid("updates[0] (set-snapshot-ref): a tag such as 't' can't have 'min-snapshots-to-keep'")"#
        ]],
    );
    let emptied = apply(&tagged, json!([{"action": "remove-snapshot-ref", "ref-name": "main"}])).unwrap();
    assert_eq!((emptied.current_snapshot_id(), emptied.list("snapshot-log").len()), (None, 1));
}

#[test]
fn removed_snapshots_take_references_statistics_and_history_along() {
    let statistics = |id: i64| json!({"snapshot-id": id, "statistics-path": "p", "file-size-in-bytes": 1});
    let base =
        apply(&table(2), json!([snapshot(1, None, 1), set_ref("main", 1), set_ref("old", 1)])).unwrap();
    let base = apply(
        &base,
        json!([
            snapshot(2, Some(1), 2), set_ref("main", 2),
            {"action": "set-statistics", "statistics": statistics(1)},
            {"action": "set-partition-statistics", "partition-statistics": statistics(2)},
        ]),
    )
    .unwrap();
    let document = apply(&base, json!([{"action": "remove-snapshots", "snapshot-ids": [1, 50]}])).unwrap();
    assert_eq!(ids(&document, "snapshots", "snapshot-id"), [2]);
    assert_eq!(ids(&document, "snapshot-log", "snapshot-id"), [2]);
    assert!(json_of(&document)["refs"].get("old").is_none() && document.list("statistics").is_empty());
    assert_eq!(ids(&document, "partition-statistics", "snapshot-id"), [2]);
    let document =
        apply(&document, json!([{"action": "remove-partition-statistics", "snapshot-id": 2}])).unwrap();
    assert!(document.list("partition-statistics").is_empty());
}

#[test]
fn keys_properties_and_location_change() {
    let key = json!({"key-id": "k", "encrypted-key-metadata": "AA=="});
    let document = apply(
        &table(3),
        json!([
            {"action": "add-encryption-key", "encryption-key": key},
            {"action": "set-properties", "updates": {"b": "2", "uuid": "ignored"}},
            {"action": "remove-properties", "removals": ["a", "none"]},
            {"action": "set-location", "location": "file:///w/u/"},
        ]),
    )
    .unwrap();
    assert_eq!(json_of(&document)["encryption-keys"], json!([key]));
    assert_eq!(
        (&json_of(&document)["properties"], document.location()),
        (&json!({"b": "2"}), Some("file:///w/u"))
    );
    let document = apply(&document, json!([{"action": "remove-encryption-key", "key-id": "k"}])).unwrap();
    assert!(document.list("encryption-keys").is_empty());
    refused(
        &document,
        json!([{"action": "set-properties", "updates": {"n": 1}}]),
        &expect![[r#"Invalid("updates[0] (set-properties): the property 'n' is not a text")"#]],
    );
    refused(
        &document,
        json!([{"action": "assign-uuid", "uuid": "22222222-1111-4111-8111-111111111111"}]),
        &expect![[
            r#"Invalid("updates[0] (assign-uuid): the table has the uuid 11111111-1111-4111-8111-111111111111, which can't change")"#
        ]],
    );
}

#[test]
fn the_metadata_log_is_bounded() {
    let mut document = table(2);
    let set = |value: i64| json!([{"action": "set-properties", "updates": {"write.metadata.previous-versions-max": "3", "n": value.to_string()}}]);
    for value in 0..6 {
        document = apply(&document, set(value)).unwrap();
        // What was written before is written again for the most part.
        assert_eq!(Document::parse_table(&document.to_bytes()).unwrap(), document);
    }
    assert_eq!(document.list("metadata-log").len(), 3);
}

#[test]
fn requirements_hold_or_say_what_differs() {
    let base = apply(&table(2), json!([snapshot(1, None, 1), set_ref("main", 1)])).unwrap();
    let met = [
        json!({"type": "assert-table-uuid", "uuid": "11111111-1111-4111-8111-111111111111"}),
        json!({"type": "assert-ref-snapshot-id", "ref": "main", "snapshot-id": 1}),
        json!({"type": "assert-ref-snapshot-id", "ref": "dev", "snapshot-id": null}),
        json!({"type": "assert-last-assigned-field-id", "last-assigned-field-id": 4}),
        json!({"type": "assert-current-schema-id", "current-schema-id": 0}),
        json!({"type": "assert-last-assigned-partition-id", "last-assigned-partition-id": 1000}),
        json!({"type": "assert-default-spec-id", "default-spec-id": 0}),
        json!({"type": "assert-default-sort-order-id", "default-sort-order-id": 1}),
        json!({"type": "assert-property", "key": "a", "value": "1"}),
        json!({"type": "assert-property", "key": "b", "value": null}),
    ];
    check_requirements(Some(&base), &met).unwrap();
    check_requirements(None, &[json!({"type": "assert-create"})]).unwrap();
    let unmet = |requirement: Value, expected: &Expect| {
        expected.assert_eq(&format!("{:?}", check_requirements(Some(&base), &[requirement]).unwrap_err()));
    };
    unmet(
        json!({"type": "assert-create"}),
        &expect![[r#"Stale("requirements[0] (assert-create): the table exists already")"#]],
    );
    unmet(
        json!({"type": "assert-table-uuid", "uuid": "x"}),
        &expect![[
            r#"Stale("requirements[0] (assert-table-uuid): the table's uuid is \"11111111-1111-4111-8111-111111111111\", not x: load the table again")"#
        ]],
    );
    unmet(
        json!({"type": "assert-ref-snapshot-id", "ref": "main", "snapshot-id": null}),
        &expect![[
            r#"Stale("requirements[0] (assert-ref-snapshot-id): the snapshot of 'main' is 1, not null: load the table again")"#
        ]],
    );
    unmet(
        json!({"type": "assert-current-schema-id", "current-schema-id": 4}),
        &expect![[
            r#"Stale("requirements[0] (assert-current-schema-id): current-schema-id is 0, not 4: load the table again")"#
        ]],
    );
    unmet(
        json!({"type": "assert-property", "key": "b", "value": "1"}),
        &expect![[
            r#"Stale("requirements[0] (assert-property): the property 'b' is not set, but should be \"1\": load the table again")"#
        ]],
    );
    unmet(
        json!({"type": "assert-property", "key": "b"}),
        &expect![[r#"Invalid("requirements[0] (assert-property): 'value' is neither a text nor null")"#]],
    );
    unmet(
        json!({"type": "assert-luck"}),
        &expect![[r#"Invalid("requirements[0] (assert-luck): there is no such requirement")"#]],
    );
}

#[test]
fn views_keep_their_newest_versions() {
    let version = |sql: &str| {
        json!({"schema-id": -1, "summary": {}, "default-namespace": ["ns"],
        "representations": [{"type": "sql", "sql": sql, "dialect": "spark"}]})
    };
    let schema = json!({"type": "struct", "fields": []});
    let view = NewView {
        location: "file:///w/v".to_owned(),
        uuid: "u".to_owned(),
        schema: schema.clone(),
        view_version: version("0"),
        properties: [("version.history.num-entries".to_owned(), json!("2"))].into_iter().collect(),
    };
    let mut document = new_view(view, NOW_MS).unwrap();
    for sql in ["1", "2", "0"] {
        let updates = [
            json!({"action": "add-schema", "schema": schema}),
            json!({"action": "add-view-version", "view-version": version(sql)}),
            json!({"action": "set-current-view-version", "view-version-id": -1}),
        ];
        document = apply_view_updates(&document, &updates, NOW_MS).unwrap();
    }
    assert_eq!(ids(&document, "versions", "version-id"), [3, 4]);
    assert_eq!(ids(&document, "version-log", "version-id"), [3, 4]);
    assert_eq!(document.list("schemas").len(), 1);
    let other = [json!({"type": "assert-view-uuid", "uuid": "w"})];
    assert!(matches!(check_view_requirements(&document, &other), Err(MetadataError::Stale(_))));
}
