//! Scans that the catalog plans, over files and manifests as this library writes them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    deletes::{append, delete, table_of_format},
    harness::{DAY, Lake, samples},
};

/// Data files of a plan.
fn files(plan: &Value) -> Vec<&str> {
    let tasks = plan["file-scan-tasks"].as_array().unwrap();
    tasks.iter().map(|task| task["data-file"]["file-path"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn the_catalog_leaves_out_the_files_that_scans_leave_out() {
    for partitioning in [&[("at", "day")][..], &[("at", "hour"), ("host_id", "bucket[4]")], &[]] {
        let lake = Lake::start().await;
        let table = lake.samples("planned", partitioning).await;
        for day in 0..5 {
            lake.append(&table, &samples(&[("a", day * DAY, day), ("a", day * DAY + 5, day * 10)])).await;
        }
        let table = lake.load(&table).await;
        let snapshots: Vec<i64> = table.snapshots().iter().map(|snapshot| snapshot.id).collect();
        let test = |kind: &str, term: &str, value: Value| json!({"type": kind, "term": term, "value": value});
        for (filter, expected) in [
            (json!(true), 5),
            (test("gt-eq", "at", json!("1970-01-03T00:00:00+00:00")), 3),
            (test("eq", "at", json!("1970-01-03T00:00:00.000005+00:00")), 1),
            (test("lt", "at", json!("1970-01-01T00:00:00+00:00")), 0),
            (test("gt", "value", json!(25)), 2),
            (json!({"type": "in", "term": "value", "values": [3, 40]}), 4),
            (test("eq", "host_id", json!("c")), 0),
            (test("starts-with", "host_id", json!("a")), 5),
            (json!({"type": "is-null", "term": "value"}), 0),
        ] {
            let plan = lake.plan(&table, json!({"filter": filter})).await;
            assert_eq!(files(&plan).len(), expected, "{partitioning:?} {filter}: {plan}");
        }
        let increment = json!({"start-snapshot-id": snapshots[1], "end-snapshot-id": snapshots[3]});
        assert_eq!(files(&lake.plan(&table, increment).await).len(), 2);
        let earlier = json!({"snapshot-id": snapshots[1], "use-snapshot-schema": true});
        assert_eq!(files(&lake.plan(&table, earlier).await).len(), 2);

        let plan = lake.plan(&table, json!({"stats-fields": ["at", "value"]})).await;
        let mut all = plan["file-scan-tasks"].as_array().unwrap().iter().map(|task| &task["data-file"]);
        let second = |file: &&Value| file["lower-bounds"]["values"][0] == "1970-01-02T00:00:00.000000+00:00";
        let file = all.find(second).unwrap_or_else(|| panic!("{plan}"));
        assert_eq!(file["upper-bounds"]["values"], json!(["1970-01-02T00:00:00.000005+00:00", 10]));
        assert_eq!(file["partition"].as_array().unwrap().len(), partitioning.len());
        if partitioning == [("at", "day")] {
            assert_eq!(file["partition"], json!(["1970-01-02"]));
        }
    }
}

#[tokio::test]
async fn the_catalog_names_the_deletes_of_each_file() {
    for version in [2, 3] {
        let lake = Lake::start().await;
        let table = table_of_format(&lake, version).await;
        let (one, two) = (append(&lake, &table, 0, 10).await, append(&lake, &table, 10, 20).await);
        lake.commit(vec![delete(&table, &one, &[0, 1])]).await.unwrap();
        lake.commit(vec![delete(&table, &one, &[5])]).await.unwrap();
        let three = append(&lake, &table, 20, 30).await;
        let plan = lake.plan(&lake.load(&table).await, json!({})).await;
        let deletes = plan["delete-files"].as_array().unwrap();
        for task in plan["file-scan-tasks"].as_array().unwrap() {
            let path = task["data-file"]["file-path"].as_str().unwrap();
            let references: BTreeSet<u64> = task["delete-file-references"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|index| index.as_u64().unwrap())
                .collect();
            // A vector holds all of a file's deletes; files of positions add up.
            let expected = match version {
                3 => 1,
                _ => 2,
            };
            assert_eq!(references.len(), if path == one { expected } else { 0 }, "{version} {path}");
            assert!([&one, &two, &three].iter().any(|known| *known == path));
        }
        let format = if version == 3 { "puffin" } else { "parquet" };
        assert!(deletes.iter().all(|file| file["file-format"] == format), "{deletes:?}");
        assert_eq!(version == 3, deletes[0]["content-offset"].is_i64(), "{deletes:?}");
    }
}
