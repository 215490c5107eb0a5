//! Planning a scan of many files. They are listed and nowhere stored, since planning reads none of them.

use std::{collections::HashMap, sync::Arc, time::Instant};

use anyhow::{Context, Result, ensure};
use datafusion::{
    arrow::datatypes::{DataType, Field, Schema},
    catalog::TableProvider,
    prelude::{SessionContext, col, lit},
};
use firn_catalog_client::iceberg::{TableChange, TableIdent};
use firn_table::{NewTable, Table, TableScan, ensure_table};
use iceberg::{
    io::FileIO,
    spec::{
        DataContentType, DataFile, DataFileBuilder, DataFileFormat, Datum, ManifestFile, ManifestListWriter,
        ManifestWriterBuilder, PartitionSpec, Schema as IcebergSchema, SchemaRef, Struct,
    },
};
use serde_json::json;

use crate::lake::Lake;

const MANIFESTS: usize = 1_000;
const FILES_PER_MANIFEST: usize = 100;
/// Rows of each file, whose numbers follow those of the file before.
const ROWS: i64 = 1_000;
const SNAPSHOT: i64 = 1;
/// Times that each plan is made, once it is warm.
const TIMES: u32 = 5;

pub(crate) async fn measure(lake: &Lake) -> Result<()> {
    let table = many_files(lake).await?;
    let all = i64::try_from(MANIFESTS * FILES_PER_MANIFEST)? * ROWS;
    for (what, upper) in [("all files", all), ("a hundredth", all / 100), ("one file", ROWS)] {
        let session = SessionContext::new();
        let filter = col("n").lt(lit(upper));
        let plan = async || {
            let scan = TableScan::new(&table, None).await?;
            let filters = if upper == all { Vec::new() } else { vec![filter.clone()] };
            scan.scan(&session.state(), None, &filters, None).await.context("no plan")
        };
        let started = Instant::now();
        let rows = plan().await?.partition_statistics(None)?.num_rows;
        let cold = started.elapsed();
        ensure!(rows.get_value().copied() == usize::try_from(upper).ok(), "{what}: {rows:?}");
        let started = Instant::now();
        for _ in 0..TIMES {
            plan().await?;
        }
        let warm = started.elapsed() / TIMES;
        println!(
            "plan, {what:<14} of 100,000        {:>9.3} s warm, {:.3} s the first time",
            warm.as_secs_f64(),
            cold.as_secs_f64()
        );
    }
    Ok(())
}

/// A table whose manifests are written as any engine would, and committed by the catalog's API.
async fn many_files(lake: &Lake) -> Result<Table> {
    let ident = TableIdent::new("bronze", "many");
    let schema = Arc::new(Schema::new(vec![
        Field::new("n", DataType::Int64, false),
        Field::new("host_id", DataType::Utf8, true),
    ]));
    let new = NewTable { ident: ident.clone(), schema, partitioning: Vec::new(), properties: [].into() };
    let table = ensure_table(&lake.client, &lake.file_io, "main", &new).await?;
    let location = table.metadata()["location"].as_str().context("no location")?.to_owned();
    let schema: IcebergSchema = serde_json::from_value(table.metadata()["schemas"][0].clone())?;
    let schema = Arc::new(schema);
    let mut manifests = Vec::new();
    for number in 0..MANIFESTS {
        manifests.push(manifest(lake, &location, &schema, number).await?);
    }
    let list = format!("{location}/metadata/snap-{SNAPSHOT}.avro");
    let memory = FileIO::new_with_memory();
    let output = memory.new_output(&list)?.writer().await?;
    let mut writer = ManifestListWriter::v2(output, SNAPSHOT, None, 1);
    writer.add_manifests(manifests.into_iter())?;
    writer.close().await?;
    lake.file_io.write_new(&list, memory.new_input(&list)?.read().await?).await?;
    let snapshot = json!({
        "snapshot-id": SNAPSHOT, "sequence-number": 1, "timestamp-ms": chrono::Utc::now().timestamp_millis(),
        "manifest-list": list, "summary": {"operation": "append"}, "schema-id": 0,
    });
    let head =
        json!({"action": "set-snapshot-ref", "ref-name": "main", "type": "branch", "snapshot-id": SNAPSHOT});
    let change = TableChange {
        identifier: None,
        requirements: Vec::new(),
        updates: vec![json!({"action": "add-snapshot", "snapshot": snapshot}), head],
    };
    let key = uuid::Uuid::new_v4().to_string();
    lake.client.commit_table("main", &ident, &change, &key).await?;
    lake.load(&ident).await
}

async fn manifest(lake: &Lake, location: &str, schema: &SchemaRef, number: usize) -> Result<ManifestFile> {
    let path = format!("{location}/metadata/{number}-m0.avro");
    let memory = FileIO::new_with_memory();
    let spec = PartitionSpec::unpartition_spec();
    let builder =
        ManifestWriterBuilder::new(memory.new_output(&path)?, Some(SNAPSHOT), Arc::clone(schema), spec);
    let mut writer = builder.build_v2_data();
    for file in 0..FILES_PER_MANIFEST {
        writer.add_file(data_file(location, number * FILES_PER_MANIFEST + file)?, 1)?;
    }
    let manifest = writer.write_manifest_file().await?;
    lake.file_io.write_new(&path, memory.new_input(&path)?.read().await?).await?;
    Ok(manifest)
}

fn data_file(location: &str, number: usize) -> Result<DataFile> {
    let first = i64::try_from(number)? * ROWS;
    let counts = |count: u64| HashMap::from([(1, count), (2, count)]);
    let bounds = |n: i64, host: &str| HashMap::from([(1, Datum::long(n)), (2, Datum::string(host))]);
    let file = DataFileBuilder::default()
        .content(DataContentType::Data)
        .file_path(format!("{location}/data/{number:08}-0195f1b2-7c5e-7d3a-9a54-5e0f6b1c2d3e.parquet"))
        .file_format(DataFileFormat::Parquet)
        .partition(Struct::empty())
        .partition_spec_id(0)
        .record_count(ROWS.unsigned_abs())
        .file_size_in_bytes(128 << 20)
        .column_sizes(counts(64 << 20))
        .value_counts(counts(ROWS.unsigned_abs()))
        .null_value_counts(counts(0))
        .lower_bounds(bounds(first, "host-00000000"))
        .upper_bounds(bounds(first + ROWS - 1, "host-00019999"))
        .split_offsets(Some(vec![4]))
        .build()?;
    Ok(file)
}
