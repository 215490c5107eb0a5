//! Places on a Z-curve: the bits of several columns' values, interleaved.
//!
//! Each value is first scaled to where it lies between the column's bounds in the files, as manifests tell them; otherwise
//! columns of small numbers and of texts with one beginning would have no say.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, UInt64Array},
    compute::cast,
    datatypes::{DataType, Field, Float64Type, Schema, SchemaRef},
    error::ArrowError,
};
use datafusion::scalar::ScalarValue;

use super::SortColumn;
use crate::{Table, TableError, manifests::LiveFile, scan::column_bounds, schema::field_id};

/// Name of the column with a row's place.
const PLACE: &str = "firn_place";
/// Bytes of a text that are told apart, after those that all have alike: so many are exact in a float.
const TEXT_BYTES: usize = 6;

/// A curve through some columns of a schema.
pub(crate) struct ZCurve {
    axes: Vec<Axis>,
    /// The schema with the place as last column.
    pub(crate) schema: SchemaRef,
}

struct Axis {
    column: usize,
    /// Bytes that all texts begin with.
    prefix: usize,
    /// Where values lie; absent where nothing is known, then the column has no say.
    range: Option<(f64, f64)>,
}

impl ZCurve {
    /// The curve through `columns`, scaled by what is known of `files`.
    pub(crate) fn new<'a>(
        table: &Table,
        schema: &SchemaRef,
        columns: &[String],
        files: impl Iterator<Item = &'a LiveFile> + Clone,
    ) -> Result<Self, TableError> {
        let axis = |name: &String| {
            let unfit = |why: &str| {
                TableError::invalid(format!("table {} can't be Z-ordered by '{name}': {why}", table.ident()))
            };
            let column = schema.index_of(name).map_err(|_| unfit("it has no such column"))?;
            let field = schema.field(column);
            if field.data_type().is_nested() {
                return Err(unfit("it is nested"));
            }
            let id = field_id(field).ok_or_else(|| unfit("it has no field id"))?;
            let (mut lowest, mut highest) = (Vec::new(), Vec::new());
            for file in files.clone() {
                let (lower, upper) = column_bounds(file.data_file(), id, field.data_type());
                lowest.extend(lower);
                highest.extend(upper);
            }
            let bounds = lowest.into_iter().reduce(smaller).zip(highest.into_iter().reduce(larger));
            let Some((lowest, highest)) = bounds else { return Ok(Axis { column, prefix: 0, range: None }) };
            let prefix = common_prefix(&lowest, &highest);
            let number = |bound: ScalarValue| {
                let numbers = numbers(&bound.to_array().ok()?, prefix).ok()?;
                numbers.first().copied().flatten()
            };
            Ok(Axis { column, prefix, range: number(lowest).zip(number(highest)) })
        };
        let axes = columns.iter().map(axis).collect::<Result<_, TableError>>()?;
        let place = Arc::new(Field::new(PLACE, DataType::UInt64, false));
        let fields = schema.fields().iter().cloned().chain([place]).collect::<Vec<_>>();
        Ok(Self { axes, schema: Arc::new(Schema::new(fields)) })
    }

    /// What the rows are to be sorted by.
    pub(crate) fn sort_column() -> SortColumn {
        SortColumn { name: PLACE.to_owned(), descending: false, nulls_first: true }
    }

    /// The batch with each row's place.
    pub(crate) fn place(&self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        let bits = 64 / self.axes.len().max(1) as u32;
        let scaled = self.axes.iter().map(|axis| axis.scaled(batch, bits)).collect::<Result<Vec<_>, _>>()?;
        let places = (0..batch.num_rows()).map(|row| {
            let mut place = 0;
            for bit in (0..bits).rev() {
                for values in &scaled {
                    place = (place << 1) | ((values[row] >> bit) & 1);
                }
            }
            place
        });
        let mut columns = batch.columns().to_vec();
        columns.push(Arc::new(UInt64Array::from_iter_values(places)));
        RecordBatch::try_new(Arc::clone(&self.schema), columns)
    }
}

impl Axis {
    /// Each row's value as an integer of so many bits; rows without a value come first.
    fn scaled(&self, batch: &RecordBatch, bits: u32) -> Result<Vec<u64>, ArrowError> {
        let Some((lowest, highest)) = self.range else { return Ok(vec![0; batch.num_rows()]) };
        let most = ((1_u64 << bits) - 1) as f64;
        let width = if highest > lowest { highest - lowest } else { 1.0 };
        let scale = |number: f64| {
            let share = if number.is_nan() { 1.0 } else { ((number - lowest) / width).clamp(0.0, 1.0) };
            (share * most) as u64
        };
        let numbers = numbers(batch.column(self.column), self.prefix)?;
        Ok(numbers.into_iter().map(|number| number.map_or(0, scale)).collect())
    }
}

/// Values as numbers of the same order.
fn numbers(column: &ArrayRef, prefix: usize) -> Result<Vec<Option<f64>>, ArrowError> {
    match column.data_type() {
        DataType::Utf8 => Ok(column
            .as_string::<i32>()
            .iter()
            .map(|text| Some(beginning(text?.as_bytes(), prefix)))
            .collect()),
        DataType::Binary => {
            Ok(column.as_binary::<i32>().iter().map(|bytes| Some(beginning(bytes?, prefix))).collect())
        }
        DataType::Utf8View => {
            Ok(column.as_string_view().iter().map(|text| Some(beginning(text?.as_bytes(), prefix))).collect())
        }
        DataType::BinaryView => {
            Ok(column.as_binary_view().iter().map(|bytes| Some(beginning(bytes?, prefix))).collect())
        }
        DataType::FixedSizeBinary(_) => {
            Ok(column.as_fixed_size_binary().iter().map(|bytes| Some(beginning(bytes?, prefix))).collect())
        }
        DataType::Timestamp(..) | DataType::Time64(_) | DataType::Date64 => {
            floats(&cast(column, &DataType::Int64)?)
        }
        DataType::Date32 => floats(&cast(column, &DataType::Int32)?),
        DataType::Boolean => floats(&cast(column, &DataType::Int8)?),
        _ => floats(column),
    }
}

fn floats(column: &ArrayRef) -> Result<Vec<Option<f64>>, ArrowError> {
    Ok(cast(column, &DataType::Float64)?.as_primitive::<Float64Type>().iter().collect())
}

/// Some bytes after the first `prefix` as a number.
fn beginning(bytes: &[u8], prefix: usize) -> f64 {
    let mut number = 0_u64;
    for index in prefix..prefix + TEXT_BYTES {
        number = (number << 8) | u64::from(bytes.get(index).copied().unwrap_or(0));
    }
    number as f64
}

fn common_prefix(lowest: &ScalarValue, highest: &ScalarValue) -> usize {
    let bytes = |value: &ScalarValue| match value {
        ScalarValue::Utf8(Some(text)) | ScalarValue::Utf8View(Some(text)) => text.as_bytes().to_vec(),
        ScalarValue::Binary(Some(bytes))
        | ScalarValue::BinaryView(Some(bytes))
        | ScalarValue::FixedSizeBinary(_, Some(bytes)) => bytes.clone(),
        _ => Vec::new(),
    };
    bytes(lowest).iter().zip(&bytes(highest)).take_while(|(one, other)| one == other).count()
}

fn smaller(one: ScalarValue, other: ScalarValue) -> ScalarValue {
    if other < one { other } else { one }
}

fn larger(one: ScalarValue, other: ScalarValue) -> ScalarValue {
    if other > one { other } else { one }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use arrow::array::{Int64Array, StringArray};

    use super::*;

    fn curve(ranges: &[(usize, (f64, f64))]) -> ZCurve {
        let axes = ranges.iter().enumerate();
        let axes =
            axes.map(|(column, (prefix, range))| Axis { column, prefix: *prefix, range: Some(*range) });
        let fields = (0..ranges.len()).map(|number| Field::new(format!("c{number}"), DataType::Int64, true));
        let place = Field::new(PLACE, DataType::UInt64, false);
        ZCurve {
            axes: axes.collect(),
            schema: Arc::new(Schema::new(fields.chain([place]).collect::<Vec<_>>())),
        }
    }

    #[test]
    fn the_first_bits_of_all_columns_come_first() {
        let range = (0.0, 3.0);
        let curve = curve(&[(0, range), (0, range)]);
        let one: ArrayRef = Arc::new(Int64Array::from(vec![0, 3, 0, 3, 1]));
        let two: ArrayRef = Arc::new(Int64Array::from(vec![Some(0), Some(0), Some(3), Some(3), None]));
        let schema = Arc::new(Schema::new(curve.schema.fields()[..2].to_vec()));
        let placed = curve.place(&RecordBatch::try_new(schema, vec![one, two]).unwrap()).unwrap();
        let places = placed.column(2).as_primitive::<arrow::datatypes::UInt64Type>().values().to_vec();
        assert_eq!(places[0], 0);
        assert_eq!(places[3], u64::MAX);
        assert_eq!((places[1] >> 62, places[2] >> 62), (2, 1));
        assert!(places[4] > 0 && places[4] < places[2], "a third of one column, and nothing of the other");
    }

    #[test]
    fn texts_count_from_where_they_differ() {
        let texts: ArrayRef =
            Arc::new(StringArray::from(vec![Some("host-1"), Some("host-2"), None, Some("host")]));
        let views = cast(&texts, &DataType::Utf8View).unwrap();
        let raw = cast(&cast(&texts, &DataType::Binary).unwrap(), &DataType::BinaryView).unwrap();
        let [numbers, of_views, of_raw] = [texts, views, raw].map(|column| numbers(&column, 5).unwrap());
        assert_eq!((&of_views, &of_raw), (&numbers, &numbers));
        assert!(numbers[0] < numbers[1] && numbers[2].is_none() && numbers[3] == Some(0.0));
        let bound = |text: &str| ScalarValue::Utf8(Some(text.to_owned()));
        assert_eq!(common_prefix(&bound("host-1"), &bound("host-9")), 5);
        let bound = |text: &str| ScalarValue::Utf8View(Some(text.to_owned()));
        assert_eq!(common_prefix(&bound("host-1"), &bound("host-9")), 5);
    }
}
