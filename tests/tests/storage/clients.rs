use anyhow::Result;
use firn_tests::python;
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
