//! Rows that Spark deletes, in every way that Iceberg knows, are gone for Firn too, and stay gone when Firn rewrites the files.

use anyhow::{Context, Result};
use firn_tests::{FirnProcess, firn_stdout, spark};
use serde_json::{Value, json};

/// All rows of a table as Firn sees them, in Spark's order: by all columns, nulls first.
fn rows(firn: &FirnProcess, table: &str) -> Result<Value> {
    let order = match table {
        "vectors" => "id, region, amount NULLS FIRST, source NULLS FIRST",
        "equality" => "id, region, size NULLS FIRST",
        "adopted" | "hive" => "id",
        _ => "id, region, amount NULLS FIRST",
    };
    Ok(json!(firn.sql(&format!("SELECT * FROM lab.{table} ORDER BY {order}"))?))
}

#[tokio::test(flavor = "multi_thread")]
async fn sparks_deletes_hold_before_and_after_compaction() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let firn = FirnProcess::up(&dir.path().join("data"), &[]).await?;
    let files = dir.path().join("files").display().to_string();
    let written = spark("spark_deletes.py", &["write", &files], &firn.env)?;
    let tables = written.as_object().context("no tables")?;
    for (table, expected) in tables {
        assert_eq!(&rows(&firn, table)?, expected, "{table}");
        let count = expected.as_array().map_or(0, Vec::len);
        assert_eq!(
            firn.count(&format!("SELECT count(*) FROM lab.{table}"))?,
            i64::try_from(count)?,
            "{table}"
        );
    }
    // Predicates prune by metrics that deletes and constants must not contradict.
    assert_eq!(firn.count("SELECT count(*) FROM lab.hive WHERE region = 'north'")?, 5);
    assert_eq!(firn.count("SELECT count(*) FROM lab.vectors WHERE source = 'before' AND id > 118")?, 2);
    assert_eq!(firn.count("SELECT count(*) FROM (SELECT id FROM lab.by_file WHERE id < 10 LIMIT 5)")?, 5);
    assert_eq!(firn.count("SELECT min(id) FROM lab.vectors")?, 2, "row 1 is deleted");

    for table in tables.keys() {
        let name = format!("lab.{table}");
        let before = firn_stdout(firn.client(["table", "files", &name, "--json"]))?;
        let done = firn_stdout(firn.client(["table", "compact", &name, "--all", "--json"]))?;
        let done: Value = serde_json::from_str(&done)?;
        assert!(done["rewritten_files"].as_u64() > Some(0), "{table}: {done}\n{before}");
        assert_eq!(&rows(&firn, table)?, &written[table], "{table} after compaction");
    }
    assert_eq!(spark("spark_deletes.py", &["read"], &firn.env)?, written, "Spark after compaction");
    Ok(())
}
