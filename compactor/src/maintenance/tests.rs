//! Packing and expiry on a real catalog, beside promotion.

#![allow(clippy::unwrap_used)]

mod scheduling;

use expect_test::expect;
use firn_catalog_client::LayerRetention;
use serde_json::json;

use super::*;
use crate::{
    lineage::POSITION,
    promotion::{Promotion, TenantPlace},
    testing::{Lake, inventory},
};

const BRONZE: &str = "bronze.inventory";

async fn promote(lake: &Lake, promotion: &Promotion) -> Vec<String> {
    promotion.visit(&lake.client, &mut TenantPlace::default(), &CancellationToken::new()).await;
    let newest = promotion.history.of("acme").into_iter().next().unwrap();
    let receipt = newest.receipt.unwrap_or_else(|| panic!("{:?}", newest.error));
    receipt.models.iter().map(|model| format!("{} {} {}", model.model, model.action, model.rows)).collect()
}

async fn report_each(lake: &Lake, offsets: std::ops::Range<i64>) {
    for offset in offsets {
        lake.report(&[inventory(offset, &format!("h{}", offset % 3), &format!("e{offset}"), json!({}))])
            .await;
    }
}

async fn maintain(lake: &Lake, maintenance: &Maintenance) {
    let mut place = MaintenancePlace::default();
    maintenance.visit(&lake.client, &mut place, &CancellationToken::new()).await;
    let status = &lake.board.all()[&(MAINTENANCE.to_owned(), "acme".to_owned())];
    assert_eq!(status.state, StageState::Running, "{status:?}");
}

#[tokio::test]
async fn packing_keeps_the_rows_and_the_place_of_models() {
    let lake = Lake::start().await;
    let compactor = lake.compactor("one");
    report_each(&lake, 0..4).await;
    promote(&lake, &compactor.promotion).await;
    report_each(&lake, 4..20).await;
    maintain(&lake, &compactor.maintenance).await;
    let files = lake.table("main", "bronze.inventory").await.unwrap().data_files(None).await.unwrap();
    assert_eq!(files.iter().map(|file| file.record_count).collect::<Vec<_>>(), [20]);
    let offsets = "SELECT count(DISTINCT log_offset) AS offsets, count(*) AS rows FROM t";
    expect![[r#"
        +---------+------+
        | offsets | rows |
        +---------+------+
        | 20      | 20   |
        +---------+------+"#]]
    .assert_eq(&lake.rows("main", "bronze.inventory", offsets).await);
    let models = promote(&lake, &compactor.promotion).await;
    assert!(models.contains(&"silver.inventory increment 16".to_owned()), "{models:?}");
}

#[tokio::test]
async fn row_groups_that_are_good_are_copied() {
    let lake = Lake::start().await;
    let compactor = lake.compactor("one");
    report_each(&lake, 0..16).await;
    lake.set(BRONZE, "firn.maintenance.min-row-group-bytes", "1").await;
    let all = "SELECT * FROM t ORDER BY log_offset";
    let before = lake.rows(MAIN, BRONZE, all).await;
    maintain(&lake, &compactor.maintenance).await;
    assert_eq!(lake.rows(MAIN, BRONZE, all).await, before);
    let files = lake.table(MAIN, BRONZE).await.unwrap().data_files(None).await.unwrap();
    assert_eq!(files.iter().map(|file| file.record_count).collect::<Vec<_>>(), [16]);
    let status = &lake.board.all()[&(MAINTENANCE.to_owned(), "acme".to_owned())];
    assert_eq!((status.totals["files_rewritten"], status.totals["files_copied"]), (16, 16));
}

#[tokio::test]
async fn expiry_never_takes_a_snapshot_that_a_model_starts_from() {
    let lake = Lake::start().await;
    let compactor = lake.compactor("one");
    let mut maintenance = compactor.maintenance.clone();
    let mut config = (*maintenance.config).clone();
    config.maintenance.snapshot_age = Duration::ZERO;
    config.maintenance.min_small_files = 1_000;
    maintenance.config = Arc::new(config);

    report_each(&lake, 0..12).await;
    promote(&lake, &compactor.promotion).await;
    report_each(&lake, 12..24).await;
    maintain(&lake, &maintenance).await;
    let left = lake.table("main", "bronze.inventory").await.unwrap().snapshots().len();
    assert_eq!(left, 13, "the eleven before the one that was read are gone");
    let models = promote(&lake, &compactor.promotion).await;
    assert!(models.contains(&"silver.inventory increment 12".to_owned()), "{models:?}");
}

#[tokio::test]
async fn partitions_beyond_the_retention_go_and_what_was_made_of_them_stays() {
    use firn_catalog_client::{HoldRequest, TenantUpdate};
    let lake = Lake::start().await;
    let compactor = lake.compactor("one");
    // A million minutes before the tests' present is in December 2024.
    lake.report(&[inventory(-1_000_000, "h1", "old", json!({}))]).await;
    lake.report(&[inventory(0, "h1", "new", json!({}))]).await;
    promote(&lake, &compactor.promotion).await;
    let since = "2026-01-01T00:00:00Z".parse::<chrono::DateTime<chrono::Utc>>().unwrap();
    let days = u32::try_from((chrono::Utc::now() - since).num_days()).unwrap();
    let retention = Some(LayerRetention { bronze_days: Some(days), ..LayerRetention::default() });
    lake.client.update(&TenantUpdate { retention, ..TenantUpdate::default() }).await.unwrap();
    let events = async |table: &str| lake.rows("main", table, "SELECT event_id FROM t ORDER BY 1").await;

    let held = HoldRequest { reason: "case 7".to_owned(), ..HoldRequest::default() };
    let hold = lake.client.place_hold(&held).await.unwrap();
    maintain(&lake, &compactor.maintenance).await;
    assert!(events("bronze.inventory").await.contains("old"), "what is held stays");
    let table = lake.table("main", "bronze.inventory").await.unwrap();
    let wanted = TableRetention { days: Some(days), ..TableRetention::default() };
    let refused = compactor.maintenance.retain(&table, &wanted, true).await.unwrap_err().to_string();
    assert!(refused.contains(&hold.id), "{refused}");

    lake.client.release_hold(&hold.id).await.unwrap();
    maintain(&lake, &compactor.maintenance).await;
    let left = events("bronze.inventory").await;
    assert!(left.contains("new") && !left.contains("old"), "{left}");
    let status = &lake.board.all()[&(MAINTENANCE.to_owned(), "acme".to_owned())];
    assert_eq!(status.totals["files_outdated"], 1);
    lake.report(&[inventory(1, "h1", "newer", json!({}))]).await;
    let models = promote(&lake, &compactor.promotion).await;
    assert!(models.contains(&"silver.inventory increment 1".to_owned()), "{models:?}");
    assert!(events("silver.inventory").await.contains("old"), "silver keeps its own");
}

#[tokio::test]
async fn rows_go_where_no_partition_does_and_values_of_a_class_before_their_rows() {
    use firn_catalog_client::TenantUpdate;
    let lake = Lake::start().await;
    let compactor = lake.compactor("one");
    let owned = json!({"owner_email": "jo@example.org", "local_admins": ["jo"], "os_name": "Debian"});
    lake.report(&[inventory(-1_000_000, "h1", "old", owned.clone())]).await;
    lake.report(&[inventory(0, "h2", "new", owned)]).await;
    promote(&lake, &compactor.promotion).await;
    let since = "2026-01-01T00:00:00Z".parse::<chrono::DateTime<chrono::Utc>>().unwrap();
    let days = u32::try_from((chrono::Utc::now() - since).num_days()).unwrap();
    let retention = LayerRetention {
        silver_days: Some(days),
        classes: [("bronze.personal".to_owned(), days)].into(),
        ..LayerRetention::default()
    };
    let update = TenantUpdate { retention: Some(retention), ..TenantUpdate::default() };
    lake.client.update(&update).await.unwrap();
    let by_hand = TableMaintenance::new(CompactorConfig::default(), lake.file_io.clone()).unwrap();
    let outdated =
        async || by_hand.outdated(&lake.table(MAIN, "silver.device").await.unwrap(), None).await.unwrap();
    assert_eq!(outdated().await, Retained { deleted_rows: 1, ..Retained::default() });
    maintain(&lake, &compactor.maintenance).await;
    assert_eq!(outdated().await, Retained::default(), "nothing is left to take");

    expect![[r#"
        +----------+----------------+--------------+---------+
        | event_id | owner_email    | local_admins | os_name |
        +----------+----------------+--------------+---------+
        | new      | jo@example.org | [jo]         | Debian  |
        | old      |                |              | Debian  |
        +----------+----------------+--------------+---------+"#]]
    .assert_eq(
        &lake
            .rows(
                "main",
                BRONZE,
                "SELECT event_id, owner_email, local_admins, os_name FROM t ORDER BY event_id",
            )
            .await,
    );
    let hosts =
        async |table: &str| lake.rows("main", table, "SELECT DISTINCT host_id FROM t ORDER BY 1").await;
    for table in ["silver.inventory", "silver.device"] {
        let left = hosts(table).await;
        assert!(!left.contains("h1") && left.contains("h2"), "{table}: {left}");
    }
    assert!(hosts("gold.compliance").await.contains("h1"), "gold keeps its own");
    let status = &lake.board.all()[&(MAINTENANCE.to_owned(), "acme".to_owned())];
    assert_eq!((status.totals["rows_outdated"], status.totals["rows_emptied"]), (1, 1));

    // What went by retention is nothing to take off.
    lake.report(&[inventory(1, "h1", "newer", json!({}))]).await;
    let models = promote(&lake, &compactor.promotion).await;
    for expected in
        ["silver.inventory increment 1", "silver.device increment 1", "gold.device_health increment 1"]
    {
        assert!(models.contains(&expected.to_owned()), "{expected}: {models:?}");
    }
}

async fn count(lake: &Lake, reference: &str) -> String {
    let counted = lake.rows(reference, BRONZE, "SELECT count(*) AS rows FROM t").await;
    counted.lines().nth(3).unwrap().trim_matches(['|', ' ']).to_owned()
}

async fn roll_back(
    lake: &Lake,
    reference: &str,
    target: RollbackTarget,
    any: bool,
) -> Result<i64, CompactorError> {
    let table = lake.table(reference, BRONZE).await.unwrap();
    Rollback::plan(&table, &target, any).await?.commit(&table).await
}

#[tokio::test]
async fn a_table_goes_back_on_one_branch_and_forward_only_if_asked() {
    let lake = Lake::start().await;
    report_each(&lake, 0..3).await;
    lake.client.create_branch("dev", MAIN).await.unwrap();
    let snapshots = lake.table("dev", BRONZE).await.unwrap().snapshots();
    let [first, second, third] = &snapshots[..] else { panic!("{snapshots:?}") };

    let table = lake.table("dev", BRONZE).await.unwrap();
    let plan = Rollback::plan(&table, &RollbackTarget::Time(second.timestamp_ms), false).await.unwrap();
    assert_eq!((plan.to_snapshot, plan.restores, plan.made_by_model), (second.id, false, false));
    assert_eq!((plan.from_snapshot, plan.rows_before, plan.rows_after), (Some(third.id), Some(3), Some(2)));
    assert_eq!(count(&lake, "dev").await, "3", "a plan changes nothing");

    assert_eq!(roll_back(&lake, "dev", RollbackTarget::Snapshot(first.id), false).await.unwrap(), first.id);
    assert_eq!((count(&lake, "dev").await, count(&lake, MAIN).await), ("1".into(), "3".into()));
    let late = plan.commit(&table).await.unwrap_err();
    assert!(late.is_conflict() && late.to_string().contains("no longer at"), "{late}");

    let forward = || RollbackTarget::Snapshot(third.id);
    let refused = roll_back(&lake, "dev", forward(), false).await.unwrap_err();
    assert!(refused.to_string().contains("no ancestor of the current one"), "{refused}");
    assert_eq!(roll_back(&lake, "dev", forward(), true).await.unwrap(), third.id);
    assert_eq!(count(&lake, "dev").await, "3");
    let there = roll_back(&lake, "dev", forward(), false).await.unwrap_err();
    assert!(there.to_string().contains("already"), "{there}");
    let early = RollbackTarget::Time(first.timestamp_ms - 1);
    let early = roll_back(&lake, "dev", early, false).await.unwrap_err();
    assert!(early.to_string().contains("no snapshot of that time"), "{early}");
}

#[tokio::test]
async fn what_expired_comes_back_from_a_commit_in_a_new_snapshot() {
    let lake = Lake::start().await;
    report_each(&lake, 0..1).await;
    let commit = lake.client.reference(MAIN).await.unwrap().hash().to_owned();
    let first = lake.table(MAIN, BRONZE).await.unwrap().current_snapshot().unwrap().id;
    report_each(&lake, 1..3).await;
    let table = lake.table(MAIN, BRONZE).await.unwrap();
    lake.commit(MAIN, &table, Operation::ExpireSnapshots { older_than_ms: i64::MAX, keep_last: 1 }).await;

    let gone = roll_back(&lake, MAIN, RollbackTarget::Snapshot(first), true).await.unwrap_err();
    assert!(gone.is_not_found() && gone.to_string().contains("it may have expired"), "{gone}");
    let restored = roll_back(&lake, MAIN, RollbackTarget::Commit(commit), false).await.unwrap();
    let table = lake.table(MAIN, BRONZE).await.unwrap();
    let current = table.current_snapshot().unwrap();
    assert_eq!((current.id, current.operation.as_str()), (restored, "overwrite"));
    assert_eq!(current.summary["deleted-records"], "2");
    assert_eq!(current.summary["total-records"], "1");
    assert_eq!(current.summary["firn.restored-snapshot"], first.to_string());
    assert_eq!(count(&lake, MAIN).await, "1");
}

#[tokio::test]
async fn a_snapshot_whose_files_are_gone_is_refused_by_name() {
    let lake = Lake::start().await;
    report_each(&lake, 0..2).await;
    let table = lake.table(MAIN, BRONZE).await.unwrap();
    let first = table.snapshots()[0].id;
    let file = table.data_files(Some(first)).await.unwrap().remove(0).location;
    std::fs::remove_file(file.strip_prefix("file://").unwrap()).unwrap();
    let refused = roll_back(&lake, MAIN, RollbackTarget::Snapshot(first), false).await.unwrap_err();
    let wanted = format!("files of snapshot {first} of table {BRONZE} are gone: {file}");
    assert!(refused.is_not_found() && refused.to_string() == wanted, "{refused}");
    assert_eq!(table.snapshots().len(), 2);
}

#[tokio::test]
async fn rows_do_not_go_back_without_their_positions() {
    let lake = Lake::start().await;
    report_each(&lake, 0..2).await;
    let table = lake.table(MAIN, BRONZE).await.unwrap();
    lake.set(BRONZE, &format!("{POSITION}t.0"), "2").await;
    let first = table.snapshots()[0].id;
    let refused = roll_back(&lake, MAIN, RollbackTarget::Snapshot(first), false).await.unwrap_err();
    assert!(refused.to_string().contains("'firn branch create NAME --from COMMIT'"), "{refused}");
}

#[tokio::test]
async fn a_model_computes_anew_what_was_rolled_back() {
    let lake = Lake::start().await;
    let compactor = lake.compactor("one");
    report_each(&lake, 0..2).await;
    promote(&lake, &compactor.promotion).await;
    report_each(&lake, 2..4).await;
    promote(&lake, &compactor.promotion).await;
    let table = lake.table(MAIN, "silver.inventory").await.unwrap();
    let first = RollbackTarget::Snapshot(table.snapshots()[0].id);
    let plan = Rollback::plan(&table, &first, false).await.unwrap();
    assert!(plan.made_by_model);
    plan.commit(&table).await.unwrap();
    report_each(&lake, 4..5).await;
    let models = promote(&lake, &compactor.promotion).await;
    assert!(models.contains(&"silver.inventory full 5".to_owned()), "{models:?}");
}
