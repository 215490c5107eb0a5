//! What is left in memory of a run that ended.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_run_leaves_nothing_of_itself_in_memory() {
    let lake = Lake::start().await;
    let promotion = lake.compactor("one").promotion;
    // All sessions hold the engine's bounds, and with them their tables and plans.
    let held = || Arc::strong_count(&promotion.engine.session().runtime_env());
    let before = held();
    first_reports(&lake).await;
    promote(&lake, &promotion).await;
    for minute in 3..6 {
        let again = json!({"disk_encrypted": minute % 2 == 0, "software": [{"name": "vim", "version": "9"}]});
        lake.report(&[inventory(minute, "h1", &format!("e{minute}"), again)]).await;
        promote(&lake, &promotion).await;
        let increment = receipt(&promotion).contains(&"silver.device increment 1 (0)".to_owned());
        assert!(increment, "{:?}", receipt(&promotion));
    }
    // Tasks that were cancelled are dropped soon.
    for _ in 0..100 {
        if held() == before {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{} more hold the engine than before", held() - before);
}
