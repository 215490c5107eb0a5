//! What answers hold, and which requests are refused.

use apache_avro::types::Value as Avro;
use serde_json::{Value, json};

use super::tables::{Manifest, World, document, files, paths};
use crate::{
    manifests::{ColumnMetrics, FileContent, sample_files::SampleFile},
    metadata::Document,
    scan::{Part, Span},
};

const COLUMNS: [(i64, &str, &str); 2] = [(1, "id", "long"), (2, "Name", "string")];

fn unpartitioned() -> Value {
    json!([{"spec-id": 0, "fields": []}])
}

fn data(paths: &[&str]) -> Vec<SampleFile> {
    paths.iter().map(|path| SampleFile::data(path)).collect()
}

/// Files of ids from 0 up, one each.
fn numbered(count: i64) -> Vec<SampleFile> {
    let bound = |number: i64| Some(number.to_le_bytes().to_vec());
    let file = |number: i64| {
        let metrics = ColumnMetrics {
            values: Some(1),
            nulls: Some(0),
            lower: bound(number),
            upper: bound(number),
            ..ColumnMetrics::default()
        };
        SampleFile { metrics: vec![(1, metrics)], ..SampleFile::data(&format!("file:///{number}")) }
    };
    (0..count).map(file).collect()
}

#[tokio::test]
async fn deletes_come_with_the_files_they_apply_to() {
    let world = World::new();
    let delete = |path: &str, content| SampleFile { content, ..SampleFile::data(path) };
    let partitioned = |sequence_number, files: Vec<(SampleFile, i64)>| Manifest {
        spec_id: 1,
        partition: vec![(1000, "long")],
        sequence_number,
        files: files
            .into_iter()
            .map(|(file, partition)| SampleFile { partition: vec![Some(Avro::Long(partition))], ..file })
            .collect(),
        summaries: None,
    };
    let named = SampleFile {
        referenced: Some("file:///b".to_owned()),
        ..delete("file:///named", FileContent::PositionDeletes)
    };
    let vector = SampleFile {
        format: "PUFFIN",
        referenced: Some("file:///c".to_owned()),
        ..delete("file:///vector", FileContent::PositionDeletes)
    };
    let equality =
        SampleFile { equality_ids: vec![1], ..delete("file:///equal", FileContent::EqualityDeletes) };
    let everywhere = SampleFile { path: "file:///everywhere".to_owned(), ..equality.clone() };
    let manifests = [
        partitioned(
            1,
            vec![
                (SampleFile::data("file:///a"), 1),
                (SampleFile::data("file:///b"), 1),
                (SampleFile::data("file:///c"), 2),
            ],
        ),
        partitioned(
            2,
            vec![
                (delete("file:///positions", FileContent::PositionDeletes), 1),
                (delete("file:///given-way", FileContent::PositionDeletes), 2),
                (named, 1),
                (vector, 2),
                (equality, 1),
            ],
        ),
        Manifest::plain(2, vec![everywhere]),
        // As new as the deletes: only those by position apply.
        partitioned(2, vec![(SampleFile::data("file:///d"), 1)]),
    ];
    let specs = json!([
        {"spec-id": 0, "fields": []},
        {"spec-id": 1, "fields": [{"source-id": 1, "field-id": 1000, "name": "id", "transform": "identity"}]},
    ]);
    let document = document(&COLUMNS, &specs, &[world.snapshot(2, None, &manifests).await]);
    let (tasks, deletes) = files(world.plan(&document, json!({})).await.unwrap());
    let of = |task: &Value| -> Vec<String> {
        let references = task["delete-file-references"].as_array().into_iter().flatten();
        let path = |index: &Value| deletes[index.as_u64().unwrap() as usize]["file-path"].as_str().unwrap();
        let mut paths: Vec<String> =
            references.map(|index| path(index).trim_start_matches("file:///").to_owned()).collect();
        paths.sort();
        paths
    };
    assert_eq!(paths(&tasks), ["file:///a", "file:///b", "file:///c", "file:///d"]);
    assert_eq!(of(&tasks[0]), ["equal", "everywhere", "positions"]);
    assert_eq!(of(&tasks[1]), ["equal", "everywhere", "named", "positions"]);
    assert_eq!(of(&tasks[2]), ["everywhere", "vector"]);
    assert_eq!(of(&tasks[3]), ["positions"]);
    assert_eq!(deletes.len(), 5, "what applies to nothing is not named: {deletes:?}");
    let vector = deletes.iter().find(|file| file["file-format"] == "puffin").unwrap();
    assert_eq!(
        vector,
        &json!({
            "content": "position-deletes", "file-path": "file:///vector", "file-format": "puffin", "spec-id": 1,
            "partition": [2], "file-size-in-bytes": 100, "record-count": 1, "content-offset": 4,
            "content-size-in-bytes": 40, "referenced-data-file": "file:///c",
        })
    );
    // What is left out by its partition takes its deletes along.
    let only = json!({"filter": {"type": "eq", "term": "id", "value": 2}});
    let (tasks, deletes) = files(world.plan(&document, only).await.unwrap());
    assert_eq!((paths(&tasks), deletes.len()), (vec!["file:///c"], 2));
    assert_eq!(tasks[0]["residual-filter"], true);
}

#[tokio::test]
async fn appends_between_two_snapshots_are_planned_alone() {
    let world = World::new();
    let manifest = |id, path: &str| Manifest::plain(id, data(&[path]));
    let replace = |mut snapshot: Value| {
        snapshot["summary"]["operation"] = json!("replace");
        snapshot
    };
    let snapshots = [
        world.snapshot(1, None, &[manifest(1, "file:///1")]).await,
        world.snapshot(2, Some(1), &[manifest(1, "file:///1"), manifest(2, "file:///2")]).await,
        replace(world.snapshot(3, Some(2), &[manifest(3, "file:///1-and-2")]).await),
        world.snapshot(4, Some(3), &[manifest(3, "file:///1-and-2"), manifest(4, "file:///4")]).await,
        world.snapshot(5, Some(1), &[manifest(5, "file:///aside")]).await,
    ];
    let document = document(&COLUMNS, &unpartitioned(), &snapshots);
    let plan = async |after: i64, to: i64| {
        let request = json!({"start-snapshot-id": after, "end-snapshot-id": to});
        world
            .plan(&document, request)
            .await
            .map(|planned| paths(&files(planned).0).into_iter().map(str::to_owned).collect::<Vec<_>>())
    };
    assert_eq!(plan(1, 4).await.unwrap(), ["file:///2", "file:///4"]);
    assert_eq!(plan(2, 3).await.unwrap(), Vec::<String>::new());
    assert_eq!(plan(4, 4).await.unwrap(), Vec::<String>::new());
    let error = plan(5, 4).await.unwrap_err().to_string();
    assert!(error.contains("$.start-snapshot-id: snapshot 5 is no ancestor"), "{error}");
    // A snapshot by its id is a scan of its own.
    let (tasks, _) = files(world.plan(&document, json!({"snapshot-id": 2})).await.unwrap());
    assert_eq!(paths(&tasks), ["file:///1", "file:///2"]);
}

#[tokio::test]
async fn large_scans_come_in_portions_that_hold_each_file_once() {
    let world = World::new();
    let manifests = [Manifest::plain(1, numbered(2300)), Manifest::plain(1, data(&["file:///last"]))];
    let document = document(&COLUMNS, &unpartitioned(), &[world.snapshot(1, None, &manifests).await]);
    for (request, expected) in [
        (json!({}), 2301),
        // The last one has no statistics, so that nothing is known of it.
        (json!({"filter": {"type": "gt-eq", "term": "id", "value": 500}}), 1801),
        (json!({"filter": {"type": "gt-eq", "term": "id", "value": 1500}}), 801),
    ] {
        let (scan, _) = world.open(&document, request).await.unwrap();
        let (mut open, mut found) = (vec![scan.whole()], Vec::new());
        while let Some(span) = open.pop() {
            // As plan tasks carry it.
            let span: Span = serde_json::from_value(json!(span)).unwrap();
            match scan.part(span).await.unwrap().part {
                Part::Portions(portions) => open.extend(portions),
                Part::Files { tasks, .. } => {
                    assert!(tasks.len() <= 1000);
                    found.extend(paths(&tasks).into_iter().map(str::to_owned));
                }
            }
        }
        let count = found.len();
        found.sort();
        found.dedup();
        assert_eq!((found.len(), count), (expected, expected));
    }
}

#[tokio::test]
async fn answers_hold_what_was_asked_for() {
    let world = World::new();
    let manifests = [Manifest::plain(1, numbered(5))];
    let document = document(&COLUMNS, &unpartitioned(), &[world.snapshot(1, None, &manifests).await]);
    let plan = async |request: Value| files(world.plan(&document, request).await.unwrap()).0;
    let all = plan(json!({"select": ["id", "_file"], "filter": true})).await;
    assert_eq!(
        all[1],
        json!({"residual-filter": true, "data-file": {
            "content": "data", "file-path": "file:///1", "file-format": "parquet", "spec-id": 0, "partition": [],
            "file-size-in-bytes": 100, "record-count": 1,
        }})
    );
    let file = &plan(json!({"stats-fields": ["ID"], "case-sensitive": false})).await[1]["data-file"];
    assert_eq!(file["lower-bounds"], json!({"keys": [1], "values": [1]}));
    assert_eq!(file["null-value-counts"], json!({"keys": [1], "values": [0]}));
    assert_eq!(file.get("nan-value-counts"), None);
    assert_eq!(plan(json!({"min-rows-requested": 2})).await.len(), 2);
    let some = json!({"min-rows-requested": 2, "filter": {"type": "gt", "term": "id", "value": 2}});
    assert_eq!(paths(&plan(some).await), ["file:///3", "file:///4"]);
    let unsure = json!({"min-rows-requested": 2, "filter": {"type": "is-null", "term": "Name"}});
    assert_eq!(plan(unsure).await.len(), 5, "rows that may not pass don't count");
}

#[tokio::test]
async fn a_filter_is_read_in_both_of_its_forms() {
    let world = World::new();
    let manifests = [Manifest::plain(1, numbered(5))];
    let document = document(&COLUMNS, &unpartitioned(), &[world.snapshot(1, None, &manifests).await]);
    let id = json!({"type": "reference", "name": "id"});
    let by_id = json!({"type": "reference", "id": 1});
    let literal = json!({"type": "literal", "value": 3, "data-type": "long"});
    let bucket = json!({"type": "apply", "function": "truncate", "arguments": [2, by_id]});
    for (filter, expected) in [
        (json!({"type": "eq", "term": "id", "value": 3}), &[3][..]),
        (json!({"type": "eq", "left": id, "right": 3}), &[3]),
        (json!({"type": "lt-eq", "left": literal, "right": by_id}), &[3, 4]),
        (
            json!({"type": "eq", "term": {"type": "transform", "transform": "truncate[2]", "term": "id"}, "value": 2}),
            &[2, 3],
        ),
        (json!({"type": "eq", "left": bucket, "right": 2}), &[2, 3]),
        (json!({"type": "not-in", "child": id, "values": [1, literal, 0]}), &[2, 4]),
        (
            json!({"type": "in", "term": "id", "values": {"type": "literals", "data-type": "int", "values": [4]}}),
            &[4],
        ),
        (json!({"type": "not", "child": {"type": "is-null", "child": by_id}}), &[0, 1, 2, 3, 4]),
        (json!({"type": "true"}), &[0, 1, 2, 3, 4]),
        (json!({"type": "and", "left": true, "right": {"type": "false"}}), &[]),
        // What isn't known here leaves nothing out, and stays in the filter.
        (json!({"type": "eq", "left": id, "right": id}), &[0, 1, 2, 3, 4]),
        (
            json!({"type": "eq", "left": {"type": "apply", "function": "abs", "arguments": [id]}, "right": 1}),
            &[0, 1, 2, 3, 4],
        ),
    ] {
        let (tasks, _) = files(world.plan(&document, json!({"filter": filter})).await.unwrap());
        let expected: Vec<String> = expected.iter().map(|number| format!("file:///{number}")).collect();
        assert_eq!(paths(&tasks), expected, "{filter}");
    }
}

#[tokio::test]
async fn requests_that_cannot_be_planned_say_where_they_are_wrong() {
    let world = World::new();
    let snapshot = world.snapshot(7, None, &[Manifest::plain(7, numbered(1))]).await;
    let columns = [(1, "id", "long"), (2, "Name", "string"), (3, "name", "string"), (4, "v", "variant")];
    let document: Document = document(&columns, &unpartitioned(), &[snapshot]);
    let eq = |term: Value, value: Value| json!({"type": "eq", "term": term, "value": value});
    for (request, expected) in [
        (json!({"snapshot-id": 8}), "no snapshot 8"),
        (
            json!({"start-snapshot-id": 8, "end-snapshot-id": 7}),
            "$.start-snapshot-id: snapshot 8 is no ancestor",
        ),
        (json!({"start-snapshot-id": 7}), "$.end-snapshot-id: "),
        (json!({"end-snapshot-id": 7}), "$.start-snapshot-id: "),
        (json!({"snapshot-id": 7, "end-snapshot-id": 7}), "$.snapshot-id: "),
        (json!({"min-rows-requested": -1}), "$.min-rows-requested: "),
        (json!({"select": ["id", "no"]}), "$.select[1]: there is no column 'no'"),
        (json!({"stats-fields": ["no"]}), "$.stats-fields[0]: "),
        (
            json!({"filter": eq(json!("NAME"), json!("x")), "case-sensitive": false}),
            "'NAME' may be any of the columns Name, name",
        ),
        (json!({"filter": 7}), "$.filter: a predicate is"),
        (json!({"filter": {"type": "like"}}), "$.filter.type: 'like' is no predicate"),
        (json!({"filter": {"type": "not"}}), "$.filter.child: "),
        (
            json!({"filter": {"type": "and", "left": true, "right": eq(json!("no"), json!(1))}}),
            "$.filter.right.term: there is no column 'no'",
        ),
        (json!({"filter": eq(json!("id"), json!("1"))}), "$.filter.value: \"1\" is not a whole number"),
        (json!({"filter": eq(json!("v"), json!(1))}), "values of 'v' can't be compared"),
        (
            json!({"filter": {"type": "in", "term": "id", "values": [1, 1.5]}}),
            "$.filter.values[1]: 1.5 is not",
        ),
        (json!({"filter": {"type": "in", "term": "id"}}), "$.filter.values: "),
        (json!({"filter": {"type": "starts-with", "term": "id", "value": 1}}), "'starts-with' needs a text"),
        (json!({"filter": {"type": "is-nan", "term": "id"}}), "'id' is no floating-point number"),
        (
            json!({"filter": {"type": "is-null", "child": {"type": "reference", "id": 9}}}),
            "$.filter.child.id: ",
        ),
        (
            json!({"filter": {"type": "eq", "left": {"type": "literal", "value": 1, "data-type": "text"}, "right": {"type": "reference", "id": 1}}}),
            "\"text\" is no type",
        ),
        (
            json!({"filter": {"type": "eq", "term": {"type": "transform", "transform": "day", "term": "id"}, "value": 1}}),
            "doesn't take the type of 'id'",
        ),
    ] {
        let error = match world.plan(&document, request.clone()).await {
            Ok(_) => panic!("{request} is planned"),
            Err(error) => error.to_string(),
        };
        assert!(error.contains(expected), "{request}: {error}");
    }
}

#[tokio::test]
async fn tables_without_snapshots_have_nothing_to_read() {
    let world = World::new();
    let document = document(&COLUMNS, &unpartitioned(), &[]);
    let (tasks, deletes) = files(world.plan(&document, json!({})).await.unwrap());
    assert!(tasks.is_empty() && deletes.is_empty());
}
