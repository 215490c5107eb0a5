//! Which rows equality deletes remove.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap as Metadata;

use arrow::array::{Int64Array, StringArray};
use datafusion::execution::memory_pool::UnboundedMemoryPool;
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

use super::*;

fn schema() -> Schema {
    let field = |id: i32, name: &str, data_type| {
        let id = Metadata::from([(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())]);
        Field::new(name, data_type, true).with_metadata(id)
    };
    let hidden = [SEQUENCE_COLUMN, SCOPE_COLUMN].map(|name| Field::new(name, DataType::Int64, false));
    let mut fields = vec![field(1, "name", DataType::Utf8), field(2, "n", DataType::Int64)];
    fields.extend(hidden);
    Schema::new(fields)
}

fn set(ids: &[i32], scope: Option<i64>, keys: &[ArrayRef], sequence_number: i64) -> KeySet {
    let mut set = KeySet::new(ids, &[1, 2], scope, &schema()).unwrap();
    set.add(keys, sequence_number).unwrap();
    set
}

/// Whether rows of name, number, data sequence number and partition stay.
fn stay(sets: Vec<KeySet>, rows: &[(Option<&str>, Option<i64>, i64, i64)]) -> Vec<bool> {
    let pool: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
    let memory = MemoryConsumer::new("test").register(&pool);
    let deletes = EqualityDeletes { key_ids: vec![1, 2], sets, scopes: HashMap::new(), _memory: memory };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| row.0).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| row.1).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.2).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.3).collect::<Int64Array>()),
    ];
    let batch = RecordBatch::try_new(Arc::new(schema()), columns).unwrap();
    let filter = NotDeleted::new(Arc::new(deletes), &schema()).unwrap();
    let stays = filter.evaluate(&batch).unwrap().into_array(rows.len()).unwrap();
    stays.as_boolean().values().iter().collect()
}

#[test]
fn null_equals_null_and_nothing_else() {
    let keys: [ArrayRef; 2] =
        [Arc::new(StringArray::from(vec![None, Some("a")])), Arc::new(Int64Array::from(vec![Some(1), None]))];
    let rows = [
        (None, Some(1), 1, -1),
        (Some("a"), None, 1, -1),
        (None, None, 1, -1),
        (Some("a"), Some(1), 1, -1),
        (Some(""), Some(1), 1, -1),
    ];
    assert_eq!(stay(vec![set(&[1, 2], None, &keys, 2)], &rows), [false, false, true, true, true]);
}

#[test]
fn only_rows_that_came_before_the_newest_delete_of_their_key_go() {
    let key: [ArrayRef; 1] = [Arc::new(Int64Array::from(vec![7]))];
    let mut keys = set(&[2], None, &key, 5);
    keys.add(&key, 3).unwrap();
    let rows =
        [(None, Some(7), 4, -1), (None, Some(7), 5, -1), (None, Some(7), 6, -1), (None, Some(8), 1, -1)];
    assert_eq!(stay(vec![keys], &rows), [false, true, true, true]);
}

#[test]
fn keys_of_a_partition_leave_others_alone() {
    let key: [ArrayRef; 1] = [Arc::new(StringArray::from(vec!["a"]))];
    let rows = [(Some("a"), None, 1, 0), (Some("a"), None, 1, 1), (Some("a"), None, 1, -1)];
    assert_eq!(stay(vec![set(&[1], Some(1), &key, 2)], &rows), [true, false, true]);
    assert_eq!(stay(vec![set(&[1], None, &key, 2)], &rows), [false, false, false]);
}
