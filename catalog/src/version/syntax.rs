//! Nessie's syntax for a commit: `name`, `name@hash`, a bare hash, `@hash`, each with `~n`, `^n` and `*instant` after it.

use chrono::{DateTime, Utc};

use crate::{CatalogError, store::Hash};

/// The default branch, meant by an empty name and by `-`.
pub(crate) const MAIN: &str = "main";

/// A parsed expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expression {
    /// Branch or tag; `None` for a bare hash.
    pub(crate) name: Option<String>,
    /// The commit to start from instead of the head.
    pub(crate) hash: Option<Hash>,
    /// Steps back from there, in order.
    pub(crate) steps: Vec<Step>,
}

/// One step back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// `~n`: n first parents.
    Back(u64),
    /// `^n`: the nth parent, from 1.
    Parent(usize),
    /// `*instant`: the newest commit that isn't later.
    At(DateTime<Utc>),
}

/// Reads an expression.
pub(crate) fn parse(text: &str) -> Result<Expression, CatalogError> {
    let (base, steps) = match text.find(['~', '^', '*']) {
        Some(start) => text.split_at(start),
        None => (text, ""),
    };
    let steps = parse_steps(text, steps)?;
    let (name, hash) = match base.split_once('@') {
        Some((name, "")) => (name, None),
        Some((name, hash)) => {
            (name, Some(hash.parse::<Hash>().map_err(|error| wrong(text, &error.to_string()))?))
        }
        None => match base.parse::<Hash>() {
            Ok(hash) => return Ok(Expression { name: None, hash: Some(hash), steps }),
            Err(_) => (base, None),
        },
    };
    let name = match (name, hash) {
        ("", Some(_)) => None,
        ("" | "-", _) => Some(MAIN.to_owned()),
        (name, _) => Some(checked_name(name)?.to_owned()),
    };
    Ok(Expression { name, hash, steps })
}

/// The branch or tag that an expression names; `None` for a bare commit.
pub(crate) fn named_reference(expression: &str) -> Result<Option<String>, CatalogError> {
    Ok(parse(expression)?.name)
}

fn parse_steps(text: &str, steps: &str) -> Result<Vec<Step>, CatalogError> {
    let mut parsed = Vec::new();
    let mut rest = steps;
    while let Some(operator) = rest.chars().next() {
        let after = &rest[1..];
        let end = after.find(['~', '^', '*']).unwrap_or(after.len());
        let (value, remaining) = after.split_at(end);
        parsed.push(match operator {
            '*' => Step::At(parse_instant(text, value)?),
            _ => {
                let number: u32 = if value.is_empty() { Ok(1) } else { value.parse() }.map_err(|_| {
                    wrong(text, &format!("'{operator}' is followed by a number, not '{value}'"))
                })?;
                if operator == '~' { Step::Back(u64::from(number)) } else { Step::Parent(number as usize) }
            }
        });
        rest = remaining;
    }
    Ok(parsed)
}

/// ISO-8601 with or without a fraction, or milliseconds since the epoch.
fn parse_instant(text: &str, value: &str) -> Result<DateTime<Utc>, CatalogError> {
    let millis = value.parse::<i64>().ok().and_then(DateTime::from_timestamp_millis);
    let instant = millis.or_else(|| DateTime::parse_from_rfc3339(value).ok().map(|time| time.to_utc()));
    instant.ok_or_else(|| {
        wrong(text, &format!("'*' is followed by an instant such as 2026-11-22T10:00:00Z, not '{value}'"))
    })
}

fn wrong(text: &str, why: &str) -> CatalogError {
    CatalogError::Invalid(format!("'{text}' is no reference: {why}"))
}

/// Nessie's rule for names of branches and tags; a name that looks like a hash is refused.
pub(crate) fn checked_name(name: &str) -> Result<&str, CatalogError> {
    const MAX_BYTES: usize = 200;
    let first = name.chars().next().is_some_and(|c| c.is_ascii_alphabetic());
    let last = name.chars().last().is_some_and(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    let inner = name.chars().all(|c| c.is_ascii_alphanumeric() || "._/-".contains(c));
    let hash_like = (8..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_hexdigit());
    let allowed =
        first && last && inner && !name.contains("..") && !hash_like && name != "HEAD" && name != "DETACHED";
    if allowed && name.len() <= MAX_BYTES {
        return Ok(name);
    }
    Err(CatalogError::Invalid(format!(
        "'{name}' is no reference name: it starts with a letter, goes on with letters, digits, '.', '_', '/' or '-' without '..', \
         ends with a letter, digit, '_' or '-', has at most {MAX_BYTES} characters, isn't HEAD or DETACHED and doesn't look like a hash"
    )))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const HASH: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    fn expression(name: Option<&str>, hash: bool, steps: &[Step]) -> Expression {
        let hash = hash.then(|| HASH.parse().unwrap());
        Expression { name: name.map(str::to_owned), hash, steps: steps.to_vec() }
    }

    #[test]
    fn every_form_of_a_reference_parses() {
        let instant = Step::At("2026-11-22T10:00:00Z".parse().unwrap());
        let fraction = Step::At("2026-11-22T10:00:00.5Z".parse().unwrap());
        let cases = [
            ("", expression(Some("main"), false, &[])),
            ("-", expression(Some("main"), false, &[])),
            ("dev", expression(Some("dev"), false, &[])),
            ("promote/01-x_y.z", expression(Some("promote/01-x_y.z"), false, &[])),
            (&format!("dev@{HASH}"), expression(Some("dev"), true, &[])),
            (&format!("@{HASH}"), expression(None, true, &[])),
            (HASH, expression(None, true, &[])),
            ("dev~2", expression(Some("dev"), false, &[Step::Back(2)])),
            ("dev~", expression(Some("dev"), false, &[Step::Back(1)])),
            ("dev^2", expression(Some("dev"), false, &[Step::Parent(2)])),
            ("dev*2026-11-22T10:00:00Z", expression(Some("dev"), false, std::slice::from_ref(&instant))),
            ("*2026-11-22T10:00:00.500Z", expression(Some("main"), false, &[fraction])),
            ("dev*1795341600000", expression(Some("dev"), false, std::slice::from_ref(&instant))),
            (
                &format!("dev@{HASH}~1^2*2026-11-22T10:00:00Z"),
                expression(Some("dev"), true, &[Step::Back(1), Step::Parent(2), instant]),
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn a_wrong_reference_says_why() {
        let cases = [
            ("dev~x", "followed by a number"),
            ("dev*yesterday", "followed by an instant"),
            ("dev@1234", "64 hexadecimal"),
            ("a..b", "no reference name"),
            ("1abc", "no reference name"),
            ("abcdef12", "no reference name"),
            ("a b", "no reference name"),
        ];
        for (text, why) in cases {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
