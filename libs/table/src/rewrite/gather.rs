//! Rows in memory: how much they take, and how they are gathered.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use arrow::{
    array::{Array, ArrayData, ArrayRef, AsArray, BooleanArray, RecordBatch, new_null_array},
    buffer::{BooleanBuffer, Buffer},
    compute::interleave,
    datatypes::{DataType, SchemaRef},
    error::ArrowError,
};

/// Memory that rows refer to, which must be held as long as this. Views of many batches are of one dictionary, which counts once.
#[derive(Default)]
pub(super) struct Buffers(HashSet<usize>);

impl Buffers {
    /// Bytes of a batch that none before it refers to.
    pub(super) fn add(&mut self, batch: &RecordBatch) -> usize {
        batch.columns().iter().map(|column| self.add_data(&column.to_data())).sum()
    }

    fn add_data(&mut self, data: &ArrayData) -> usize {
        let nulls = data.nulls().map_or(0, |nulls| self.add_buffer(nulls.buffer()));
        let buffers = data.buffers().iter().map(|buffer| self.add_buffer(buffer)).sum::<usize>();
        let children = data.child_data().iter().map(|child| self.add_data(child)).sum::<usize>();
        nulls + buffers + children
    }

    fn add_buffer(&mut self, buffer: &Buffer) -> usize {
        let is_new = self.0.insert(buffer.data_ptr().addr().get());
        if is_new { buffer.capacity() } else { 0 }
    }
}

/// Columns without a value in any row, of which tables have some that nobody fills yet. They take no memory of their own.
#[derive(Default)]
pub(super) struct Nulls(HashMap<DataType, ArrayRef>);

impl Nulls {
    /// The batch with such columns as parts of one that all batches have.
    pub(super) fn share(&mut self, batch: RecordBatch) -> Result<RecordBatch, ArrowError> {
        let (schema, mut columns, rows) = batch.into_parts();
        for column in columns.iter_mut().filter(|column| column.null_count() == rows) {
            *column = self.of(column.data_type(), rows);
        }
        RecordBatch::try_new(schema, columns)
    }

    fn of(&mut self, data_type: &DataType, rows: usize) -> ArrayRef {
        match self.0.get(data_type) {
            Some(nulls) if nulls.len() >= rows => nulls.slice(0, rows),
            _ => {
                let nulls = new_null_array(data_type, rows);
                self.0.insert(data_type.clone(), Arc::clone(&nulls));
                nulls
            }
        }
    }
}

/// Rows of batches of one schema, by batch and row.
pub(super) fn gather(
    schema: &SchemaRef,
    batches: &[RecordBatch],
    places: &[(usize, usize)],
) -> Result<RecordBatch, ArrowError> {
    let column = |index: usize| {
        let arrays = batches.iter().map(|batch| batch.column(index).as_ref()).collect::<Vec<_>>();
        gather_column(schema.field(index).data_type(), &arrays, places)
    };
    let columns = (0..schema.fields().len()).map(column).collect::<Result<_, _>>()?;
    RecordBatch::try_new(Arc::clone(schema), columns)
}

fn gather_column(
    data_type: &DataType,
    arrays: &[&dyn Array],
    places: &[(usize, usize)],
) -> Result<ArrayRef, ArrowError> {
    if arrays.iter().all(|array| array.null_count() == array.len()) {
        let nulls = arrays.iter().find(|array| array.len() >= places.len());
        return Ok(nulls
            .map_or_else(|| new_null_array(data_type, places.len()), |nulls| nulls.slice(0, places.len())));
    }
    match data_type {
        DataType::Boolean => Ok(Arc::new(gather_booleans(arrays, places))),
        _ => interleave(arrays, places),
    }
}

/// Arrow has no way of its own for them, and appends one row after the other.
fn gather_booleans(arrays: &[&dyn Array], places: &[(usize, usize)]) -> BooleanArray {
    let arrays = arrays.iter().map(|array| array.as_boolean()).collect::<Vec<_>>();
    let at = |index: usize| {
        let (batch, row) = places[index];
        (arrays[batch], row)
    };
    let values = BooleanBuffer::collect_bool(places.len(), |index| {
        let (array, row) = at(index);
        array.values().value(row)
    });
    let nulls = arrays.iter().any(|array| array.null_count() > 0).then(|| {
        let valid = BooleanBuffer::collect_bool(places.len(), |index| {
            let (array, row) = at(index);
            array.is_valid(row)
        });
        valid.into()
    });
    BooleanArray::new(values, nulls)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use arrow::{
        array::{Int64Array, StringViewArray},
        compute::concat_batches,
        datatypes::{Field, Int64Type, Schema},
    };

    use super::*;

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        let columns = columns.into_iter().map(|(name, column)| (name, column, true));
        RecordBatch::try_from_iter_with_nullable(columns).unwrap()
    }

    #[test]
    fn what_many_batches_refer_to_counts_once() {
        let texts =
            StringViewArray::from_iter_values((0..100).map(|row| format!("a text by the number of {row}")));
        let of = |first: usize| {
            // Views of their own, of texts that all have.
            let views = texts.views()[first..first + 10].to_vec().into();
            let part = StringViewArray::try_new(views, texts.data_buffers().to_vec(), None).unwrap();
            batch(vec![("text", Arc::new(part))])
        };
        let shared: usize = texts.data_buffers().iter().map(Buffer::capacity).sum();
        let mut buffers = Buffers::default();
        let held = [of(0), of(10)];
        assert_eq!(held.each_ref().map(|batch| buffers.add(batch)), [shared + 160, 160]);
        assert_eq!(Buffers::default().add(&held[1]), shared + 160);
    }

    #[test]
    fn columns_without_values_take_no_memory_of_their_own() {
        let list = DataType::List(Arc::new(Field::new("element", DataType::Utf8, true)));
        let (mut nulls, mut buffers) = (Nulls::default(), Buffers::default());
        let mut batches = Vec::new();
        let mut held = |rows: usize| {
            let columns = vec![
                ("text", new_null_array(&DataType::Utf8View, rows)),
                ("list", new_null_array(&list, rows)),
            ];
            let batch = nulls.share(batch(columns)).unwrap();
            assert_eq!(
                (batch.num_rows(), batch.column(0).null_count(), batch.column(1).null_count()),
                (rows, rows, rows)
            );
            batches.push(batch);
            buffers.add(&batches[batches.len() - 1])
        };
        assert!(held(1_000) >= 16_000);
        assert_eq!([held(1_000), held(10)], [0, 0]);
        assert!(held(2_000) >= 32_000);
    }

    #[test]
    fn gathered_rows_are_those_at_their_places() {
        let rows = |first: i64, flags: [Option<bool>; 3], texts: [Option<&str>; 3]| {
            let none = new_null_array(&DataType::Utf8View, 3);
            batch(vec![
                ("number", Arc::new(Int64Array::from_iter_values(first..first + 3))),
                ("flag", Arc::new(BooleanArray::from_iter(flags))),
                ("set", Arc::new(BooleanArray::from_iter(flags.map(|flag| Some(flag.is_some()))))),
                ("text", Arc::new(StringViewArray::from_iter(texts))),
                ("none", none),
            ])
        };
        let batches = [
            rows(
                0,
                [Some(true), None, Some(false)],
                [Some("short"), Some("longer than what is in a view"), None],
            ),
            rows(3, [Some(true); 3], [None; 3]),
        ];
        let schema: Arc<Schema> = batches[0].schema();
        let places = [(1, 2), (0, 1), (0, 0), (1, 0), (0, 2), (0, 1), (1, 1)];
        let gathered = gather(&schema, &batches, &places).unwrap();
        let each = places.map(|(batch, row)| batches[batch].slice(row, 1));
        assert_eq!(gathered, concat_batches(&schema, &each).unwrap());
        assert_eq!(gathered.column(0).as_primitive::<Int64Type>().values(), &[5, 1, 0, 3, 2, 1, 4]);
    }
}
