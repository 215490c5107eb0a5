//! Packing and expiry on a real catalog, beside promotion.

#![allow(clippy::unwrap_used)]

use expect_test::expect;
use serde_json::json;

use super::*;
use crate::{
    promotion::{Promotion, TenantPlace},
    testing::{Lake, inventory},
};

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
    let refused = compactor.maintenance.retain(&table, days).await.unwrap_err().to_string();
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
