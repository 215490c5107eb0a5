//! Dates, times and timestamps as texts.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, SecondsFormat, Timelike as _};

use super::primitive::{Unit, Zone};

/// Days from the first of January of the year 1 to that of 1970, and one.
const EPOCH_FROM_CE: i64 = 719_163;

/// Days since 1970.
pub(super) fn parse_date(text: &str) -> Option<i64> {
    Some(days_of(NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?))
}

/// Microseconds of the day.
pub(super) fn parse_time(text: &str) -> Option<i64> {
    let formats = ["%H:%M:%S%.f", "%H:%M"];
    let time = formats.iter().find_map(|format| NaiveTime::parse_from_str(text, format).ok())?;
    let nanos = i64::from(time.num_seconds_from_midnight()) * 1_000_000_000 + i64::from(time.nanosecond());
    whole_micros(nanos)
}

/// Microseconds or nanoseconds since 1970. An instant needs an offset, and a reading of a clock must have none.
pub(super) fn parse_timestamp(text: &str, unit: Unit, zone: Zone) -> Option<i64> {
    let at = match zone {
        Zone::Utc => DateTime::parse_from_rfc3339(text).ok()?.to_utc(),
        Zone::Local => {
            let formats = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M"];
            let full = formats.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok());
            let midnight = || NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0);
            full.or_else(midnight)?.and_utc()
        }
    };
    match unit {
        Unit::Micros if at.nanosecond() % 1000 != 0 => None,
        Unit::Micros => Some(at.timestamp_micros()),
        Unit::Nanos => at.timestamp_nanos_opt(),
    }
}

/// What a timestamp is to look like.
pub(super) fn timestamp_example(unit: Unit, zone: Zone) -> &'static str {
    match (unit, zone) {
        (Unit::Micros, Zone::Local) => "a timestamp such as \"2026-11-22T10:15:30.123456\"",
        (Unit::Micros, Zone::Utc) => "a timestamp such as \"2026-11-22T10:15:30.123456+00:00\"",
        (Unit::Nanos, Zone::Local) => "a timestamp such as \"2026-11-22T10:15:30.123456789\"",
        (Unit::Nanos, Zone::Utc) => "a timestamp such as \"2026-11-22T10:15:30.123456789+00:00\"",
    }
}

pub(super) fn write_date(days: i64) -> Option<String> {
    Some(date_of(days)?.format("%Y-%m-%d").to_string())
}

pub(super) fn write_time(micros: i64) -> Option<String> {
    let (seconds, rest) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
    let nanos = u32::try_from(rest).ok()? * 1000;
    let time = NaiveTime::from_num_seconds_from_midnight_opt(u32::try_from(seconds).ok()?, nanos)?;
    Some(time.format("%H:%M:%S%.6f").to_string())
}

pub(super) fn write_timestamp(count: i64, unit: Unit, zone: Zone) -> Option<String> {
    let (at, digits) = match unit {
        Unit::Micros => (DateTime::from_timestamp_micros(count)?, SecondsFormat::Micros),
        Unit::Nanos => (DateTime::from_timestamp_nanos(count), SecondsFormat::Nanos),
    };
    let text = at.to_rfc3339_opts(digits, false);
    match zone {
        Zone::Utc => Some(text),
        Zone::Local => Some(text.strip_suffix("+00:00")?.to_owned()),
    }
}

/// A day since 1970 as a date; `None` beyond what calendars have.
pub(super) fn date_of(days: i64) -> Option<NaiveDate> {
    NaiveDate::from_num_days_from_ce_opt(i32::try_from(days.checked_add(EPOCH_FROM_CE)?).ok()?)
}

fn days_of(date: NaiveDate) -> i64 {
    i64::from(chrono::Datelike::num_days_from_ce(&date)) - EPOCH_FROM_CE
}

fn whole_micros(nanos: i64) -> Option<i64> {
    (nanos % 1000 == 0).then_some(nanos / 1000)
}
