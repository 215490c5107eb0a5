//! Runs on a real catalog: what they publish, and what is never seen.

#![allow(clippy::unwrap_used)]

mod equality;
mod freshness;
mod memory;
mod on_demand;
mod reshaped;

use expect_test::expect;
use serde_json::json;

use firn_catalog_client::iceberg::TableIdent;
use firn_table::Operation;

use super::*;
use crate::{
    Model, RunState, models,
    testing::{Lake, growing, inventory, kill_after},
};

async fn promote(lake: &Lake, promotion: &Promotion) {
    let mut place = TenantPlace::default();
    promotion.visit(&lake.client, &mut place, &CancellationToken::new()).await;
}

/// The receipt of the newest run, as "table action rows (dropped)"; of compliance, rows per rule.
fn receipt(promotion: &Promotion) -> Vec<String> {
    let newest = promotion.history.of("acme").into_iter().next().unwrap();
    assert_eq!(newest.state, RunState::Succeeded, "{newest:?}");
    let line = |model: &ModelReceipt| {
        let rules = if model.model.starts_with("gold.compliance") { per_record() } else { 1 };
        format!("{} {} {} ({})", model.model, model.action, model.rows / rules, model.dropped)
    };
    newest.receipt.unwrap().models.iter().map(line).collect()
}

fn per_record() -> u64 {
    firn_policy::shipped().iter().filter(|policy| policy.is_per_record()).count() as u64
}

async fn first_reports(lake: &Lake) {
    let package = json!({"disk_encrypted": true, "cpu_usage": 5000, "disk_total_bytes": 100, "disk_free_bytes": 25,
        "software": [{"name": "bash", "version": "5.2"}, {"name": "vim"}]});
    let reports = [
        inventory(0, "h1", "e1", package),
        inventory(1, "h1", "e1", json!({"disk_encrypted": true})),
        inventory(2, "h2", "e2", json!({"disk_encrypted": false, "cpu_usage": 1000})),
    ];
    lake.report(&reports).await;
}

const COMPLIANCE: &str =
    "SELECT host_id, state, since, evidence FROM t WHERE rule_id = 'disk-encryption' ORDER BY host_id";

#[tokio::test]
async fn a_run_fills_every_layer_and_publishes_once() {
    let lake = Lake::start().await;
    let promotion = lake.compactor("one").promotion;
    first_reports(&lake).await;
    promote(&lake, &promotion).await;
    expect![[r#"
        [
            "silver.inventory full 2 (1)",
            "gold.org_metrics full 3 (0)",
            "silver.device full 2 (0)",
            "gold.compliance full 2 (0)",
            "gold.device_health full 2 (0)",
            "silver.device_daily full 2 (0)",
            "gold.compliance_daily full 1 (0)",
            "silver.software full 2 (0)",
        ]
    "#]]
    .assert_debug_eq(&receipt(&promotion));
    expect![[r#"
        +---------+-------+----------------------+--------------------------+
        | host_id | state | since                | evidence                 |
        +---------+-------+----------------------+--------------------------+
        | h1      | pass  | 2026-11-22T10:00:00Z | {"disk_encrypted":true}  |
        | h2      | fail  | 2026-11-22T10:02:00Z | {"disk_encrypted":false} |
        +---------+-------+----------------------+--------------------------+"#]]
    .assert_eq(&lake.rows("main", "gold.compliance", COMPLIANCE).await);
    let metrics = "SELECT organization_id, window_start, hosts, samples, cpu_usage_avg, disk_used_share FROM t WHERE window_size = 'hour'";
    expect![[r#"
        +-----------------+----------------------+-------+---------+---------------+-----------------+
        | organization_id | window_start         | hosts | samples | cpu_usage_avg | disk_used_share |
        +-----------------+----------------------+-------+---------+---------------+-----------------+
        | org-1           | 2026-11-22T10:00:00Z | 2     | 2       | 30.0          | 0.75            |
        +-----------------+----------------------+-------+---------+---------------+-----------------+"#]]
    .assert_eq(&lake.rows("main", "gold.org_metrics", metrics).await);
    let daily = "SELECT day, hosts, passing, failing, no_result, compliant_share FROM t WHERE rule_id = 'disk-encryption'";
    expect![[r#"
        +------------+-------+---------+---------+-----------+-----------------+
        | day        | hosts | passing | failing | no_result | compliant_share |
        +------------+-------+---------+---------+-----------+-----------------+
        | 2026-11-22 | 2     | 1       | 1       | 0         | 0.5             |
        +------------+-------+---------+---------+-----------+-----------------+"#]]
    .assert_eq(&lake.rows("main", "gold.compliance_daily", daily).await);
    let software = "SELECT host_id, name, version FROM t ORDER BY name";
    expect![[r#"
        +---------+------+---------+
        | host_id | name | version |
        +---------+------+---------+
        | h1      | bash | 5.2     |
        | h1      | vim  |         |
        +---------+------+---------+"#]]
    .assert_eq(&lake.rows("main", "silver.software", software).await);
    assert_eq!(lake.references().await, ["main"]);
    let log = lake.client.log("main", 50, false).await.unwrap();
    let receipts = log.iter().filter(|entry| entry.commit_meta.all_properties.contains_key(RECEIPT_PROPERTY));
    assert_eq!(receipts.count(), 1);
    let status = &lake.board.all()[&(PROMOTION.to_owned(), "acme".to_owned())];
    assert_eq!(status.state, StageState::Running, "{status:?}");
    assert_eq!((status.totals["runs"], status.totals["rows silver.inventory"]), (1, 2));
}

/// Which of the outputs `main` has, and how many rows of `silver.inventory`.
async fn outputs(lake: &Lake) -> (usize, String) {
    let mut there = 0;
    for table in
        ["silver.inventory", "silver.device", "silver.software", "gold.compliance", "gold.org_metrics"]
    {
        there += usize::from(lake.table(MAIN, table).await.is_some());
    }
    let count = "SELECT count(*) AS n FROM t";
    let rows = if there > 0 { lake.rows(MAIN, "silver.inventory", count).await } else { String::new() };
    (there, rows)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_killed_anywhere_leaves_main_whole() {
    let lake = Lake::start().await;
    first_reports(&lake).await;
    let mut kills = 0;
    for polls in growing() {
        let promotion = lake.compactor("one").promotion;
        let ended = kill_after(polls, promote(&lake, &promotion)).await;
        let (there, rows) = outputs(&lake).await;
        assert!(
            there == 0 || there == 5 && rows.contains("| 2 |"),
            "{there} outputs after {polls} polls: {rows}"
        );
        if ended && there == 5 {
            break;
        }
        kills += 1;
    }
    assert!(kills > 5, "it was killed {kills} times only");
    // The same again for a run that finds outputs.
    lake.report(&[inventory(3, "h2", "e3", json!({"disk_encrypted": true}))]).await;
    for polls in growing() {
        let promotion = lake.compactor("one").promotion;
        let ended = kill_after(polls, promote(&lake, &promotion)).await;
        let (_, rows) = outputs(&lake).await;
        assert!(rows.contains("| 2 |") || rows.contains("| 3 |"), "after {polls} polls: {rows}");
        if ended && rows.contains("| 3 |") {
            break;
        }
    }
    // The killed runs' branches go with the next run that has work.
    lake.report(&[inventory(4, "h2", "e4", json!({}))]).await;
    promote(&lake, &lake.compactor("one").promotion).await;
    assert_eq!(lake.references().await, ["main"]);
    let log = lake.client.log("main", 100, false).await.unwrap();
    let receipts = log.iter().filter(|entry| entry.commit_meta.all_properties.contains_key(RECEIPT_PROPERTY));
    assert_eq!(receipts.count(), 3, "each run was published once");
}

#[tokio::test]
async fn increments_take_what_is_new_and_a_second_look_does_nothing() {
    let lake = Lake::start().await;
    let promotion = lake.compactor("one").promotion;
    first_reports(&lake).await;
    promote(&lake, &promotion).await;
    let head = lake.client.reference(MAIN).await.unwrap();
    promote(&lake, &promotion).await;
    assert_eq!(lake.client.reference(MAIN).await.unwrap(), head);

    let reports = [
        inventory(3, "h2", "e3", json!({"disk_encrypted": true})),
        inventory(4, "h1", "e1", json!({"disk_encrypted": true})),
        inventory(5, "h3", "e4", json!({})),
    ];
    lake.report(&reports).await;
    promote(&lake, &promotion).await;
    expect![[r#"
        [
            "silver.inventory increment 2 (1)",
            "gold.org_metrics skip 0 (0)",
            "silver.device increment 2 (0)",
            "gold.compliance increment 2 (0)",
            "gold.device_health increment 3 (0)",
            "silver.device_daily increment 2 (0)",
            "gold.compliance_daily skip 0 (0)",
            "silver.software increment 2 (0)",
        ]
    "#]]
    .assert_debug_eq(&receipt(&promotion));
    expect![[r#"
        +---------+-----------+----------------------+-------------------------+
        | host_id | state     | since                | evidence                |
        +---------+-----------+----------------------+-------------------------+
        | h1      | pass      | 2026-11-22T10:00:00Z | {"disk_encrypted":true} |
        | h2      | pass      | 2026-11-22T10:03:00Z | {"disk_encrypted":true} |
        | h3      | no_result | 2026-11-22T10:05:00Z | {"disk_encrypted":null} |
        +---------+-----------+----------------------+-------------------------+"#]]
    .assert_eq(&lake.rows("main", "gold.compliance", COMPLIANCE).await);
    let devices = "SELECT host_id, event_id, log_offset FROM t ORDER BY host_id";
    expect![[r#"
        +---------+----------+------------+
        | host_id | event_id | log_offset |
        +---------+----------+------------+
        | h1      | e1       | 0          |
        | h2      | e3       | 3          |
        | h3      | e4       | 5          |
        +---------+----------+------------+"#]]
    .assert_eq(&lake.rows("main", "silver.device", devices).await);
    let status = &lake.board.all()[&(PROMOTION.to_owned(), "acme".to_owned())];
    assert_eq!(status.lag_records, Some(0));
}

/// The compactor with two models, the second of which has `check`.
fn with_models(lake: &Lake, check: &str) -> Promotion {
    let mut promotion = lake.compactor("one").promotion;
    let first = "-- model: silver.copy\n-- kind: append\nSELECT host_id, received_at FROM bronze.inventory";
    let second =
        format!("-- model: silver.hosts\n-- kind: full\n{check}SELECT DISTINCT host_id FROM silver.copy");
    let parse = |file: &str, text: &str| Model::parse(file, text).unwrap();
    let graph = ModelGraph::new(vec![parse("copy.sql", first), parse("hosts.sql", &second)]).unwrap();
    promotion.graph = Arc::new(graph);
    promotion
}

#[tokio::test]
async fn a_failing_check_leaves_main_alone_and_the_branch_to_look_at() {
    let lake = Lake::start().await;
    let promotion = with_models(&lake, "-- check: not-h2 fail host_id <> 'h2'\n");
    first_reports(&lake).await;
    let head = lake.client.reference(MAIN).await.unwrap();
    for _ in 0..5 {
        promote(&lake, &promotion).await;
    }
    assert_eq!(lake.client.reference(MAIN).await.unwrap(), head);
    let newest = promotion.history.of("acme").into_iter().next().unwrap();
    assert_eq!(newest.state, RunState::Failed);
    assert_eq!(newest.checks[0].rows, [json!({"host_id": "h2"})]);
    let branch = newest.branch.unwrap();
    let kept = lake.references().await;
    assert_eq!(kept.len(), 1 + promotion.config.keep_failed + 1, "{kept:?}");
    assert!(kept.contains(&branch), "{kept:?} {branch}");
    expect![[r#"
        +---------+
        | host_id |
        +---------+
        | h1      |
        | h2      |
        +---------+"#]]
    .assert_eq(&lake.rows(&branch, "silver.hosts", "SELECT * FROM t ORDER BY host_id").await);
    let status = &lake.board.all()[&(PROMOTION.to_owned(), "acme".to_owned())];
    assert_eq!(status.state, StageState::Failing);
    assert!(status.message.contains("not-h2"), "{}", status.message);
}

/// A run that got as far as its last model and was then killed.
async fn killed_run(lake: &Lake, promotion: &Promotion) -> Receipt {
    let run = "20261122t100000000z-dead".to_owned();
    let base = lake.client.create_branch(&branches::working(&run), MAIN).await.unwrap().hash().to_owned();
    let (mut models, asked) = (Vec::new(), RunRequest::default());
    for model in promotion.graph.models() {
        models.push(promotion.run_model(&lake.client, &run, model, &asked).await.unwrap().0);
    }
    Receipt { run, reference: main_branch(), base, started_at_ms: 0, finished_at_ms: 0, models }
}

#[tokio::test]
async fn a_killed_run_is_never_seen_and_is_done_again() {
    let lake = Lake::start().await;
    let promotion = with_models(&lake, "");
    first_reports(&lake).await;
    killed_run(&lake, &promotion).await;
    assert!(lake.table("main", "silver.copy").await.is_none(), "main shows half a run");
    promote(&lake, &promotion).await;
    assert_eq!(lake.references().await, ["main"]);
    expect![[r#"
        [
            "silver.copy full 3 (0)",
            "silver.hosts full 2 (0)",
        ]
    "#]]
    .assert_debug_eq(&receipt(&promotion));
    expect![[r#"
        +------+
        | rows |
        +------+
        | 3    |
        +------+"#]]
    .assert_eq(&lake.rows("main", "silver.copy", "SELECT count(*) AS rows FROM t").await);
}

#[tokio::test]
async fn of_two_runs_at_once_one_publishes_and_nothing_doubles() {
    let lake = Lake::start().await;
    let promotion = with_models(&lake, "");
    first_reports(&lake).await;
    promote(&lake, &promotion).await;
    lake.report(&[inventory(3, "h3", "e3", json!({}))]).await;
    let slow = killed_run(&lake, &promotion).await;
    promote(&lake, &with_models(&lake, "")).await;
    // The other run deleted the branch of this one, as after a lost lease.
    let refused = promotion.publish(&lake.client, &slow).await.unwrap_err();
    assert!(refused.is_not_found() || refused.is_conflict(), "{refused}");
    expect![[r#"
        +------+
        | rows |
        +------+
        | 4    |
        +------+"#]]
    .assert_eq(&lake.rows("main", "silver.copy", "SELECT count(*) AS rows FROM t").await);
}

#[tokio::test]
async fn a_run_whose_output_changed_on_main_is_repeated_not_merged() {
    let lake = Lake::start().await;
    let promotion = with_models(&lake, "");
    first_reports(&lake).await;
    promote(&lake, &promotion).await;
    lake.report(&[inventory(3, "h3", "e3", json!({}))]).await;
    let slow = killed_run(&lake, &promotion).await;
    let copy = lake.table("main", "silver.copy").await.unwrap();
    let emptied = Operation::Overwrite { remove: None, add: Vec::new(), base_snapshot_id: None };
    lake.commit("main", &copy, emptied).await;
    let refused = promotion.publish(&lake.client, &slow).await.unwrap_err();
    assert!(refused.is_conflict(), "{refused}");
}

#[tokio::test]
async fn a_held_lease_keeps_others_away() {
    let lake = Lake::start().await;
    let (one, two) = (lake.compactor("one").promotion, lake.compactor("two").promotion);
    first_reports(&lake).await;
    let ttl = one.config.lease_ttl;
    let lease = HeldLease::acquire(&lake.client, PROMOTION, "one", ttl).await.unwrap();
    promote(&lake, &two).await;
    assert!(two.history.of("acme").is_empty());
    lease.release().await;
    promote(&lake, &two).await;
    assert_eq!(receipt(&two).len(), models().unwrap().models().len());
}

#[tokio::test]
async fn a_tenants_own_models_run_once_they_are_on_main_and_wrong_ones_are_refused() {
    let lake = Lake::start().await;
    let promotion = lake.compactor("one").promotion;
    first_reports(&lake).await;
    let file = |sql: &str| {
        let text = format!("-- model: gold.by_type\n-- kind: aggregate\n{sql}");
        std::collections::BTreeMap::from([("by_type.sql".to_owned(), text)])
    };
    let change = async |branch: &str, files, remove: &[String]| {
        crate::change_own_models(&lake.client, &lake.file_io, branch, files, remove).await
    };
    let wrong = file("SELECT os_typ, count(*) AS hosts FROM silver.device GROUP BY os_typ");
    let refused = change("main", wrong, &[]).await.unwrap_err().to_string();
    assert!(refused.starts_with("by_type.sql:3:8: ") && refused.contains("os_typ"), "{refused}");
    let right = || file("SELECT os_type, count(*) AS hosts FROM silver.device GROUP BY os_type");

    lake.client.create_branch("dev", MAIN).await.unwrap();
    change("dev", right(), &[]).await.unwrap();
    promote(&lake, &promotion).await;
    assert!(lake.table("main", "gold.by_type").await.is_none());
    assert_eq!(forecast_of(&lake, "main").await, None);
    assert!(forecast_of(&lake, "dev").await.is_some());

    change("main", right(), &[]).await.unwrap();
    assert_eq!(forecast_of(&lake, "main").await, Some(("full", "first run".to_owned())));
    promote(&lake, &promotion).await;
    expect![[r#"
        +---------+-------+
        | os_type | hosts |
        +---------+-------+
        | linux   | 2     |
        +---------+-------+"#]]
    .assert_eq(&lake.rows("main", "gold.by_type", "SELECT * FROM t").await);
    assert!(change("main", [].into(), &["other.sql".to_owned()]).await.is_err());
    change("main", [].into(), &["by_type.sql".to_owned()]).await.unwrap();
    assert_eq!(forecast_of(&lake, "main").await, None);
}

async fn forecast_of(lake: &Lake, reference: &str) -> Option<(&'static str, String)> {
    let all = crate::forecast(&lake.client, &lake.file_io, reference).await.unwrap();
    let found = all.into_iter().find(|forecast| forecast.model == "gold.by_type")?;
    Some((found.action, found.reason))
}
