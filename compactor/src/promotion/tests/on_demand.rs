//! Runs that somebody asks for, on `main` and on a branch.

use super::*;
use crate::{CompactorConfig, ModelFiles, RunRecord};

fn runs(lake: &Lake) -> ModelRuns {
    ModelRuns::new(CompactorConfig::default(), lake.file_io.clone()).unwrap()
}

async fn run(lake: &Lake, reference: &str, models: &[&str], full: bool) -> Result<RunRecord, CompactorError> {
    let request = RunRequest {
        reference: reference.to_owned(),
        models: models.iter().map(|name| (*name).to_owned()).collect(),
        full,
        rebuild: false,
        early: true,
    };
    runs(lake).run(&lake.client, &request).await
}

/// What each model did.
fn actions(record: &RunRecord) -> Vec<String> {
    let receipt = record.receipt.as_ref().unwrap_or_else(|| panic!("{record:?}"));
    receipt.models.iter().map(|model| format!("{} {} {}", model.model, model.action, model.rows)).collect()
}

async fn apply(lake: &Lake, branch: &str, sql: &str) {
    let text = format!("-- model: gold.by_type\n-- kind: aggregate\n{sql}");
    let files = ModelFiles::from([("by_type.sql".to_owned(), text)]);
    crate::change_own_models(&lake.client, &lake.file_io, branch, files, &[]).await.unwrap();
}

const BY_TYPE: &str = "SELECT os_type, count(*) AS hosts FROM silver.device GROUP BY os_type";

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_developed_on_a_branch_by_the_run_that_production_does() {
    let lake = Lake::start().await;
    first_reports(&lake).await;
    promote(&lake, &lake.compactor("service").promotion).await;
    let head = lake.client.reference(MAIN).await.unwrap();
    lake.client.create_branch("dev", MAIN).await.unwrap();
    apply(&lake, "dev", BY_TYPE).await;

    let record = run(&lake, "dev", &[], false).await.unwrap();
    assert_eq!((record.state, record.reference.as_str()), (RunState::Succeeded, "dev"));
    let worked: Vec<_> = actions(&record).into_iter().filter(|line| !line.contains(" skip ")).collect();
    assert_eq!(worked, ["gold.by_type full 1"], "what the branch has of main is up to date");
    assert_eq!(lake.client.reference(MAIN).await.unwrap(), head);
    assert!(lake.table(MAIN, "gold.by_type").await.is_none());
    assert!(lake.rows("dev", "gold.by_type", "SELECT * FROM t").await.contains("| linux   | 2     |"));
    let log = lake.client.log("dev", 1, false).await.unwrap();
    assert!(log[0].commit_meta.all_properties.contains_key(RECEIPT_PROPERTY));
    assert_eq!(lake.references().await, ["dev", "main"]);

    apply(
        &lake,
        "dev",
        "-- check: few fail hosts < 2\nSELECT os_type, count(*) AS hosts FROM silver.device GROUP BY os_type",
    )
    .await;
    let failed = run(&lake, "dev", &["gold.by_type"], true).await.unwrap();
    assert_eq!(failed.state, RunState::Failed);
    assert_eq!(failed.checks[0].rows, [json!({"os_type": "linux", "hosts": 2})]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_named_runs_and_in_full_if_that_is_asked_for() {
    let lake = Lake::start().await;
    first_reports(&lake).await;
    let record = run(&lake, MAIN, &["+silver.device"], false).await.unwrap();
    assert_eq!(actions(&record), ["silver.inventory full 2", "silver.device full 2"]);
    assert!(lake.table(MAIN, "gold.org_metrics").await.is_none());
    // The metrics have an interval, which nobody waits for who asks.
    run(&lake, MAIN, &[], false).await.unwrap();
    lake.report(&[inventory(3, "h3", "e3", json!({}))]).await;
    let record = run(&lake, MAIN, &["silver.inventory", "gold.org_metrics"], false).await.unwrap();
    assert_eq!(actions(&record), ["silver.inventory increment 1", "gold.org_metrics increment 3"]);
    let record = run(&lake, MAIN, &["silver.inventory"], true).await.unwrap();
    assert_eq!(actions(&record), ["silver.inventory full 3"]);
    assert_eq!(record.receipt.unwrap().models[0].reason, "it was asked for");
}

#[tokio::test]
async fn what_can_not_be_asked_for_is_refused_before_anything_runs() {
    let lake = Lake::start().await;
    first_reports(&lake).await;
    lake.client.create_tag("v1", MAIN).await.unwrap();
    let refused = run(&lake, MAIN, &["gold.nothing"], false).await.unwrap_err().to_string();
    assert!(refused.starts_with("no model makes 'gold.nothing'"), "{refused}");
    let refused = run(&lake, "v1", &[], false).await.unwrap_err().to_string();
    assert!(refused.starts_with("'v1' is no branch"), "{refused}");
    assert!(run(&lake, "nowhere", &[], false).await.unwrap_err().is_not_found());
    assert_eq!(lake.references().await, ["main", "v1"]);
}

/// Two models that read bronze alone begin before either ends, and what they make is the same one after the other.
#[tokio::test(flavor = "multi_thread")]
async fn models_that_do_not_read_each_other_make_the_same_together_as_one_by_one() {
    let mut outputs = Vec::new();
    for parallel in [1, 4] {
        let lake = Lake::start().await;
        let mut promotion = lake.compactor("one").promotion;
        let config =
            CompactorConfig { parallel_models: parallel, ..CompactorConfig::clone(&promotion.config) };
        promotion.config = Arc::new(config);
        first_reports(&lake).await;
        promote(&lake, &promotion).await;
        lake.report(&[inventory(3, "h2", "e3", json!({"disk_encrypted": true, "cpu_usage": 2000}))]).await;
        promote(&lake, &promotion).await;
        let mut output = receipt(&promotion);
        for (table, sql) in [
            ("gold.compliance", COMPLIANCE),
            ("silver.software", "SELECT host_id, name FROM t ORDER BY name"),
            ("silver.device_daily", "SELECT host_id, event_id FROM t ORDER BY host_id"),
        ] {
            output.push(lake.rows(MAIN, table, sql).await);
        }
        outputs.push(output);
    }
    assert_eq!(outputs[0], outputs[1]);
}
