//! Bounds of a column as DataFusion's scalars.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::scalar::ScalarValue;
use iceberg::spec::{DataFile, PrimitiveLiteral};

/// An Iceberg value as a value of the column's present type; `None` if it doesn't fit (then nothing is known).
pub(super) fn scalar(literal: &PrimitiveLiteral, data_type: &DataType) -> Option<ScalarValue> {
    use PrimitiveLiteral as L;
    Some(match (literal, data_type) {
        (L::Boolean(value), DataType::Boolean) => ScalarValue::Boolean(Some(*value)),
        (L::Int(value), DataType::Int32) => ScalarValue::Int32(Some(*value)),
        (L::Int(value), DataType::Int64) => ScalarValue::Int64(Some(i64::from(*value))),
        (L::Int(value), DataType::Date32) => ScalarValue::Date32(Some(*value)),
        (L::Long(value), DataType::Int64) => ScalarValue::Int64(Some(*value)),
        (L::Long(value), DataType::Time64(TimeUnit::Microsecond)) => {
            ScalarValue::Time64Microsecond(Some(*value))
        }
        (L::Long(value), DataType::Timestamp(TimeUnit::Microsecond, zone)) => {
            ScalarValue::TimestampMicrosecond(Some(*value), zone.clone())
        }
        (L::Long(value), DataType::Timestamp(TimeUnit::Nanosecond, zone)) => {
            ScalarValue::TimestampNanosecond(Some(*value), zone.clone())
        }
        (L::Float(value), DataType::Float32) => ScalarValue::Float32(Some(value.0)),
        (L::Float(value), DataType::Float64) => ScalarValue::Float64(Some(f64::from(value.0))),
        (L::Double(value), DataType::Float64) => ScalarValue::Float64(Some(value.0)),
        (L::Int128(value), DataType::Decimal128(precision, scale)) => {
            ScalarValue::Decimal128(Some(*value), *precision, *scale)
        }
        (L::String(value), DataType::Utf8) => ScalarValue::Utf8(Some(value.clone())),
        (L::String(value), DataType::Utf8View) => ScalarValue::Utf8View(Some(value.clone())),
        (L::Binary(value), DataType::BinaryView) => ScalarValue::BinaryView(Some(value.clone())),
        (L::Binary(value), DataType::Binary) => ScalarValue::Binary(Some(value.clone())),
        (L::Binary(value), DataType::FixedSizeBinary(length))
            if i32::try_from(value.len()) == Ok(*length) =>
        {
            ScalarValue::FixedSizeBinary(*length, Some(value.clone()))
        }
        (L::UInt128(value), DataType::FixedSizeBinary(16)) => {
            ScalarValue::FixedSizeBinary(16, Some(value.to_be_bytes().to_vec()))
        }
        _ => return None,
    })
}

/// Lower and upper bound of a column in a file, as far as the file's metrics know them.
pub(crate) fn column_bounds(
    file: &DataFile,
    id: i32,
    data_type: &DataType,
) -> (Option<ScalarValue>, Option<ScalarValue>) {
    let lower = file.lower_bounds().get(&id).and_then(|bound| scalar(bound.literal(), data_type));
    let upper = file.upper_bounds().get(&id).and_then(|bound| scalar(bound.literal(), data_type));
    // DataFusion sorts NaN above everything, Iceberg leaves it out of the bounds.
    let may_hold_nan = data_type.is_floating() && file.nan_value_counts().get(&id) != Some(&0);
    (lower, upper.filter(|_| !may_hold_nan))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promoted_columns_keep_their_old_bounds() {
        assert_eq!(scalar(&PrimitiveLiteral::Int(7), &DataType::Int64), Some(ScalarValue::Int64(Some(7))));
        assert_eq!(scalar(&PrimitiveLiteral::Int(7), &DataType::Utf8), None);
    }

    #[test]
    fn texts_have_the_form_in_which_their_column_is_read() {
        let text = PrimitiveLiteral::String("a".to_owned());
        let of = |text: &str| Some(text.to_owned());
        assert_eq!(scalar(&text, &DataType::Utf8), Some(ScalarValue::Utf8(of("a"))));
        assert_eq!(scalar(&text, &DataType::Utf8View), Some(ScalarValue::Utf8View(of("a"))));
        let raw = PrimitiveLiteral::Binary(vec![1]);
        assert_eq!(scalar(&raw, &DataType::BinaryView), Some(ScalarValue::BinaryView(Some(vec![1]))));
    }
}
