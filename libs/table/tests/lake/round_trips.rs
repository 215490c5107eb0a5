//! What was written is read again.

use std::{collections::BTreeMap, sync::Arc};

use datafusion::arrow::{
    array::{
        ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array,
        Int64Builder, ListBuilder, MapBuilder, RecordBatch, StringArray, StringBuilder, StructArray,
        TimestampMicrosecondArray,
    },
    buffer::{NullBuffer, OffsetBuffer},
    datatypes::{DataType, Field, Fields, Schema},
};
use expect_test::expect;
use firn_catalog_client::iceberg::TableIdent;
use firn_table::{
    DataFileWriter, NewTable, Operation, TableErrorKind, TableScan, WriteOptions, ensure_table,
};

use crate::harness::{DAY, Lake, files_below, operation, query, rows, samples, write};

#[tokio::test]
async fn appended_rows_are_read_again_with_their_history() {
    let lake = Lake::start().await;
    let table = lake.samples("inventory", &[]).await;
    assert!(table.current_snapshot().is_none());
    assert_eq!(rows(&table).await, vec![]);

    let first = lake.append(&table, &samples(&[("a", DAY, 1), ("b", DAY, 2)])).await;
    let second = lake.append(&table, &samples(&[("c", 2 * DAY, 3)])).await;

    let table = lake.load(&table).await;
    assert_eq!(rows(&table).await, vec![("a".into(), Some(1)), ("b".into(), Some(2)), ("c".into(), Some(3))]);
    assert_eq!(table.snapshots().iter().map(|snapshot| snapshot.id).collect::<Vec<_>>(), vec![first, second]);
    let current = table.current_snapshot().unwrap();
    assert_eq!((current.id, current.parent_id, current.operation.as_str()), (second, Some(first), "append"));
    assert_eq!(current.summary["total-records"], "3");
    assert_eq!(table.snapshot_at(current.timestamp_ms).unwrap().id, second);
    assert!(table.snapshot_at(0).is_none());

    let then = TableScan::new(&table, Some(first)).await.unwrap();
    expect![[r#"
        +----------+
        | count(*) |
        +----------+
        | 2        |
        +----------+"#]]
    .assert_eq(&query(then, "SELECT count(*) FROM t").await);
    assert_eq!(TableScan::new(&table, Some(7)).await.unwrap_err().kind, TableErrorKind::NotFound);
}

#[tokio::test]
async fn every_column_type_survives() {
    let lake = Lake::start().await;
    let mut tags = MapBuilder::new(None, StringBuilder::new(), Int64Builder::new());
    tags.keys().append_value("cpu");
    tags.values().append_value(4);
    tags.append(true).unwrap();
    tags.append(false).unwrap();
    let mut addresses = ListBuilder::new(StringBuilder::new());
    addresses.append_value([Some("10.0.0.1"), None]);
    addresses.append_null();
    let package = Fields::from(vec![
        Field::new("name", DataType::Utf8, false),
        Field::new("size", DataType::Int32, true),
    ]);
    let packages = StructArray::new(
        package.clone(),
        vec![
            Arc::new(StringArray::from(vec!["curl", "vim"])) as ArrayRef,
            Arc::new(Int32Array::from(vec![Some(1), None])),
        ],
        None,
    );
    let software = datafusion::arrow::array::ListArray::new(
        Arc::new(Field::new("item", DataType::Struct(package), true)),
        OffsetBuffer::from_lengths([2, 0]),
        Arc::new(packages),
        Some(NullBuffer::from(vec![true, false])),
    );
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("flag", Arc::new(BooleanArray::from(vec![Some(true), None]))),
        ("n", Arc::new(Int32Array::from(vec![Some(-1), None]))),
        ("share", Arc::new(Float64Array::from(vec![Some(f64::NAN), Some(0.5)]))),
        (
            "price",
            Arc::new(Decimal128Array::from(vec![Some(12345), None]).with_precision_and_scale(12, 2).unwrap()),
        ),
        ("day", Arc::new(Date32Array::from(vec![Some(20_000), None]))),
        ("local", Arc::new(TimestampMicrosecondArray::from(vec![Some(1), None]))),
        ("raw", Arc::new(BinaryArray::from(vec![Some(&b"\x00\xff"[..]), None]))),
        ("tags", Arc::new(tags.finish())),
        ("addresses", Arc::new(addresses.finish())),
        ("software", Arc::new(software)),
    ];
    let fields = columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let batch =
        RecordBatch::try_new(Arc::clone(&schema), columns.into_iter().map(|(_, array)| array).collect())
            .unwrap();
    let new = NewTable {
        ident: TableIdent::new("bronze", "types"),
        schema,
        partitioning: vec![],
        properties: BTreeMap::new(),
    };
    let table = ensure_table(&lake.client, &lake.file_io, "main", &new).await.unwrap();
    lake.append(&table, &batch).await;

    let scan = TableScan::new(&lake.load(&table).await, None).await.unwrap();
    expect![[r#"
        +------+----+-------+--------+------------+----------------------------+------+----------+--------------+----------------------------------------------+
        | flag | n  | share | price  | day        | local                      | raw  | tags     | addresses    | software                                     |
        +------+----+-------+--------+------------+----------------------------+------+----------+--------------+----------------------------------------------+
        | true | -1 | NaN   | 123.45 | 2024-10-04 | 1970-01-01T00:00:00.000001 | 00ff | {cpu: 4} | [10.0.0.1, ] | [{name: curl, size: 1}, {name: vim, size: }] |
        |      |    | 0.5   |        |            |                            |      |          |              |                                              |
        +------+----+-------+--------+------------+----------------------------+------+----------+--------------+----------------------------------------------+"#]]
    .assert_eq(&query(scan, "SELECT * FROM t ORDER BY n").await);

    let scan = TableScan::new(&lake.load(&table).await, None).await.unwrap();
    let unnested = "SELECT p['name'] AS name FROM (SELECT unnest(software) AS p FROM t) ORDER BY name";
    expect![[r#"
        +------+
        | name |
        +------+
        | curl |
        | vim  |
        +------+"#]]
    .assert_eq(&query(scan, unnested).await);
}

#[tokio::test]
async fn rows_are_split_by_every_kind_of_partition() {
    let lake = Lake::start().await;
    let batch = samples(&[("aa", 0, 1), ("ab", DAY, 2), ("b", 40 * DAY, 3), ("c", 400 * DAY, -4)]);
    let expected = [
        ("host_id", "identity", 4),
        ("host_id", "truncate[1]", 3),
        ("at", "hour", 4),
        ("at", "day", 4),
        ("at", "month", 3),
        ("at", "year", 2),
        ("value", "bucket[1]", 1),
        ("value", "truncate[10]", 2),
    ];
    for (index, (column, transform, files)) in expected.into_iter().enumerate() {
        let table = lake.samples(&format!("t{index}"), &[(column, transform)]).await;
        lake.append(&table, &batch).await;
        let table = lake.load(&table).await;
        assert_eq!(table.data_files(None).await.unwrap().len(), files, "{transform}({column})");
        assert_eq!(rows(&table).await.len(), 4, "{transform}({column})");
    }
}

#[tokio::test]
async fn files_roll_at_their_target_size() {
    let lake = Lake::start().await;
    let table = lake.samples("rolling", &[]).await;
    let options = WriteOptions { target_file_bytes: 1000, max_row_group_rows: 50, ..WriteOptions::default() };
    let mut writer = DataFileWriter::new(&table, options).unwrap();
    for start in 0..20 {
        let hosts = (0..100).map(|n| format!("host-{start}-{n}")).collect::<Vec<_>>();
        let batch =
            hosts.iter().enumerate().map(|(n, host)| (host.as_str(), DAY, n as i64)).collect::<Vec<_>>();
        writer.write(&samples(&batch)).await.unwrap();
    }
    let files = writer.close().await.unwrap();
    assert!(files.len() >= 10, "{} files", files.len());
    assert_eq!(files.iter().map(|file| file.record_count).sum::<u64>(), 2000);
    lake.commit(vec![operation(&table, Operation::Append { files })]).await.unwrap();
    let table = lake.load(&table).await;
    for file in table.data_files(None).await.unwrap() {
        let bytes = table.file_io().read(&file.location).await.unwrap();
        assert_eq!(bytes.len() as u64, file.size_bytes);
    }
    assert_eq!(rows(&table).await.len(), 2000);
}

#[tokio::test]
async fn an_aborted_writer_leaves_nothing() {
    let lake = Lake::start().await;
    let table = lake.samples("aborted", &[("host_id", "identity")]).await;
    let options = WriteOptions { target_file_bytes: 1, ..WriteOptions::default() };
    let mut writer = DataFileWriter::new(&table, options).unwrap();
    writer.write(&samples(&[("a", 0, 1), ("b", 0, 2)])).await.unwrap();
    assert_eq!(files_below(&table, "data").await, 2);
    writer.abort().await;
    assert_eq!(files_below(&table, "data").await, 0);
}

#[tokio::test]
async fn files_that_were_never_committed_are_never_read() {
    let lake = Lake::start().await;
    let table = lake.samples("killed", &[]).await;
    lake.append(&table, &samples(&[("a", 0, 1)])).await;
    // A process killed between write and commit leaves exactly this.
    let orphans = write(&table, &samples(&[("b", 0, 2)])).await;
    drop(orphans);
    let table = lake.load(&table).await;
    assert_eq!(rows(&table).await, vec![("a".into(), Some(1))]);
    assert_eq!(table.snapshots().len(), 1);
    assert_eq!(files_below(&table, "data").await, 2);
}
