//! Sums of the same rows in another order and otherwise cut, and of other rows.

#![allow(clippy::unwrap_used)]

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{
        ArrayRef, BinaryArray, BooleanArray, Decimal128Array, Float64Array, Int64Array, ListArray,
        MapBuilder, StringArray, StringBuilder, StructArray, UInt32Array, make_array,
    },
    buffer::{NullBuffer, OffsetBuffer},
    compute::{cast, concat_batches, take_record_batch},
    datatypes::{DataType, Field, Schema},
};
use parquet::{
    arrow::{ArrowWriter, PARQUET_FIELD_ID_META_KEY},
    file::{metadata::ParquetMetaDataReader, properties::WriterProperties},
};

use super::*;
use crate::views::with_views;

fn named(field: Field, id: i32) -> Field {
    field.with_metadata(HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())]))
}

/// Ten rows, with nulls that hide values.
fn rows() -> RecordBatch {
    let every = |nth: usize| NullBuffer::from_iter((0..10).map(|row| row % nth != 1));
    let texts = StringArray::from_iter((0..10).map(|row| (row % 3 != 0).then(|| "é".repeat(row))));
    let numbers = Int64Array::new((-4..6).collect::<Vec<_>>().into(), Some(every(4)));
    let floats = Float64Array::from_iter((0..10).map(|row| (row != 2).then_some(f64::from(row) / 7.0)));
    let flags = BooleanArray::from_iter((0..10).map(|row| (row % 4 != 3).then_some(row % 2 == 0)));
    let amounts = Decimal128Array::from_iter_values((0..10).map(|row| -(row << 70)));
    let inner: ArrayRef = Arc::new(StringArray::from_iter_values((0..10).map(|row| format!("inner {row}"))));
    let inner_field = named(Field::new("inner", DataType::Utf8, false), 8);
    let whole = StructArray::new(vec![inner_field.clone()].into(), vec![inner], Some(every(5)));
    let item = Arc::new(named(Field::new("element", DataType::Int64, true), 9));
    let items: ArrayRef =
        Arc::new(Int64Array::from_iter((0..30).map(|value| (value % 4 != 0).then_some(value))));
    let lists = ListArray::new(Arc::clone(&item), OffsetBuffer::from_lengths([3; 10]), items, Some(every(3)));
    let key = named(Field::new("key", DataType::Utf8, false), 10);
    let value = named(Field::new("value", DataType::Utf8, true), 11);
    let mut maps = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new())
        .with_keys_field(key)
        .with_values_field(value);
    for row in 0..10_usize {
        for entry in 0..row % 3 {
            maps.keys().append_value(format!("k{entry}"));
            maps.values().append_option((row != 4).then(|| format!("{row}")));
        }
        maps.append(row != 8).unwrap();
    }
    let maps = maps.finish();
    let map_type = arrow::array::Array::data_type(&maps).clone();
    let fields = [
        Field::new("text", DataType::Utf8, true),
        Field::new("number", DataType::Int64, true),
        Field::new("float", DataType::Float64, true),
        Field::new("flag", DataType::Boolean, true),
        Field::new("amount", DataType::Decimal128(38, 2), false),
        Field::new("whole", DataType::Struct(vec![inner_field].into()), true),
        Field::new("list", DataType::List(item), true),
        Field::new("map", map_type, true),
    ];
    let ids = [1, 2, 3, 4, 5, 6, 7, 12];
    let fields = fields.into_iter().zip(ids).map(|(field, id)| named(field, id)).collect::<Vec<_>>();
    let amounts = amounts.with_precision_and_scale(38, 2).unwrap();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(texts),
        Arc::new(numbers),
        Arc::new(floats),
        Arc::new(flags),
        Arc::new(amounts),
        Arc::new(whole),
        Arc::new(lists),
        Arc::new(maps),
    ];
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

fn sums(batches: &[RecordBatch]) -> ColumnSums {
    let mut sums = ColumnSums::of_values();
    batches.iter().for_each(|batch| sums.add(batch));
    sums
}

fn difference(found: &ColumnSums, wanted: &ColumnSums) -> Option<String> {
    found.difference(wanted, |id| id.to_string())
}

#[test]
fn neither_order_nor_cuts_nor_what_nulls_hide_change_the_sums() {
    let (rows, wanted) = (rows(), sums(&[rows()]));
    assert_eq!(wanted.columns.len(), 11, "{wanted:?}");
    assert!(wanted.columns.values().all(|sum| sum.content.is_some() || sum.bytes.is_none()), "{wanted:?}");
    let order = UInt32Array::from(vec![7, 3, 9, 0, 1, 8, 2, 6, 5, 4]);
    let moved = take_record_batch(&rows, &order).unwrap();
    let cut = [moved.slice(0, 3), moved.slice(3, 0), moved.slice(3, 6), moved.slice(9, 1)];
    assert_eq!(sums(&cut), wanted);
    assert_eq!(sums(&[concat_batches(rows.schema_ref(), &cut).unwrap()]), wanted);
}

#[test]
fn any_other_value_is_told_by_its_column() {
    let (rows, wanted) = (rows(), sums(&[rows()]));
    // Another row in the place of each: none of them is like it in every column.
    for row in 0..10_u32 {
        let order = (0..10).map(|number| if number == row { (row + 1) % 10 } else { number });
        let other = sums(&[take_record_batch(&rows, &UInt32Array::from_iter_values(order)).unwrap()]);
        assert!(difference(&other, &wanted).is_some(), "row {row} twice");
    }
    let with = |index: usize, column: ArrayRef| {
        let mut columns = rows.columns().to_vec();
        columns[index] = column;
        difference(&sums(&[RecordBatch::try_new(rows.schema(), columns).unwrap()]), &wanted)
            .unwrap_or_default()
    };
    let texts = |of: &str| -> ArrayRef {
        Arc::new(StringArray::from_iter((0..10).map(|row| (row % 3 != 0).then(|| of.repeat(row)))))
    };
    assert_eq!(with(0, texts("è")), "other values in column 1");
    assert_eq!(with(0, texts("e")), "27 bytes of values instead of 54 in column 1");
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(-4..6));
    assert_eq!(with(1, numbers), "0 nulls instead of 3 in column 2");
    assert_eq!(difference(&sums(&[rows.slice(0, 9)]), &wanted).unwrap_or_default(), "9 rows instead of 10");
}

#[test]
fn without_their_values_rows_nulls_and_bytes_are_known() {
    // Many rows: nulls in runs, alone, and none.
    let order = UInt32Array::from_iter_values((0..150_u32).chain(450..500).map(|row| row * row / 7 % 10));
    let rows = take_record_batch(&rows(), &order).unwrap();
    let (all, mut some) = (sums(std::slice::from_ref(&rows)), ColumnSums::default());
    some.add(&rows.slice(0, 70));
    some.add(&rows.slice(70, 130));
    assert_eq!(difference(&some, &all), None);
    for (id, sum) in &some.columns {
        assert_eq!((sum.nulls, sum.bytes, sum.content), (all.columns[id].nulls, all.columns[id].bytes, None));
    }
    assert!([1, 8, 10, 11].iter().all(|id| some.columns[id].bytes > Some(0)), "{some:?}");
}

#[test]
fn a_footer_tells_rows_nulls_and_bytes_and_nothing_that_is_not_so() {
    let (rows, mut footer) = (rows(), ColumnSums::default());
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(4)).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), rows.schema(), Some(properties)).unwrap();
    writer.write(&rows).unwrap();
    let bytes = bytes::Bytes::from(writer.into_inner().unwrap());
    footer.add_footer(&ParquetMetaDataReader::new().parse_and_finish(&bytes).unwrap());
    assert_eq!(difference(&footer, &sums(&[rows])), None);
    let of = |id: i32| &footer.columns[&id];
    assert_eq!((of(1).nulls, of(1).bytes, of(1).content), (Some(4), Some(54), None));
    assert_eq!((of(2).nulls, of(2).bytes), (Some(3), None), "numbers are of one width");
    assert_eq!((of(8).nulls, of(8).bytes), (None, Some(8 * 7)), "within a structure that two rows lack");

    let mut fewer = footer;
    fewer.columns.get_mut(&8).unwrap().bytes = Some(55);
    let told = difference(&fewer, &sums(&[super::tests::rows()])).unwrap_or_default();
    assert_eq!(told, "55 bytes of values instead of 56 in column 8");
    fewer.columns.remove(&1);
    let told = difference(&fewer, &sums(&[super::tests::rows()])).unwrap_or_default();
    assert_eq!(told, "0 nulls instead of 4 in column 1");
}

#[test]
fn views_of_the_same_values_have_the_same_sums() {
    let lengths = [0, 1, 7, 8, 11, 12, 13, 15, 16, 17, 24, 31, 2_100];
    let value = |length: usize| (0..length).map(|at| b'!' + (at % 90) as u8).collect::<Vec<_>>();
    let values = lengths.map(value);
    let shown = NullBuffer::from_iter((0..values.len()).map(|row| row % 5 != 3));
    let plain = BinaryArray::from_iter_values(&values);
    let (offsets, bytes, _) = plain.into_parts();
    let plain = BinaryArray::new(offsets, bytes, Some(shown.clone()));
    let texts = cast(&plain, &DataType::Utf8).unwrap();
    let fields = [("text", DataType::Utf8, 1), ("raw", DataType::Binary, 2)];
    let schema =
        Arc::new(Schema::new(fields.map(|(name, of, id)| named(Field::new(name, of, true), id)).to_vec()));
    let plain = RecordBatch::try_new(schema, vec![texts, Arc::new(plain)]).unwrap();

    let views = [DataType::Utf8View, DataType::BinaryView].into_iter().zip(plain.columns());
    // What nulls hide is there in the views, too.
    let views = views.map(|(of, column)| {
        let all = make_array(column.to_data().into_builder().nulls(None).build().unwrap());
        let all = cast(&all, &of).unwrap().to_data().into_builder().nulls(Some(shown.clone()));
        make_array(all.build().unwrap())
    });
    let views = RecordBatch::try_new(with_views(&plain.schema()), views.collect()).unwrap();

    let (wanted, found) = (sums(&[plain]), sums(&[views.slice(5, 8), views.slice(0, 5)]));
    assert_eq!(found, wanted);
    let bytes =
        lengths.iter().enumerate().filter(|(row, _)| row % 5 != 3).map(|(_, length)| *length as u64).sum();
    let expected = ColumnSum { nulls: Some(2), bytes: Some(bytes), content: wanted.columns[&1].content };
    assert_eq!((&wanted.columns[&1], &wanted.columns[&2]), (&expected, &expected));
    let content = values.iter().enumerate().filter(|(row, _)| row % 5 != 3).flat_map(|(_, value)| value);
    assert_eq!(expected.content, Some(content.map(|byte| u64::from(*byte)).sum()));
}
