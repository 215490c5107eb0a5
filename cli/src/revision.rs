//! Revisions as people write them: `dev`, `dev~2`, `dev^2`, a hash or its beginning, `dev*2026-11-22T10:00:00Z`, and
//! `dev@{yesterday}`, `@{2 hours ago}`, `main@{2026-11-22 10:00}`.

use std::collections::HashSet;

use anyhow::{Result, bail};
use chrono::{DateTime, Days, Local, NaiveDate, NaiveDateTime, SecondsFormat, TimeDelta, TimeZone, Utc};
use firn_catalog_client::{TenantClient, nessie::LogEntry};

use crate::failure::usage;

/// Commits of each reference that are searched for the beginning of a hash, or for where two lines part.
const SEARCHED: usize = 10_000;
/// Shorter beginnings of hashes are too likely to be names.
const MIN_SHORT_HASH: usize = 7;
const HASH: usize = 64;

/// A revision in Nessie's syntax.
pub(crate) async fn resolve(client: &TenantClient, text: &str) -> Result<String> {
    let text = with_instants(text, Local::now())?;
    let end = text.find(['~', '^', '*']).unwrap_or(text.len());
    let (name, steps) = text.split_at(end);
    if !is_short_hash(name) || client.references().await?.iter().any(|known| known.name() == name) {
        return Ok(text);
    }
    Ok(format!("{}{steps}", full_hash(client, name).await?))
}

/// The two sides of `A..B`; an empty one is `main`.
pub(crate) fn range(text: &str) -> Option<(&str, &str)> {
    let (from, to) = text.split_once("..")?;
    Some((if from.is_empty() { "main" } else { from }, if to.is_empty() { "main" } else { to }))
}

/// Commits that `to` has and `from` doesn't, newest first.
pub(crate) async fn log_between(
    client: &TenantClient,
    from: &str,
    to: &str,
    limit: usize,
    with_operations: bool,
) -> Result<Vec<LogEntry>> {
    let known: HashSet<String> = client
        .log(from, SEARCHED, false)
        .await?
        .into_iter()
        .filter_map(|entry| entry.commit_meta.hash)
        .collect();
    let new = client.log(to, limit, with_operations).await?.into_iter();
    Ok(new
        .take_while(|entry| entry.commit_meta.hash.as_ref().is_none_or(|hash| !known.contains(hash)))
        .collect())
}

fn is_short_hash(text: &str) -> bool {
    (MIN_SHORT_HASH..HASH).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

async fn full_hash(client: &TenantClient, beginning: &str) -> Result<String> {
    let mut found: HashSet<String> = HashSet::new();
    let wanted = beginning.to_ascii_lowercase();
    for reference in client.references().await? {
        let log = client.log(reference.name(), SEARCHED, false).await?;
        let hashes = log.into_iter().filter_map(|entry| entry.commit_meta.hash);
        found.extend(hashes.filter(|hash| hash.starts_with(&wanted)));
    }
    let mut found = found.into_iter();
    match (found.next(), found.next()) {
        (Some(hash), None) => Ok(hash),
        (Some(_), Some(_)) => {
            Err(usage(format!("'{beginning}' is the beginning of several commits: write more of it")))
        }
        (None, _) => bail!("no branch or tag named '{beginning}', and no commit of one that starts so"),
    }
}

/// Replaces `@{…}` by Nessie's `*instant`.
fn with_instants(text: &str, now: DateTime<Local>) -> Result<String> {
    let Some((before, rest)) = text.split_once("@{") else { return Ok(text.to_owned()) };
    let Some((inside, after)) = rest.split_once('}') else {
        return Err(usage(format!("'{text}' has '@{{' without '}}'")));
    };
    let Some(instant) = parse_instant(inside.trim(), now) else {
        return Err(usage(format!(
            "'{inside}' is no instant: write yesterday, '2 hours ago', 2026-11-22 or 2026-11-22T10:00:00Z"
        )));
    };
    let name = if before.is_empty() { "main" } else { before };
    Ok(format!("{name}*{}{after}", instant.to_rfc3339_opts(SecondsFormat::Millis, true)))
}

/// Instants without a zone are of this computer's.
pub(crate) fn parse_instant(text: &str, now: DateTime<Local>) -> Option<DateTime<Utc>> {
    match text {
        "now" => return Some(now.to_utc()),
        "yesterday" => return Some(now.checked_sub_days(Days::new(1))?.to_utc()),
        "today" => return local(now.date_naive().and_hms_opt(0, 0, 0)?),
        _ => {}
    }
    if let Some(ago) = text.strip_suffix("ago") {
        return now.to_utc().checked_sub_signed(parse_age(ago.trim())?);
    }
    if let Ok(instant) = DateTime::parse_from_rfc3339(text) {
        return Some(instant.to_utc());
    }
    for format in ["%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M"] {
        if let Ok(instant) = NaiveDateTime::parse_from_str(text, format) {
            return local(instant);
        }
    }
    local(NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0)?)
}

fn local(instant: NaiveDateTime) -> Option<DateTime<Utc>> {
    Local.from_local_datetime(&instant).earliest().map(|instant| instant.to_utc())
}

/// `2 hours`, `1 day`, `90s`.
fn parse_age(text: &str) -> Option<TimeDelta> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let number: i64 = text.get(..digits)?.parse().ok()?;
    let seconds = match text.get(digits..)?.trim() {
        "s" | "second" | "seconds" => 1,
        "m" | "min" | "minute" | "minutes" => 60,
        "h" | "hour" | "hours" => 3_600,
        "d" | "day" | "days" => 86_400,
        "w" | "week" | "weeks" => 604_800,
        _ => return None,
    };
    TimeDelta::try_seconds(number.checked_mul(seconds)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(text: &str) -> Result<String> {
        let now = DateTime::parse_from_rfc3339("2026-11-22T10:00:00Z").unwrap().with_timezone(&Local);
        with_instants(text, now)
    }

    #[test]
    fn instants_in_braces_become_nessies() {
        for (text, expected) in [
            ("dev", "dev"),
            ("dev~2^1", "dev~2^1"),
            ("@{now}", "main*2026-11-22T10:00:00.000Z"),
            ("dev@{2 hours ago}", "dev*2026-11-22T08:00:00.000Z"),
            ("dev@{90s ago}~1", "dev*2026-11-22T09:58:30.000Z~1"),
            ("dev@{1 week ago}", "dev*2026-11-15T10:00:00.000Z"),
            ("dev@{2026-11-01T00:00:00Z}", "dev*2026-11-01T00:00:00.000Z"),
        ] {
            assert_eq!(at(text).unwrap(), expected, "{text}");
        }
        assert!(at("dev@{yesterday}").unwrap().starts_with("dev*2026-11-21T"));
        assert!(at("dev@{2026-11-01}").unwrap().starts_with("dev*2026-1"));
        for wrong in ["dev@{", "dev@{soon}", "dev@{2 parsecs ago}", "dev@{ago}"] {
            assert!(at(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ranges_default_to_main() {
        assert_eq!(range("main..dev"), Some(("main", "dev")));
        assert_eq!(range("..dev~2"), Some(("main", "dev~2")));
        assert_eq!(range("v1.."), Some(("v1", "main")));
        assert_eq!(range("v1.0"), None);
        assert!(is_short_hash("1a2b3c4") && !is_short_hash("main") && !is_short_hash("1a2b3"));
    }
}
