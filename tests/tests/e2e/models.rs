//! Models from the command line: a tenant's own one, a run that fails and says why, and where rows came from.

use anyhow::{Context, Result};
use firn_tests::{FirnProcess, firn_stdout};
use serde_json::Value;

use crate::main_job::DEADLINE;

fn json(firn: &FirnProcess, args: &[&str]) -> Result<Value> {
    let text = firn_stdout(firn.client(args.iter().copied()))?;
    serde_json::from_str(&text).with_context(|| format!("{args:?}: {text}"))
}

/// Puts a model of computers per operating system in force, with a check.
fn apply(firn: &FirnProcess, folder: &std::path::Path, check: &str) -> Result<String> {
    let file = folder.join("by_type.sql");
    let text = format!(
        "-- model: gold.by_type\n-- kind: aggregate\n-- check: {check}\n\
         SELECT os_type, count(*) AS hosts FROM silver.device GROUP BY os_type"
    );
    std::fs::write(&file, text)?;
    firn_stdout(firn.client(["model", "apply", &file.to_string_lossy()]))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_own_model_runs_a_broken_check_is_explained_and_gold_is_traced_to_the_log() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let firn = FirnProcess::up(&dir.path().join("data"), &[]).await?;
    firn_stdout(firn.client(["simulate", "--devices", "9", "--rate", "50", "--count", "30", "--seed", "3"]))?;
    apply(&firn, dir.path(), "none fail hosts < 0")?;

    let failed = |firn: &FirnProcess| {
        let run = json(firn, &["promote", "ls", "-n", "1", "--json"])?[0].clone();
        Ok(run["state"] == "failed")
    };
    firn.eventually("the run with the broken check fails", DEADLINE, failed).await?;
    let told = firn_stdout(firn.client(["promote", "show"]))?;
    assert!(
        told.contains("gold.by_type") && told.contains("check 'none'") && told.contains("\"hosts\":"),
        "{told}"
    );
    assert!(firn.sql("select * from gold.by_type").is_err(), "main shows nothing of it");

    apply(&firn, dir.path(), "some fail hosts > 0")?;
    let count = |firn: &FirnProcess, sql: &str| firn.count(sql).unwrap_or_default();
    let equal = |firn: &FirnProcess| {
        let hosts = count(firn, "select count(*) from silver.device");
        Ok(hosts > 0 && hosts == count(firn, "select coalesce(sum(hosts), 0) from gold.by_type"))
    };
    firn.eventually("the own model counts the computers", DEADLINE, equal).await?;
    let plan = json(&firn, &["model", "plan", "--json"])?;
    assert!(
        plan.as_array().is_some_and(|models| models.iter().any(|m| m["model"] == "gold.by_type")),
        "{plan}"
    );

    firn_stdout(firn.client(["branch", "create", "dev"]))?;
    let made = json(&firn, &["model", "run", "gold.by_type", "--ref", "dev", "--full", "--json"])?;
    assert_eq!((&made["state"], &made["reference"]), (&"succeeded".into(), &"dev".into()), "{made}");
    let shown = firn_stdout(firn.client(["promote", "show", "--ref", "dev"]))?;
    assert!(shown.contains("on       dev") && shown.contains("it was asked for"), "{shown}");
    let refused = firn_tests::firn(firn.client(["model", "run", "gold.nothing"]))?;
    assert_eq!(refused.status.code(), Some(1));

    let traced = json(&firn, &["lineage", "gold.by_type", "--json"])?;
    let bronze = &traced["inputs"][0]["inputs"][0]["inputs"][0];
    assert_eq!(bronze["table"], "bronze.inventory", "{traced}");
    assert!(bronze["positions"].as_object().is_some_and(|positions| !positions.is_empty()), "{traced}");
    let picture = firn_stdout(firn.client(["model", "graph", "--svg"]))?;
    assert!(picture.contains("gold.by_type") && picture.contains("</svg>"));
    assert!(firn.stop().await?.success());
    Ok(())
}

/// The model of a table among those that a command lists as JSON.
fn listed(models: &Value, table: &str) -> Result<Value> {
    let models = models.as_array().context("a list of models")?;
    let found = models.iter().find(|model| model["table"] == table);
    found.cloned().with_context(|| format!("no {table} in {models:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_listed_in_the_order_they_run_and_documented_with_the_tables_they_read() -> Result<()> {
    let dir = tempfile::tempdir()?;
    // What comes with firn needs no server.
    let shipped: Value = serde_json::from_str(&firn_stdout(["model", "ls", "--shipped", "--json"])?)?;
    let tables: Vec<_> = shipped.as_array().into_iter().flatten().map(|model| &model["table"]).collect();
    let place = |table: &str| tables.iter().position(|known| *known == table);
    let places = ["silver.inventory", "silver.device", "silver.software", "gold.device_health"].map(place);
    assert!(places.iter().all(Option::is_some), "{tables:?}");
    assert!(places[0] < places[1] && places[1] < places[2] && places[1] < places[3], "{tables:?}");
    let metrics = listed(&shipped, "gold.org_metrics")?;
    assert_eq!(
        (&metrics["kind"], &metrics["reads"], &metrics["interval_s"]),
        (&"aggregate".into(), &serde_json::json!(["silver.inventory"]), &30.into())
    );
    let health = firn_stdout(["model", "docs", "gold.device_health", "--shipped"])?;
    assert!(health.starts_with("## gold.device_health\n") && health.matches("## ").count() == 1, "{health}");
    assert!(health.contains("| `uptime_s` | long | Seconds from the last start"), "{health}");
    assert!(health.contains("| known-health | fails the run | `health IN"), "{health}");

    // Own models are among them; what they read of the tenant's tables is known from there.
    let firn = FirnProcess::up(&dir.path().join("data"), &[]).await?;
    let organizations = dir.path().join("organizations.csv");
    std::fs::write(&organizations, "organization_id,cost_center\nlab,4711\n")?;
    firn_stdout(firn.client(["ingest", "organizations", &organizations.to_string_lossy()]))?;
    let file = dir.path().join("costs.sql");
    let text = "-- Who pays.\n-- model: gold.costs\n-- kind: full\n\
                -- column: cost_center Number | name of the cost center.\n\
                SELECT organization_id, cost_center FROM reference.organizations";
    std::fs::write(&file, text)?;
    firn_stdout(firn.client(["model", "apply", &file.to_string_lossy()]))?;
    let own = listed(&json(&firn, &["model", "ls", "--json"])?, "gold.costs")?;
    assert_eq!((&own["file"], &own["reads"][0]), (&"costs.sql".into(), &"reference.organizations".into()));
    let words = firn_stdout(firn.client(["model", "ls"]))?;
    assert!(words.contains("gold.costs") && words.contains("silver.inventory"), "{words}");

    let docs = json(&firn, &["model", "docs", "--json"])?;
    let own = listed(&docs, "gold.costs")?;
    assert_eq!(own["description"], "Who pays.", "{own}");
    assert_eq!(
        own["columns"][1],
        serde_json::json!({"name": "cost_center", "type": "text", "doc": "Number | name of the cost center."})
    );
    assert_eq!(docs.as_array().map(Vec::len), Some(tables.len() + 1), "{docs}");
    let page = firn_stdout(firn.client(["model", "docs", "gold.costs"]))?;
    assert!(page.contains("| `cost_center` | text | Number \\| name of the cost center. |"), "{page}");
    let unknown = firn_tests::firn(firn.client(["model", "docs", "gold.nothing"]))?;
    assert_eq!(unknown.status.code(), Some(1));
    let told = String::from_utf8_lossy(&unknown.stderr);
    assert!(told.contains("no model makes 'gold.nothing'"), "{told}");
    assert!(firn.stop().await?.success());
    Ok(())
}
