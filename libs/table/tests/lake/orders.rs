//! Rows that are rewritten in order: the same rows in the same kind of files, whatever their columns and partitions.

use std::{collections::BTreeMap, sync::Arc};

use datafusion::{
    arrow::{
        array::{ArrayRef, BinaryArray, BooleanArray, Int64Array, RecordBatch, StringArray},
        datatypes::{DataType, Field, Schema, SchemaRef},
    },
    execution::{
        disk_manager::{DiskManagerBuilder, DiskManagerMode},
        runtime_env::RuntimeEnvBuilder,
    },
    prelude::{SessionConfig, SessionContext},
};
use firn_catalog_client::iceberg::TableIdent;
use firn_table::{
    NewTable, Operation, Partitioning, RewriteOptions, RewriteScan, RowOrder, Table, TableScan, ensure_table,
};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use serde_json::json;

use crate::{
    evolution::change_schema,
    harness::{Lake, operation, query},
};

const ROWS: i64 = 3_000;
/// Memory in which all rows have room, and in which they haven't, but for merging what went to disk.
const ENOUGH: usize = 64 << 20;
const SCARCE: usize = 600 << 10;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("host_id", DataType::Utf8, false),
        Field::new("note", DataType::Utf8, true),
        Field::new("raw", DataType::Binary, true),
        Field::new("unused", DataType::Utf8, true),
        Field::new("set", DataType::Boolean, true),
        Field::new("n", DataType::Int64, false),
    ]))
}

/// Short texts and long ones, some of them missing, scattered.
fn batch(first: i64) -> RecordBatch {
    let numbers = (first..first + ROWS).map(|n| n * 7_919 % 10_007).collect::<Vec<_>>();
    let hosts = numbers.iter().map(|n| Some(format!("host {}{}", n % 40, "x".repeat((n % 20) as usize))));
    let notes = numbers.iter().map(|n| (n % 3 != 0).then(|| format!("a note about number {n}")));
    let raw = numbers.iter().map(|n| (n % 5 != 0).then(|| n.to_be_bytes().repeat((n % 4) as usize)));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter(hosts)),
        Arc::new(StringArray::from_iter(notes)),
        Arc::new(BinaryArray::from_iter(raw)),
        Arc::new(StringArray::new_null(numbers.len())),
        Arc::new(BooleanArray::from_iter(numbers.iter().map(|n| (n % 7 != 0).then_some(n % 2 == 0)))),
        Arc::new(Int64Array::from(numbers)),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

/// A table with files of both batches; its columns are renamed and added to between them.
async fn table(lake: &Lake, name: &str, version: &str, partitioning: &[(&str, &str)]) -> Table {
    let partitioning = partitioning.iter().map(|(column, transform)| Partitioning {
        column: (*column).to_owned(),
        transform: (*transform).to_owned(),
    });
    let new = NewTable {
        ident: TableIdent::new("bronze", name),
        schema: schema(),
        partitioning: partitioning.collect(),
        properties: BTreeMap::from([("format-version".to_owned(), version.to_owned())]),
    };
    let table = ensure_table(&lake.client, &lake.file_io, "main", &new).await.unwrap();
    lake.append(&table, &batch(0)).await;
    lake.append(&table, &batch(ROWS)).await;
    let is_new = version == "3";
    change_schema(lake, &lake.load(&table).await, |fields| {
        fields[1]["name"] = json!("remark");
        let mut added = json!({"id": 7, "name": "os", "required": false, "type": "string"});
        if is_new {
            added["initial-default"] = json!("some operating system");
        }
        fields.push(added);
    })
    .await;
    lake.load(&table).await
}

/// Everything that a table holds, in an order of its own.
async fn all(table: &Table) -> String {
    let scan = TableScan::new(table, None).await.unwrap();
    query(scan, "SELECT * FROM t ORDER BY n, host_id").await
}

fn session(memory_bytes: usize, disk: DiskManagerMode) -> SessionContext {
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_limit(memory_bytes, 1.0)
        .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(disk));
    let config = SessionConfig::new().with_batch_size(500);
    SessionContext::new_with_config_rt(config, runtime.build_arc().unwrap())
}

/// Rewrites all files; answers their footers as well.
async fn rewrite(
    lake: &Lake,
    table: &Table,
    order: &str,
    memory_bytes: usize,
) -> (Table, Vec<ParquetMetaData>) {
    let files = table.data_files(None).await.unwrap();
    let remove = files.into_iter().map(|file| file.location).collect::<Vec<_>>();
    let scan = RewriteScan::new(table, &remove).await.unwrap();
    let options = RewriteOptions { order: RowOrder::parse(order).unwrap(), ..RewriteOptions::default() };
    let without_disk = scan.write(&session(memory_bytes, DiskManagerMode::Disabled), &options).await;
    let add = match without_disk {
        Ok(rewritten) if memory_bytes == ENOUGH => rewritten.files,
        Ok(_) => panic!("{order}: the memory was enough"),
        Err(error) => {
            assert!(memory_bytes < ENOUGH, "{order}: {error:?}");
            let session = session(memory_bytes, DiskManagerMode::OsTmpDirectory);
            let rewritten = scan.write(&session, &options).await.unwrap();
            assert_eq!(session.runtime_env().memory_pool.reserved(), 0, "{order}");
            rewritten.files
        }
    };
    let mut footers = Vec::new();
    for file in &add {
        let bytes = lake.file_io.read(&file.location).await.unwrap();
        footers.push(ParquetMetaDataReader::new().parse_and_finish(&bytes).unwrap());
    }
    let base_snapshot_id = scan.base_snapshot_id();
    let rewrite = Operation::Rewrite { remove, add, base_snapshot_id };
    lake.commit(vec![operation(table, rewrite)]).await.unwrap();
    (lake.load(table).await, footers)
}

#[tokio::test]
async fn rows_in_order_are_the_same_rows_in_files_of_the_same_kind() {
    let lake = Lake::start().await;
    let partitionings: [&[_]; 3] = [&[], &[("host_id", "truncate[6]")], &[("raw", "bucket[3]")]];
    for (number, (version, partitioning)) in ["2", "3", "2"].into_iter().zip(partitionings).enumerate() {
        let table = table(&lake, &format!("t{number}"), version, partitioning).await;
        let before = all(&table).await;
        assert_eq!(before.contains("some operating system"), version == "3");
        // In memory, where the first finds files from before the columns changed, and by way of files.
        let (mut table, mut written) = (table, Vec::new());
        for (order, memory_bytes) in [
            ("sort(host_id, remark desc)", ENOUGH),
            ("sort(remark, raw)", SCARCE),
            ("zorder(host_id, remark)", ENOUGH),
            ("zorder(raw, n)", SCARCE),
        ] {
            let (after, footers) = rewrite(&lake, &table, order, memory_bytes).await;
            assert_eq!(all(&after).await, before, "{order} of format {version} by {partitioning:?}");
            written.extend(footers);
            table = after;
        }
        let (_, as_they_are) = rewrite(&lake, &table, "none", ENOUGH).await;
        let wanted = as_they_are[0].file_metadata();
        for footer in &written {
            let file = footer.file_metadata();
            assert_eq!(file.schema_descr().root_schema(), wanted.schema_descr().root_schema());
            assert_eq!(file.key_value_metadata(), wanted.key_value_metadata());
        }
    }
}
