//! Instants in RFC 3339.

use chrono::DateTime;

/// Microseconds since the epoch of an instant, if it is one. Those in UTC without a leap second, which is nearly all, are read
/// here, since a record has half a dozen of them; all others by chrono.
pub(crate) fn micros(text: &str) -> Option<i64> {
    utc_micros(text.as_bytes())
        .or_else(|| DateTime::parse_from_rfc3339(text).ok().map(|instant| instant.timestamp_micros()))
}

/// `2026-11-22T10:00:00Z`, with up to nine digits of a fraction.
fn utc_micros(text: &[u8]) -> Option<i64> {
    let (date_time, rest) = text.split_at_checked(19)?;
    let fraction = match rest.strip_suffix(b"Z")? {
        [] => 0,
        [b'.', digits @ ..] if (1..=9).contains(&digits.len()) => fraction_us(digits)?,
        _ => return None,
    };
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if marks.iter().any(|(at, mark)| date_time[*at] != *mark) {
        return None;
    }
    let year = number(&date_time[..4])?;
    let [month, day, hour, minute, second] = [5, 8, 11, 14, 17].map(|at| number(&date_time[at..at + 2]));
    let (month, day) = (month.filter(|month| (1..=12).contains(month))?, day?);
    let (hour, minute, second) = (hour?, minute?, second?);
    if day < 1 || day > days_of(year, month) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds = days_since_epoch(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(seconds * 1_000_000 + fraction)
}

fn number(digits: &[u8]) -> Option<i64> {
    digits
        .iter()
        .try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + i64::from(digit - b'0')))
}

/// What is finer than a microsecond is cut off.
fn fraction_us(digits: &[u8]) -> Option<i64> {
    let all = number(digits)?;
    let exponent = u32::try_from(digits.len()).ok()?;
    Some(if exponent <= 6 { all * 10_i64.pow(6 - exponent) } else { all / 10_i64.pow(exponent - 6) })
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// In the proleptic Gregorian calendar, with years that begin in March, so that a leap day is the last of its year.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn by_chrono(text: &str) -> Option<i64> {
        DateTime::parse_from_rfc3339(text).ok().map(|instant| instant.timestamp_micros())
    }

    #[test]
    fn instants_are_what_chrono_says() {
        for text in [
            "1970-01-01T00:00:00Z",
            "2026-11-22T10:00:00.123456789Z",
            "2024-02-29T23:59:59.5Z",
            "2023-02-29T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2000-02-29T00:00:00Z",
            "0000-01-01T00:00:00Z",
            "9999-12-31T23:59:59.999999Z",
            "2026-11-22T23:59:60Z",
            "2026-11-22T24:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-11-31T00:00:00Z",
            "2026-11-22T10:00:00.Z",
            "2026-11-22T10:00:00.1234567890Z",
            "2026-11-22T10:00:00+02:00",
            "2026-11-22t10:00:00z",
            "2026-11-22 10:00:00Z",
            "+026-11-22T10:00:00Z",
            "2026-11-22T10:00:00",
            "yesterday",
            "",
        ] {
            assert_eq!(micros(text), by_chrono(text), "{text}");
        }
        assert_eq!(utc_micros(b"2026-11-22T10:00:00.5Z"), Some(1_795_341_600_500_000), "without chrono");
    }

    proptest! {
        #[test]
        fn any_instant_is_what_chrono_says(
            year in 0..10_000, month in 0..14, day in 0..33, hour in 0..25, minute in 0..61, second in 0..61,
            fraction in proptest::option::of("[0-9]{1,10}"),
        ) {
            let fraction = fraction.map(|digits| format!(".{digits}")).unwrap_or_default();
            let text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z");
            prop_assert_eq!(micros(&text), by_chrono(&text));
        }
    }
}
