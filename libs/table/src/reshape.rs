//! Arrays of one schema as arrays of another: children matched by name or field id, missing ones null or their default,
//! types cast.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, ListArray, MapArray, StructArray, new_null_array},
    compute::{CastOptions, cast_with_options},
    datatypes::{DataType, Field, Fields},
    error::ArrowError,
};
use datafusion::scalar::ScalarValue;

use crate::schema::field_id;

/// How the columns of two schemas belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum MatchBy {
    /// Rows from outside: by name.
    Name,
    /// Rows of a table's file: by Iceberg's field id.
    FieldId,
}

/// Values of columns in files that were written before the column was added, by field id, at every level.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Defaults(pub(crate) HashMap<i32, ScalarValue>);

impl Defaults {
    pub(crate) fn of(&self, field: &Field) -> Option<&ScalarValue> {
        self.0.get(&field_id(field)?)
    }
}

/// Values out of range are errors, never nulls.
const STRICT: CastOptions<'static> =
    CastOptions { safe: false, format_options: arrow::util::display::FormatOptions::new() };

impl MatchBy {
    /// Position in `fields` of the field that is `wanted`.
    pub(crate) fn find(self, fields: &Fields, wanted: &Field) -> Option<usize> {
        fields.iter().position(|field| match self {
            Self::Name => field.name() == wanted.name(),
            Self::FieldId => field_id(field).is_some() && field_id(field) == field_id(wanted),
        })
    }
}

/// `array` with exactly the type of `to`.
pub(crate) fn reshape(array: &ArrayRef, to: &Field, by: MatchBy) -> Result<ArrayRef, ArrowError> {
    reshape_from(array, array.data_type(), to, by, &Defaults::default())
}

/// The same where `from` has the labels of the array's type, and missing children may have defaults.
pub(crate) fn reshape_from(
    array: &ArrayRef,
    from: &DataType,
    to: &Field,
    by: MatchBy,
    defaults: &Defaults,
) -> Result<ArrayRef, ArrowError> {
    if array.data_type() == to.data_type() {
        return Ok(Arc::clone(array));
    }
    match (from, to.data_type()) {
        (DataType::Struct(from), DataType::Struct(fields)) => {
            let source = array.as_struct();
            // Rows from outside must not lose a field silently; a file's field that the table dropped may go.
            let unknown = from.iter().find(|field| by == MatchBy::Name && by.find(fields, field).is_none());
            if let Some(unknown) = unknown {
                let (column, name) = (to.name(), unknown.name());
                return Err(ArrowError::CastError(format!("'{column}' has no field '{name}'")));
            }
            let children = fields
                .iter()
                .map(|field| match by.find(from, field) {
                    Some(index) => {
                        reshape_from(source.column(index), from[index].data_type(), field, by, defaults)
                    }
                    None => match defaults.of(field) {
                        Some(default) => Ok(default.to_array_of_size(source.len())?),
                        None => missing(field, source.len()),
                    },
                })
                .collect::<Result<Vec<_>, _>>()?;
            let nulls = source.nulls().cloned();
            Ok(Arc::new(StructArray::try_new_with_length(fields.clone(), children, nulls, source.len())?))
        }
        (DataType::List(from), DataType::List(element)) => {
            let source = array.as_list::<i32>();
            let values = reshape_from(source.values(), from.data_type(), element, by, defaults)?;
            let (offsets, nulls) = (source.offsets().clone(), source.nulls().cloned());
            Ok(Arc::new(ListArray::try_new(Arc::clone(element), offsets, values, nulls)?))
        }
        (DataType::LargeList(from) | DataType::FixedSizeList(from, _), DataType::List(_)) => {
            let (DataType::LargeList(own) | DataType::FixedSizeList(own, _)) = array.data_type() else {
                return Err(mismatch(array, to));
            };
            let list = cast_with_options(array, &DataType::List(Arc::clone(own)), &STRICT)?;
            reshape_from(&list, &DataType::List(Arc::clone(from)), to, by, defaults)
        }
        (DataType::Map(from, _), DataType::Map(entries, sorted)) => {
            let source = array.as_map();
            let (DataType::Struct(from), DataType::Struct(pair)) = (from.data_type(), entries.data_type())
            else {
                return Err(mismatch(array, to));
            };
            // Key and value are known by their place: their names differ between writers.
            let columns = vec![
                reshape_from(source.keys(), from[0].data_type(), &pair[0], by, defaults)?,
                reshape_from(source.values(), from[1].data_type(), &pair[1], by, defaults)?,
            ];
            let columns = StructArray::try_new(pair.clone(), columns, None)?;
            let (offsets, nulls) = (source.offsets().clone(), source.nulls().cloned());
            Ok(Arc::new(MapArray::try_new(Arc::clone(entries), offsets, columns, nulls, *sorted)?))
        }
        (DataType::Struct(_) | DataType::List(_) | DataType::Map(..), _) => Err(mismatch(array, to)),
        _ => cast_with_options(array, to.data_type(), &STRICT),
    }
}

/// Nulls for a column that the source lacks.
pub(crate) fn missing(field: &Field, rows: usize) -> Result<ArrayRef, ArrowError> {
    if field.is_nullable() {
        return Ok(new_null_array(field.data_type(), rows));
    }
    Err(ArrowError::InvalidArgumentError(format!("required column '{}' is missing", field.name())))
}

fn mismatch(array: &ArrayRef, to: &Field) -> ArrowError {
    ArrowError::CastError(format!("'{}' is {}, not {}", to.name(), array.data_type(), to.data_type()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use arrow::{
        array::{Int32Array, Int64Array, StringArray},
        datatypes::Int64Type,
    };
    use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

    use super::*;

    fn field(id: i32, name: &str, data_type: DataType) -> Field {
        let id = HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())]);
        Field::new(name, data_type, true).with_metadata(id)
    }

    #[test]
    fn structs_are_matched_by_id_whatever_their_names_and_order() {
        let from = Fields::from(vec![field(2, "b", DataType::Utf8), field(3, "a", DataType::Int32)]);
        let columns: Vec<ArrayRef> =
            vec![Arc::new(StringArray::from(vec!["x"])), Arc::new(Int32Array::from(vec![7]))];
        let array: ArrayRef = Arc::new(StructArray::new(from, columns, None));
        let to = Fields::from(vec![
            field(3, "renamed and promoted", DataType::Int64),
            field(9, "new", DataType::Utf8),
            field(2, "a", DataType::Utf8),
        ]);

        let reshaped = reshape(&array, &field(1, "s", DataType::Struct(to)), MatchBy::FieldId).unwrap();

        let reshaped = reshaped.as_struct();
        assert_eq!(reshaped.column(0).as_primitive::<Int64Type>().value(0), 7);
        assert!(reshaped.column(1).is_null(0));
        assert_eq!(reshaped.column(2).as_string::<i32>().value(0), "x");
    }

    #[test]
    fn fields_that_came_later_have_their_default() {
        let from = Fields::from(vec![field(2, "b", DataType::Utf8)]);
        let columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from(vec!["x", "y"]))];
        let array: ArrayRef = Arc::new(StructArray::new(from, columns, None));
        let to = Fields::from(vec![field(2, "b", DataType::Utf8), field(3, "n", DataType::Int64)]);
        let defaults = Defaults(HashMap::from([(3, ScalarValue::Int64(Some(5)))]));
        let to = field(1, "s", DataType::Struct(to));

        let reshaped = reshape_from(&array, array.data_type(), &to, MatchBy::FieldId, &defaults).unwrap();

        assert_eq!(reshaped.as_struct().column(1).as_primitive::<Int64Type>().values(), &[5, 5]);
    }

    #[test]
    fn values_out_of_range_are_errors() {
        let array: ArrayRef = Arc::new(Int64Array::from(vec![i64::MAX]));
        assert!(reshape(&array, &Field::new("n", DataType::Int32, true), MatchBy::Name).is_err());
    }

    #[test]
    fn a_missing_required_column_is_named() {
        let error = missing(&Field::new("host_id", DataType::Utf8, false), 1).unwrap_err();
        assert!(error.to_string().contains("host_id"));
    }
}
