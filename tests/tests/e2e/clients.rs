//! Other people's engines read and write a running Firn.

use std::collections::BTreeMap;

use anyhow::Result;
use firn_tests::{FirnProcess, firn_stdout, python};
use serde_json::json;

use crate::main_job::DEADLINE;

#[tokio::test(flavor = "multi_thread")]
async fn pyiceberg_and_duckdb_read_gold_and_write_their_own() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let firn = FirnProcess::up(&dir.path().join("data"), &[]).await?;
    firn_stdout(firn.client([
        "simulate",
        "--devices",
        "30",
        "--rate",
        "300",
        "--count",
        "300",
        "--seed",
        "3",
    ]))?;
    let devices = "select count(*) from silver.device";
    firn.eventually("all devices are in silver", DEADLINE, |firn| Ok(firn.count(devices)? == 30)).await?;
    // Other runs may follow: what is compared must have come to rest.
    let rest = "select count(*) from silver.inventory";
    firn.eventually("all rows are in silver", DEADLINE, |firn| Ok(firn.count(rest)? == 300)).await?;

    let tables = ["gold.compliance", "gold.org_metrics", "silver.device", "bronze.inventory"];
    let mut own = BTreeMap::new();
    for table in tables {
        own.insert(table, firn.count(&format!("select count(*) from {table}"))?);
    }
    assert_eq!(python("pyiceberg_reads.py", &tables, &firn.env)?, json!(own), "PyIceberg");
    assert_eq!(python("duckdb_reads.py", &tables, &firn.env)?, json!(own), "DuckDB");
    let planned = python("pyiceberg_plans.py", &tables, &firn.env)?;
    for table in tables {
        let (all, some) = (&planned[table]["all"], &planned[table]["some"]);
        assert_eq!(*all, json!([own[table], own[table]]), "{table}, planned by PyIceberg and by Firn");
        assert_eq!(some[0], some[1], "{table}, with a filter");
    }

    firn_stdout(firn.client(["branch", "create", "dev"]))?;
    let mut env = firn.env.clone();
    env.insert("FIRN_BRANCH".into(), "dev".into());
    let seen = python("pyiceberg_writes.py", &[], &env)?;
    assert_eq!(seen, json!({"main": 4, "branch": 3, "branch_table_on_main": false}));
    firn_stdout(firn.client(["merge", "dev"]))?;
    assert_eq!(firn.count("select count(*) from lab_dev.things")?, 3, "merged");
    assert_eq!(firn.count("select sum(size) from lab.things")?, 40, "a column that PyIceberg added");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn pyiceberg_appends_of_two_branches_merge_into_one_table() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let firn = FirnProcess::up(&dir.path().join("data"), &[]).await?;
    let step = |name: &str| python("pyiceberg_merges.py", &[name, "forked.things", "side"], &firn.env);
    step("fork")?;
    firn_stdout(firn.client(["branch", "create", "side"]))?;
    step("append")?;
    firn_stdout(firn.client(["merge", "side"]))?;
    assert_eq!(firn.count("select count(*) from forked.things")?, 6, "Firn's own scan");
    let seen = step("read")?;
    assert_eq!(seen["ids"], json!([1, 2, 10, 11, 12, 20]), "PyIceberg's scan");
    assert_eq!(seen["even"], json!([2, 10, 12, 20]), "partitions are pruned as before");
    assert_eq!(seen["operations"], json!(["append", "append", "append"]));
    assert_eq!(seen["after"], 7);
    Ok(())
}
