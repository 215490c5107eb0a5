//! What a partition value says about the column it was computed from.

use arrow::datatypes::{DataType, TimeUnit};
use chrono::{Datelike, NaiveDate};
use datafusion::scalar::ScalarValue;
use iceberg::spec::{PrimitiveLiteral, Transform};

use super::bounds::scalar;

const MICROS_PER_HOUR: i64 = 3_600_000_000;
const MICROS_PER_DAY: i64 = 24 * MICROS_PER_HOUR;

/// The least and greatest value of the column for which `transform` gives `value`.
pub(super) fn source_bounds(
    transform: Transform,
    value: &PrimitiveLiteral,
    data_type: &DataType,
) -> (Option<ScalarValue>, Option<ScalarValue>) {
    match (transform, value) {
        (Transform::Identity, value) => (scalar(value, data_type), scalar(value, data_type)),
        (Transform::Truncate(width), PrimitiveLiteral::Int(_) | PrimitiveLiteral::Long(_)) => {
            let last = match value {
                PrimitiveLiteral::Int(first) => {
                    i32::try_from(i64::from(*first) + i64::from(width) - 1).ok().map(PrimitiveLiteral::Int)
                }
                PrimitiveLiteral::Long(first) => {
                    first.checked_add(i64::from(width) - 1).map(PrimitiveLiteral::Long)
                }
                _ => None,
            };
            (scalar(value, data_type), last.and_then(|last| scalar(&last, data_type)))
        }
        // Everything that starts with the value is above it.
        (Transform::Truncate(_), value) => (scalar(value, data_type), None),
        (Transform::Hour, PrimitiveLiteral::Int(hour)) => {
            let first = i64::from(*hour).checked_mul(MICROS_PER_HOUR);
            micros_range(first, first.and_then(|first| first.checked_add(MICROS_PER_HOUR)), data_type)
        }
        (Transform::Day, PrimitiveLiteral::Int(day)) => day_range(Some(*day), day.checked_add(1), data_type),
        (Transform::Month, PrimitiveLiteral::Int(month)) => {
            day_range(month_start(*month), month.checked_add(1).and_then(month_start), data_type)
        }
        (Transform::Year, PrimitiveLiteral::Int(year)) => {
            let start = |year: i32| year.checked_mul(12).and_then(month_start);
            day_range(start(*year), year.checked_add(1).and_then(start), data_type)
        }
        _ => (None, None),
    }
}

/// Days since the epoch of a month's first day; months count from January 1970.
fn month_start(month: i32) -> Option<i32> {
    let month0 = u32::try_from(month.rem_euclid(12)).ok()?;
    let first = NaiveDate::from_ymd_opt(month.div_euclid(12).checked_add(1970)?, month0 + 1, 1)?;
    let epoch_days_from_ce = 719_163;
    Some(first.num_days_from_ce() - epoch_days_from_ce)
}

fn day_range(
    first: Option<i32>,
    end: Option<i32>,
    data_type: &DataType,
) -> (Option<ScalarValue>, Option<ScalarValue>) {
    if data_type == &DataType::Date32 {
        let date = |day: Option<i32>| day.map(|day| ScalarValue::Date32(Some(day)));
        return (date(first), date(end.and_then(|end| end.checked_sub(1))));
    }
    let micros = |day: Option<i32>| i64::from(day?).checked_mul(MICROS_PER_DAY);
    micros_range(micros(first), micros(end), data_type)
}

/// From `first` to just before `end`.
fn micros_range(
    first: Option<i64>,
    end: Option<i64>,
    data_type: &DataType,
) -> (Option<ScalarValue>, Option<ScalarValue>) {
    let DataType::Timestamp(unit, zone) = data_type else { return (None, None) };
    let last = end.and_then(|end| end.checked_sub(1));
    match unit {
        TimeUnit::Microsecond => {
            let scalar =
                |at: Option<i64>| at.map(|at| ScalarValue::TimestampMicrosecond(Some(at), zone.clone()));
            (scalar(first), scalar(last))
        }
        TimeUnit::Nanosecond => {
            let nanos = |micros: i64, plus: i64| micros.checked_mul(1000)?.checked_add(plus);
            let scalar =
                |at: Option<i64>| at.map(|at| ScalarValue::TimestampNanosecond(Some(at), zone.clone()));
            (scalar(first.and_then(|at| nanos(at, 0))), scalar(last.and_then(|at| nanos(at, 999))))
        }
        _ => (None, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(transform: Transform, value: i32) -> (i64, i64) {
        let data_type = DataType::Timestamp(TimeUnit::Microsecond, None);
        match source_bounds(transform, &PrimitiveLiteral::Int(value), &data_type) {
            (
                Some(ScalarValue::TimestampMicrosecond(Some(first), None)),
                Some(ScalarValue::TimestampMicrosecond(Some(last), None)),
            ) => (first, last),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn time_partitions_cover_their_whole_span_and_meet_without_gap() {
        for transform in [Transform::Hour, Transform::Day, Transform::Month, Transform::Year] {
            for value in [-14, -13, -12, -1, 0, 1, 11, 12, 680] {
                let ((first, last), (next, _)) = (micros(transform, value), micros(transform, value + 1));
                assert!(first < last, "{transform:?} {value}");
                assert_eq!(last + 1, next, "{transform:?} {value}");
            }
        }
        assert_eq!(micros(Transform::Day, 1), (MICROS_PER_DAY, 2 * MICROS_PER_DAY - 1));
        assert_eq!(micros(Transform::Month, 1).0, 31 * MICROS_PER_DAY);
        assert_eq!(micros(Transform::Year, -1).0, -365 * MICROS_PER_DAY);
    }

    #[test]
    fn buckets_say_nothing_about_order() {
        let value = PrimitiveLiteral::Int(3);
        assert_eq!(source_bounds(Transform::Bucket(16), &value, &DataType::Int64), (None, None));
    }

    #[test]
    fn truncated_numbers_have_both_bounds_and_texts_the_lower() {
        let value = PrimitiveLiteral::Long(100);
        let bounds = source_bounds(Transform::Truncate(10), &value, &DataType::Int64);
        assert_eq!(bounds, (Some(ScalarValue::Int64(Some(100))), Some(ScalarValue::Int64(Some(109)))));
        let value = PrimitiveLiteral::String("ab".to_owned());
        let bounds = source_bounds(Transform::Truncate(2), &value, &DataType::Utf8);
        assert_eq!(bounds, (Some(ScalarValue::from("ab")), None));
    }
}
