//! Row groups that come into new files without being decoded.

use std::sync::Arc;

use bytes::Bytes;
use datafusion::{
    arrow::{
        array::{ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray},
        datatypes::Int64Type,
    },
    prelude::SessionContext,
};
use firn_catalog_client::iceberg::TableIdent;
use firn_table::{
    DataFileWriter, NewTable, Operation, RewriteOptions, RewriteScan, RewrittenFiles, RowOrder, Table,
    TableErrorKind, TableScan, WriteOptions, ensure_table,
};
use parquet::{
    arrow::arrow_reader::ParquetRecordBatchReaderBuilder,
    file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader},
};

use crate::{
    deletes::{append, delete, table_of_format},
    evolution::change_schema,
    harness::{DAY, Lake, files_below, operation, query, rows, samples, write},
};

/// Any row group is large enough.
fn copying() -> RewriteOptions {
    RewriteOptions { copy_row_groups_of_bytes: Some(1), ..RewriteOptions::default() }
}

async fn rewrite(table: &Table, options: &RewriteOptions) -> RewrittenFiles {
    let files = table.data_files(None).await.unwrap();
    let locations = files.into_iter().map(|file| file.location).collect::<Vec<_>>();
    let scan = RewriteScan::new(table, &locations).await.unwrap();
    scan.write(&SessionContext::new(), options).await.unwrap()
}

/// Rewrites all files and commits; answers how many were copied, and the table after it.
async fn pack(lake: &Lake, table: &Table, options: &RewriteOptions) -> (usize, Table) {
    let table = lake.load(table).await;
    let remove = table.data_files(None).await.unwrap().into_iter().map(|file| file.location).collect();
    let RewrittenFiles { files, copied_files, .. } = rewrite(&table, options).await;
    let base_snapshot_id = table.current_snapshot().unwrap().id;
    let operation_ = Operation::Rewrite { remove, add: files, base_snapshot_id };
    lake.commit(vec![operation(&table, operation_)]).await.unwrap();
    (copied_files, lake.load(&table).await)
}

async fn footer(table: &Table, location: &str) -> (Bytes, ParquetMetaData) {
    let bytes = table.file_io().read(location).await.unwrap();
    let reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Required);
    let footer = reader.parse_and_finish(&bytes).unwrap();
    (bytes, footer)
}

/// Appends files of two row groups of 40 and 20 rows each, with a text, a number with nulls and a float with NaN.
async fn of_many_columns(lake: &Lake, name: &str, files: i64) -> Table {
    let batch = |first: i64, rows: i64| {
        let numbers = first..first + rows;
        let text = StringArray::from_iter_values(numbers.clone().map(|n| format!("host-{n:05}")));
        let number = Int64Array::from_iter(numbers.clone().map(|n| (n % 5 != 0).then_some(n)));
        let float = Float64Array::from_iter_values(numbers.map(|n| if n % 7 == 0 { f64::NAN } else { 0.5 }));
        let columns: Vec<(&str, ArrayRef)> =
            vec![("host_id", Arc::new(text)), ("n", Arc::new(number)), ("share", Arc::new(float))];
        RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(name, column)| (name, column, true)),
        )
        .unwrap()
    };
    let new = NewTable {
        ident: TableIdent::new("bronze", name),
        schema: batch(0, 1).schema(),
        partitioning: vec![],
        properties: [].into(),
    };
    let table = ensure_table(&lake.client, &lake.file_io, "main", &new).await.unwrap();
    for number in 0..files {
        let options = WriteOptions { max_row_group_rows: 40, ..WriteOptions::default() };
        let mut writer = DataFileWriter::new(&table, options).unwrap();
        writer.write(&batch(number * 60, 60)).await.unwrap();
        let files = writer.close().await.unwrap();
        lake.commit(vec![operation(&table, Operation::Append { files })]).await.unwrap();
    }
    lake.load(&table).await
}

#[tokio::test]
async fn copied_row_groups_hold_the_same_bytes_statistics_and_indexes() {
    let lake = Lake::start().await;
    let table = of_many_columns(&lake, "copied", 3).await;
    let sql = "SELECT host_id, n, share FROM t ORDER BY host_id";
    let before = query(TableScan::new(&table, None).await.unwrap(), sql).await;
    let mut old = Vec::new();
    for file in table.data_files(None).await.unwrap() {
        old.push(footer(&table, &file.location).await);
    }

    let (copied, table) = pack(&lake, &table, &copying()).await;
    assert_eq!(copied, 3);
    assert_eq!(query(TableScan::new(&table, None).await.unwrap(), sql).await, before);
    let files = table.data_files(None).await.unwrap();
    assert_eq!(files.iter().map(|file| file.record_count).collect::<Vec<_>>(), [180]);
    let (bytes, new) = footer(&table, &files[0].location).await;
    assert_eq!(bytes.len() as u64, files[0].size_bytes);
    assert_eq!(new.num_row_groups(), 6);

    // Files were copied in the order of the manifests, which need not be that of the listing.
    let groups = old.iter().flat_map(|(bytes, footer)| (0..2).map(move |number| (bytes, footer, number)));
    let groups = groups.collect::<Vec<_>>();
    for number in 0..6 {
        let group = new.row_group(number);
        let chunk = |bytes: &Bytes, footer: &ParquetMetaData, group: usize, column: usize| {
            let (start, length) = footer.row_group(group).column(column).byte_range();
            bytes.slice(usize::try_from(start).unwrap()..usize::try_from(start + length).unwrap())
        };
        let same = |(bytes_, footer, old): &&(&Bytes, &ParquetMetaData, usize)| {
            (0..3).all(|column| chunk(&bytes, &new, number, column) == chunk(bytes_, footer, *old, column))
        };
        let (_, footer, old) = groups.iter().find(same).expect("a row group with the same bytes");
        let before = footer.row_group(*old);
        assert_eq!((group.num_rows(), group.ordinal()), (before.num_rows(), i16::try_from(number).ok()));
        for column in 0..3 {
            let (now, then) = (group.column(column), before.column(column));
            assert_eq!(now.statistics(), then.statistics());
            assert_eq!(now.page_encoding_stats_mask(), then.page_encoding_stats_mask());
            let index = |footer: &ParquetMetaData, group: usize| {
                footer.column_index().unwrap()[group][column].clone()
            };
            assert_eq!(index(&new, number), index(footer, *old));
            let pages = new.offset_index().unwrap()[number][column].page_locations();
            assert_eq!(pages[0].offset, now.data_page_offset());
        }
    }
    // A query by the page index and the manifest's bounds finds the row, and only it.
    let found =
        query(TableScan::new(&table, None).await.unwrap(), "SELECT n FROM t WHERE host_id = 'host-00091'")
            .await;
    assert!(found.contains("| 91 |"), "{found}");
    let snapshot = table.current_snapshot().unwrap();
    assert_eq!((snapshot.operation.as_str(), snapshot.summary["total-records"].as_str()), ("replace", "180"));
}

#[tokio::test]
async fn manifests_say_of_copies_what_they_said_of_their_files() {
    let lake = Lake::start().await;
    let table = of_many_columns(&lake, "told", 3).await;
    let decoded = rewrite(&table, &RewriteOptions::default()).await;
    let copied = rewrite(&table, &copying()).await;
    assert_eq!((decoded.copied_files, copied.copied_files), (0, 3));
    let told = |rewritten: &RewrittenFiles| {
        // How the entry is made is not public, what it says is.
        let text = format!("{:?}", rewritten.files[0]);
        let part = |name: &str| {
            let from = text.find(&format!("{name}: ")).unwrap();
            let rest = &text[from..];
            let mut pairs: Vec<_> =
                rest[rest.find('{').unwrap() + 1..rest.find('}').unwrap()].split(", ").collect();
            pairs.sort_unstable();
            pairs.join(", ")
        };
        ["value_counts", "null_value_counts", "nan_value_counts"].map(part)
    };
    assert_eq!(told(&copied), told(&decoded));
    assert!(told(&copied)[1].contains("2: 36") && told(&copied)[2].contains("3: 26"), "{:?}", told(&copied));
}

#[tokio::test]
async fn only_files_as_they_would_be_written_now_are_copied() {
    let lake = Lake::start().await;
    // Small row groups, an order, and a file alone.
    let table = of_many_columns(&lake, "small", 2).await;
    let small = RewriteOptions { copy_row_groups_of_bytes: Some(1 << 20), ..copying() };
    assert_eq!(rewrite(&table, &small).await.copied_files, 0);
    let ordered = RewriteOptions { order: RowOrder::parse("sort(n)").unwrap(), ..copying() };
    assert_eq!(rewrite(&table, &ordered).await.copied_files, 0);
    assert_eq!(rewrite(&table, &copying()).await.copied_files, 2);
    let narrow = WriteOptions { max_buffered_bytes: 10, ..WriteOptions::default() };
    let narrow = RewriteOptions { write: narrow, ..copying() };
    assert_eq!(rewrite(&table, &narrow).await.copied_files, 0, "a column is larger than the memory");
    let alone = of_many_columns(&lake, "alone", 1).await;
    assert_eq!(rewrite(&alone, &copying()).await.copied_files, 0);

    // A column more: the files lack it.
    let table = lake.samples("grown", &[]).await;
    for value in 0..3 {
        lake.append(&table, &samples(&[("a", DAY, value)])).await;
    }
    change_schema(&lake, &table, |fields| {
        fields.push(serde_json::json!({"id": 9, "name": "extra", "type": "string", "required": false}));
    })
    .await;
    assert_eq!(rewrite(&lake.load(&table).await, &copying()).await.copied_files, 0);
}

#[tokio::test]
async fn a_group_may_be_copied_in_part() {
    for version in [2, 3] {
        let lake = Lake::start().await;
        let table = table_of_format(&lake, version).await;
        let mut files = Vec::new();
        for first in [0, 10, 20, 30] {
            files.push(append(&lake, &table, first, first + 10).await);
        }
        lake.commit(vec![delete(&table, &files[1], &[0, 4])]).await.unwrap();
        let before = rows(&lake.load(&table).await).await;
        let (copied, packed) = pack(&lake, &table, &copying()).await;
        // Rows of format 3 have their ids from their first file, until they are written once.
        assert_eq!(copied, if version == 2 { 3 } else { 0 });
        assert_eq!(rows(&packed).await, before);
        let files = packed.data_files(None).await.unwrap();
        let mut counts: Vec<_> = files.iter().map(|file| file.record_count).collect();
        counts.sort_unstable();
        assert_eq!(counts, if version == 2 { vec![8, 30] } else { vec![38] });
        assert!(files.iter().all(|file| file.delete_files == 0));
        assert_eq!(packed.current_snapshot().unwrap().summary["total-delete-files"], "0");
    }
}

#[tokio::test]
async fn rows_of_format_3_that_know_their_ids_are_copied_with_them() {
    let lake = Lake::start().await;
    let table = table_of_format(&lake, 3).await;
    // Two files whose rows were rewritten, and so carry their ids.
    for first in [0, 10] {
        let location = append(&lake, &table, first, first + 10).await;
        let base = lake.load(&table).await;
        let scan = RewriteScan::new(&base, std::slice::from_ref(&location)).await.unwrap();
        let written = scan.write(&SessionContext::new(), &RewriteOptions::default()).await.unwrap();
        let base_snapshot_id = scan.base_snapshot_id();
        let moved = Operation::Rewrite { remove: vec![location], add: written.files, base_snapshot_id };
        lake.commit(vec![operation(&table, moved)]).await.unwrap();
    }
    let (copied, table) = pack(&lake, &table, &copying()).await;
    assert_eq!(copied, 2);
    let files = table.data_files(None).await.unwrap();
    let bytes = table.file_io().read(&files[0].location).await.unwrap();
    let batches = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
    let mut ids = Vec::new();
    for batch in batches {
        let batch = batch.unwrap();
        ids.extend_from_slice(batch["_row_id"].as_primitive::<Int64Type>().values());
    }
    ids.sort_unstable();
    // The first rewritten file was given ids, too, which its rows don't need.
    assert_eq!(ids, (0..10).chain(20..30).collect::<Vec<_>>());
}

#[tokio::test]
async fn damaged_files_leave_the_table_as_it_was() {
    let lake = Lake::start().await;
    let table = of_many_columns(&lake, "damaged", 3).await;
    let files = table.data_files(None).await.unwrap();
    let path = files[1].location.strip_prefix("file://").unwrap();
    let whole = std::fs::read(path).unwrap();
    let (_, parquet) = footer(&table, &files[1].location).await;
    let (first, _) = parquet.row_group(1).column(0).byte_range();
    let first = usize::try_from(first).unwrap();

    let mut without_header = whole.clone();
    without_header[first..first + 8].fill(0xff);
    let truncated = whole[..whole.len() / 2].to_vec();
    for (what, bytes) in [("a page's header", without_header), ("the end", truncated)] {
        std::fs::write(path, bytes).unwrap();
        let held = files_below(&table, "data").await;
        let locations = files.iter().map(|file| file.location.clone()).collect::<Vec<_>>();
        // What was read before is remembered by location.
        let fresh = lake.load(&table).await;
        let scan = RewriteScan::new(&fresh, &locations).await.unwrap();
        let error = scan.write(&SessionContext::new(), &copying()).await.unwrap_err();
        assert!(error.context.contains(&files[1].location), "{what}: {error}");
        assert_eq!(files_below(&table, "data").await, held, "{what}: what was written is removed");
    }
    std::fs::remove_file(path).unwrap();
    let locations = files.iter().map(|file| file.location.clone()).collect::<Vec<_>>();
    let scan = RewriteScan::new(&table, &locations).await.unwrap();
    let error = scan.write(&SessionContext::new(), &copying()).await.unwrap_err();
    assert_eq!(error.kind, TableErrorKind::Storage, "{error}");
    assert_eq!(files_below(&table, "data").await, 2);

    std::fs::write(path, whole).unwrap();
    let (copied, packed) = pack(&lake, &table, &copying()).await;
    assert_eq!((copied, packed.data_files(None).await.unwrap().len()), (3, 1));
}

#[tokio::test]
async fn copies_are_closed_at_their_target_size() {
    let lake = Lake::start().await;
    let table = lake.samples("rolling_copies", &[]).await;
    for value in 0..5 {
        let files = write(&table, &samples(&[("a", DAY, value)])).await;
        lake.commit(vec![operation(&table, Operation::Append { files })]).await.unwrap();
    }
    let files = lake.load(&table).await.data_files(None).await.unwrap();
    let (_, parquet) = footer(&table, &files[0].location).await;
    let group = u64::try_from(parquet.row_group(0).compressed_size()).unwrap();
    let write = WriteOptions { target_file_bytes: 2 * group, ..WriteOptions::default() };
    let (copied, packed) = pack(&lake, &table, &RewriteOptions { write, ..copying() }).await;
    let counts =
        packed.data_files(None).await.unwrap().iter().map(|file| file.record_count).collect::<Vec<_>>();
    assert_eq!((copied, counts.len(), counts.iter().sum::<u64>()), (5, 3, 5));
    assert_eq!(rows(&packed).await.len(), 5);
}
