//! How far tables are behind, as runs fail and get through.

use firn_catalog_client::iceberg::TableChange;

use super::*;

const OBJECTIVE: &str = "-- freshness: 5m\n";

async fn visit(lake: &Lake, promotion: &Promotion, place: &mut TenantPlace) {
    place.not_before = None;
    promotion.visit(&lake.client, place, &CancellationToken::new()).await;
}

#[tokio::test]
async fn what_is_behind_is_so_since_bronze_and_told_until_it_caught_up() {
    let lake = Lake::start().await;
    first_reports(&lake).await;
    let bronze = lake.table(MAIN, "bronze.inventory").await.unwrap();
    let set = json!({"action": "set-properties", "updates": {"firn.freshness": "1h"}});
    let change = TableChange { identifier: None, requirements: Vec::new(), updates: vec![set] };
    let key = uuid::Uuid::new_v4().to_string();
    lake.client.commit_table(MAIN, bronze.ident(), &change, &key).await.unwrap();
    let came_ms = bronze.current_snapshot().unwrap().timestamp_ms;

    let mut place = TenantPlace::default();
    let failing = with_models(&lake, &format!("{OBJECTIVE}-- check: not-h2 fail host_id <> 'h2'\n"));
    visit(&lake, &failing, &mut place).await;
    let tables = &mut place.freshness.tables;
    assert_eq!(tables.keys().collect::<Vec<_>>(), ["bronze.inventory", "silver.hosts"]);
    assert_eq!(tables["silver.hosts"].behind_since_ms, Some(came_ms), "through silver.copy");
    assert_eq!(
        (tables["silver.hosts"].longest_ms, tables["bronze.inventory"].longest_ms),
        (300_000, 3_600_000)
    );
    // As it is six minutes later.
    tables.get_mut("silver.hosts").unwrap().behind_since_ms = Some(came_ms - 360_000);
    failing.report_freshness(&lake.client, &place.freshness);
    let status = || lake.board.all()[&(PROMOTION.to_owned(), "acme".to_owned())].clone();
    assert_eq!(status().totals["objectives_missed"], 1);
    assert!(status().message.contains("not-h2"), "why it fails says more: {}", status().message);

    let working = with_models(&lake, OBJECTIVE);
    working.tell(&lake.client, StageState::Running, "promoting");
    working.report_freshness(&lake.client, &place.freshness);
    assert!(status().message.contains("silver.hosts is 36"), "{}", status().message);
    visit(&lake, &working, &mut place).await;
    visit(&lake, &working, &mut place).await;
    assert_eq!(place.freshness.tables["silver.hosts"].behind_since_ms, None);
    assert!(!status().totals.contains_key("objectives_missed"));
    assert_eq!(status().message, "up to date");
}
