use std::time::Duration;

use anyhow::Result;
use firn_tests::{python, spark_on_s3};
use serde_json::json;

use crate::lake::{Lake, S3};

#[tokio::test(flavor = "multi_thread")]
async fn pyiceberg_and_duckdb_work_with_vended_keys_alone() -> Result<()> {
    let lake = Lake::vending(S3::seaweedfs().await?).await?;
    let seen = python("pyiceberg_writes.py", &[], &lake.firn.env)?;
    assert_eq!(seen, json!({"main": 4}), "PyIceberg");
    let tables = ["lab.things"];
    assert_eq!(python("duckdb_reads.py", &tables, &lake.firn.env)?, json!({"lab.things": 4}), "DuckDB");
    assert_eq!(lake.firn.count("select count(*) from lab.things")?, 4, "firn sql");
    Ok(())
}

/// What deploy/engines/spark.yaml tells Spark is all that it needs: it proves itself as a client, and gets keys by table.
#[tokio::test(flavor = "multi_thread")]
async fn spark_runs_the_example_with_vended_keys_alone() -> Result<()> {
    let lake = Lake::vending(S3::seaweedfs().await?).await?;
    let simulate = ["simulate", "--devices", "5", "--rate", "100", "--count", "20", "--seed", "4"];
    lake.firn.run(simulate)?;
    let devices = "select count(*) from silver.device";
    lake.firn
        .eventually("devices are in silver", Duration::from_secs(120), |firn| Ok(firn.count(devices)? == 5))
        .await?;

    let (id, secret) = lake.client("writer").await?;
    let mut env = lake.firn.env.clone();
    env.retain(|name, _| !name.ends_with("TOKEN"));
    env.insert("FIRN_CREDENTIAL".to_owned(), format!("{id}:{secret}"));
    let seen = spark_on_s3("spark_example.py", &env)?;
    let total: i64 = seen.as_object().into_iter().flatten().filter_map(|(_, count)| count.as_i64()).sum();
    assert_eq!(total, 5, "{seen}");
    assert_eq!(lake.firn.count("select sum(computers) from reports.systems")?, 5);
    let log = lake.firn.run(["log", "-n", "50"])?;
    assert!(log.contains("default/writer"), "the client wrote it: {log}");
    Ok(())
}
