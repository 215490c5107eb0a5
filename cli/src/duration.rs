//! Durations as people write them: `300ms`, `90s`, `15m`, `24h`, `7d`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error};

/// Reads a duration; a bare number is seconds.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = &text[digits.len()..];
    let factor_ms: u64 = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(format!("'{unit}' is no unit: use ms, s, m, h or d")),
    };
    let number: u64 =
        digits.parse().map_err(|_| format!("'{text}' is no duration: write 300ms, 90s, 15m, 24h or 7d"))?;
    let millis = number.checked_mul(factor_ms).filter(|millis| *millis > 0);
    millis.map(Duration::from_millis).ok_or_else(|| format!("'{text}' is out of range"))
}

/// For settings.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// A duration in words, in its largest unit.
pub(crate) fn in_words(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// How long ago an instant was, in words.
pub(crate) fn ago(instant_ms: i64) -> String {
    let elapsed_ms = chrono::Utc::now().timestamp_millis().saturating_sub(instant_ms).max(0);
    format!("{} ago", in_words(u64::try_from(elapsed_ms / 1000).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_and_refusals() {
        assert_eq!(parse("24h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(parse("300ms"), Ok(Duration::from_millis(300)));
        assert_eq!(parse("90"), Ok(Duration::from_secs(90)));
        for wrong in ["", "h", "1y", "0s", "-1s", "99999999999999999999d", "18446744073709551615d"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn words_use_the_largest_unit() {
        let words: Vec<_> = [5, 300, 10_000, 864_000].into_iter().map(in_words).collect();
        assert_eq!(words, ["5 s", "5 min", "2 h", "10 days"]);
    }
}
