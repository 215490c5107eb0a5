//! `firn ingest`: suspended, looked at, replayed and resumed by an operator's hand.

use anyhow::{Context, Result, ensure};
use firn_tests::{FirnProcess, firn_stdout};
use serde_json::{Value, json};

use crate::main_job::DEADLINE;

fn simulate(firn: &FirnProcess, seed: &str) -> Result<String> {
    let args = ["simulate", "--devices", "20", "--rate", "500", "--count", "100", "--seed", seed];
    firn_stdout(firn.client(args))
}

/// The ingest stage's line of the tenant.
fn stage(firn: &FirnProcess) -> Result<Value> {
    let status: Value = serde_json::from_str(&firn_stdout(firn.client(["status", "--json"]))?)?;
    let stages = status["server"]["stages"].as_array().context("no stages")?;
    let line = stages.iter().find(|line| line["stage"] == "ingest" && line["tenant"] == "default");
    line.cloned().with_context(|| format!("no line of the tenant: {status}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn suspended_ingest_waits_over_a_restart_and_loses_nothing() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let data = dir.path().join("data");
    let firn = FirnProcess::up(&data, &[]).await?;
    let all = "select (select count(*) from bronze.inventory) + (select count(*) from bronze.quarantine)";
    simulate(&firn, "1")?;
    firn.eventually("the first are in", DEADLINE, |firn| Ok(firn.count(all).unwrap_or(0) == 100)).await?;

    let said = firn_stdout(firn.client(["ingest", "suspend", "--reason", "looking at the disk"]))?;
    ensure!(said.contains("ingest of default: suspended"), "{said}");
    simulate(&firn, "2")?;
    firn.eventually("what waits is counted", DEADLINE, |firn| Ok(stage(firn)?["lag_records"] == 100)).await?;
    let status = firn_stdout(firn.client(["status"]))?;
    ensure!(
        status.contains("ingest of default: suspended") && status.contains("looking at the disk"),
        "{status}"
    );
    let metrics = reqwest::get(format!("{}/metrics", firn.url())).await?.text().await?;
    ensure!(metrics.contains("firn_ingest_suspended{tenant=\"default\"} 1"), "{metrics}");
    let waits = |line: &str| line.starts_with("firn_ingest_tenant_lag_records{") && line.ends_with(" 100");
    ensure!(metrics.lines().any(waits), "{metrics}");

    ensure!(firn.stop().await?.success());
    let firn = FirnProcess::up(&data, &[]).await?;
    firn.eventually("it is suspended again", DEADLINE, |firn| Ok(stage(firn)?["state"] == "suspended"))
        .await?;
    ensure!(firn.count(all)? == 100);
    let positions: Value =
        serde_json::from_str(&firn_stdout(firn.client(["ingest", "positions", "--json"]))?)?;
    ensure!(positions["lag_records"].as_i64().is_some_and(|lag| lag >= 100), "{positions}");

    // Meanwhile a branch can go ahead; merged, it counts as taken.
    firn_stdout(firn.client(["branch", "create", "ahead"]))?;
    let refused = firn_tests::firn(firn.client(["ingest", "replay", "--from-time", "1h"]))?;
    ensure!(refused.status.code() == Some(2), "{refused:?}");
    let replay = ["ingest", "replay", "--from-time", "1h", "--branch", "ahead", "--json"];
    let replayed: Value = serde_json::from_str(&firn_stdout(firn.client(replay))?)?;
    let taken = |key: &str| replayed[key].as_i64().unwrap_or(-1);
    ensure!(taken("inventory") + taken("quarantined") == 100 && taken("present") == 100, "{replayed}");
    firn_stdout(firn.client(["merge", "ahead"]))?;
    ensure!(firn.count(all)? == 200);

    let said = firn_stdout(firn.client(["ingest", "resume"]))?;
    ensure!(said.contains("ingest of default: resumed"), "{said}");
    simulate(&firn, "3")?;
    firn.eventually("all are in, once", DEADLINE, |firn| Ok(firn.count(all)? >= 300)).await?;
    ensure!(firn.count(all)? == 300);
    let table = firn_stdout(firn.client(["ingest", "positions"]))?;
    ensure!(
        table.contains("PARTITION") && table.contains(" 0 records behind") && !table.contains("PROBLEM"),
        "{table}"
    );
    let quarantine = firn_stdout(firn.client(["ingest", "replay", "--quarantine"]))?;
    ensure!(quarantine.contains("0 to bronze.inventory"), "{quarantine}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn organisations_of_a_file_are_in_the_rows_and_in_silver() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let firn = FirnProcess::up(&dir.path().join("data"), &[]).await?;
    let file = dir.path().join("orgs.csv");
    let path = file.display().to_string();
    std::fs::write(&file, "organization_id,host_id\nlab,pc-7\nlab,pc-7\n")?;
    let refused = firn_tests::firn(firn.client(["ingest", "organizations", &path]))?;
    let said = String::from_utf8_lossy(&refused.stderr);
    ensure!(refused.status.code() == Some(2) && said.contains("lines 2 and 3"), "{said}");

    std::fs::write(&file, "organization_id,host_id,name,cost_center\nlab,,Research,0815\nlab,pc-7,,\n")?;
    let said = firn.run(["ingest", "organizations", &path])?;
    ensure!(said.contains("reference.organizations has 2 rows on main"), "{said}");
    let url = format!("{}/v1/tenants/default/inventory", firn.url());
    let record = json!({"host_id": "pc-7", "os_type": "Debian GNU/Linux", "os_version": "12.7 (bookworm)"});
    let upload = reqwest::Client::new().post(url).bearer_auth(&firn.env["FIRN_TOKEN"]).json(&record);
    upload.send().await?.error_for_status()?;
    let query =
        "select platform, platform_version, org_id, org_name, org_unit, org_attributes from silver.device";
    let mut rows = Vec::new();
    let arrived = firn.eventually("it is in silver", DEADLINE, |firn| {
        rows = firn.sql(query)?;
        Ok(!rows.is_empty())
    });
    arrived.await?;
    let expected = json!([{
        "platform": "linux", "platform_version": "12.7", "org_id": "lab", "org_name": "Research", "org_unit": null,
        "org_attributes": "{\"cost_center\":\"0815\"}",
    }]);
    ensure!(json!(rows) == expected, "{rows:?}");
    Ok(())
}
