//! Rows that are sorted, in memory and over files, as texts and as views.

#![allow(clippy::unwrap_used)]

use arrow::{
    array::{ArrayRef, AsArray, Int64Array, StringArray, StringViewArray},
    compute::{cast, concat_batches, lexsort_to_indices, take_record_batch},
    datatypes::{DataType, Field, Int64Type, Schema},
};
use datafusion::{
    execution::runtime_env::RuntimeEnvBuilder, physical_plan::common::collect, prelude::SessionConfig,
};
use proptest::prelude::*;

use super::*;
use crate::views::with_views;

const ROWS: usize = 500;

/// Batches of hosts that begin alike, some of them missing, at times of which many are equal, with what tells rows apart.
fn batches(rows: &[(Option<u16>, i64)]) -> Vec<RecordBatch> {
    let schema = Arc::new(Schema::new(vec![
        Field::new("host", DataType::Utf8, true),
        Field::new("at", DataType::Int64, false),
        Field::new("number", DataType::Int64, false),
    ]));
    let numbered = rows.iter().zip(0_i64..).collect::<Vec<_>>();
    let batch = |rows: &[(&(Option<u16>, i64), i64)]| {
        let host = |host: u16| format!("a computer by the number of {host}");
        let hosts = rows.iter().map(|(row, _)| row.0.map(host)).collect::<StringArray>();
        let at = rows.iter().map(|(row, _)| row.1).collect::<Int64Array>();
        let number = rows.iter().map(|(_, number)| *number).collect::<Int64Array>();
        RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(hosts), Arc::new(at), Arc::new(number)])
    };
    numbered.chunks(ROWS).map(|rows| batch(rows).unwrap()).collect()
}

fn by(name: &str, descending: bool, nulls_first: bool) -> SortColumn {
    SortColumn { name: name.to_owned(), descending, nulls_first }
}

/// The same with texts as views.
fn views(batches: &[RecordBatch]) -> Vec<RecordBatch> {
    let views = |batch: &RecordBatch| {
        let schema = with_views(batch.schema_ref());
        let column = |(field, column): (&Arc<Field>, &ArrayRef)| cast(column, field.data_type()).unwrap();
        let columns = schema.fields().iter().zip(batch.columns()).map(column).collect();
        RecordBatch::try_new(schema, columns).unwrap()
    };
    batches.iter().map(views).collect()
}

/// The sorted rows, without views, and how many files it took.
fn sorted(batches: &[RecordBatch], by: &[SortColumn], bytes: usize) -> (RecordBatch, usize) {
    sorted_of(batches, by, bytes, 0)
}

/// The same of rows for each batch of which so many bytes were read.
fn sorted_of(
    batches: &[RecordBatch],
    by: &[SortColumn],
    bytes: usize,
    read_bytes: u64,
) -> (RecordBatch, usize) {
    let runtime = RuntimeEnvBuilder::new().with_memory_limit(bytes, 1.0).build_arc().unwrap();
    let config = SessionConfig::new().with_batch_size(ROWS);
    let session = SessionContext::new_with_config_rt(config, Arc::clone(&runtime));
    let schema = batches[0].schema();
    let sorting = async {
        let mut sorter = Sorter::new(&session, &schema, by).unwrap();
        for batch in batches {
            sorter.push(batch.clone(), read_bytes).await.unwrap();
        }
        let files = sorter.files.len();
        (collect(sorter.finish().await.unwrap()).await.unwrap(), files)
    };
    let (sorted, files) = tokio::runtime::Builder::new_multi_thread().build().unwrap().block_on(sorting);
    assert_eq!(runtime.memory_pool.reserved(), 0, "memory is given back");
    let schema = without_views(&schema);
    let plain = sorted.iter().map(|batch| plain_rows(batch, &schema).unwrap()).collect::<Vec<_>>();
    (concat_batches(&schema, &plain).unwrap(), files)
}

/// By arrow's own sort, with the rows' numbers last.
fn expected(batches: &[RecordBatch], by: &[SortColumn]) -> RecordBatch {
    let rows = concat_batches(&batches[0].schema(), batches).unwrap();
    let column = |by: &SortColumn| arrow::compute::SortColumn {
        values: Arc::clone(rows.column_by_name(&by.name).unwrap()),
        options: Some(SortOptions { descending: by.descending, nulls_first: by.nulls_first }),
    };
    let number = SortColumn { name: "number".to_owned(), descending: false, nulls_first: true };
    let columns = by.iter().chain([&number]).map(column).collect::<Vec<_>>();
    take_record_batch(&rows, &lexsort_to_indices(&columns, None).unwrap()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn rows_come_in_order_from_memory_and_from_files(
        rows in prop::collection::vec((prop::option::weighted(0.95, 0..300_u16), 0..20_i64), 1..6_000),
        [descending, nulls_first] in any::<[bool; 2]>(),
    ) {
        let batches = batches(&rows);
        let order = [by("host", descending, nulls_first), by("at", !descending, true)];
        let expected = expected(&batches, &order);
        // Rows with one key come as they came.
        let (in_memory, files) = sorted(&batches, &order, 64 << 20);
        prop_assert_eq!((&in_memory, files), (&expected, 0));
        // Of several files, rows with one key come in any order.
        let unique = [&order[..], &[by("number", false, true)]].concat();
        let (from_files, files) = sorted(&batches, &unique, 400 << 10);
        prop_assert_eq!(&from_files, &expected);
        // A row takes 150 bytes or more, as long as few are without a host.
        prop_assert!(files > 0 || rows.len() < 4_000, "{files} files of {} rows", rows.len());
        // Whatever the form of texts.
        let views = views(&batches);
        prop_assert_eq!(sorted(&views, &order, 64 << 20), (in_memory, 0));
        let (from_files, files) = sorted(&views, &unique, 400 << 10);
        prop_assert_eq!(&from_files, &expected);
        prop_assert!(files > 0 || rows.len() < 4_000, "{files} files of {} rows of views", rows.len());
    }
}

#[test]
fn what_has_no_room_is_refused_by_name() {
    let batches = batches(&[(Some(1), 1); ROWS]);
    let session = SessionContext::new_with_config_rt(
        SessionConfig::new(),
        RuntimeEnvBuilder::new().with_memory_limit(1_000, 1.0).build_arc().unwrap(),
    );
    let mut sorter = Sorter::new(&session, &batches[0].schema(), &[by("at", false, true)]).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
    let error = runtime.block_on(sorter.push(batches[0].clone(), 0)).unwrap_err();
    assert!(error.to_string().contains(SORTER), "{error}");
}

/// Forty batches of twenty rows with four long texts, to which all of them refer.
fn few_texts() -> Vec<RecordBatch> {
    let texts = (0..4).map(|number| format!("{number}{}", "long".repeat(1 << 14)));
    let texts = StringViewArray::from_iter_values(texts);
    let batch = |first: i64| {
        let rows = first..first + 20;
        let views = rows.clone().map(|row| texts.views()[(row % 4) as usize]).collect::<Vec<_>>();
        let part = StringViewArray::try_new(views.into(), texts.data_buffers().to_vec(), None).unwrap();
        let numbers = Int64Array::from_iter_values(rows.rev());
        let columns: [(_, ArrayRef); 2] = [("text", Arc::new(part)), ("number", Arc::new(numbers))];
        RecordBatch::try_from_iter(columns).unwrap()
    };
    (0..40).map(|number| batch(number * 20)).collect()
}

#[test]
fn texts_that_many_rows_share_take_memory_once() {
    let (batches, by) = (few_texts(), [by("number", false, true)]);
    // There would be 10 MB of texts if each batch had its own, and 50 if each row had. Those of one batch can be gathered.
    let (rows, files) = sorted(&batches, &by, 5 << 20);
    assert_eq!(files, 0);
    let numbers = rows.column(1).as_primitive::<Int64Type>().values().to_vec();
    assert_eq!(numbers, (0..800).collect::<Vec<_>>());
    // Where that isn't to be had, there is no room at all.
    let session = SessionContext::new_with_config_rt(
        SessionConfig::new(),
        RuntimeEnvBuilder::new().with_memory_limit(1 << 20, 1.0).build_arc().unwrap(),
    );
    let mut sorter = Sorter::new(&session, &batches[0].schema(), &by).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
    let error = runtime.block_on(sorter.push(batches[0].clone(), 0)).unwrap_err();
    assert!(error.to_string().contains(SORTER), "{error}");
}

#[test]
fn what_was_read_for_views_counts() {
    let batches = views(&batches(&[(Some(1), 1); 4 * ROWS]));
    let by = [by("number", false, true)];
    assert_eq!(sorted_of(&batches, &by, 4 << 20, 0).1, 0);
    let (rows, files) = sorted_of(&batches, &by, 4 << 20, 2 << 20);
    assert_eq!((rows.num_rows(), files), (4 * ROWS, 3));
}

#[test]
fn nothing_sorted_is_nothing() {
    let empty = batches(&[(None, 1)])[0].slice(0, 0);
    let (sorted, files) = sorted(&[empty], &[by("at", false, true)], 1 << 20);
    assert_eq!((sorted.num_rows(), files), (0, 0));
    assert_eq!(sorted.column(1).as_primitive::<Int64Type>().len(), 0);
}
