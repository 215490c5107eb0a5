//! What may have been meant by a key that nobody knows.

/// The candidate that differs least from `text`, unless even that one is too different to have been meant.
#[must_use]
pub fn nearest<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let bound = text.chars().count().div_ceil(3).max(2);
    let ranked = candidates.into_iter().map(|candidate| (distance(text, candidate), candidate));
    ranked.filter(|(far, _)| *far <= bound).min().map(|(_, candidate)| candidate)
}

/// Levenshtein's distance over characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// serde's text for an unknown field, as a person would say it; other texts as they are.
pub(super) fn readable(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let (true, Some(unknown)) = (message.starts_with("unknown field"), quoted.next()) else {
        return message.trim_end().to_owned();
    };
    let known: Vec<&str> = quoted.collect();
    match nearest(unknown, known.iter().copied()) {
        Some(near) => format!("unknown key; did you mean '{near}'?"),
        None => format!("unknown key; known are {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn distance_counts_edits() {
        for (a, b, want) in [("", "abc", 3), ("listn", "listen", 1), ("same", "same", 0), ("ab", "ba", 2)] {
            assert_eq!(distance(a, b), want, "{a} {b}");
        }
    }

    #[test]
    fn far_candidates_are_not_proposed() {
        assert_eq!(nearest("xyz", ["listen", "region"]), None);
        assert_eq!(nearest("databse_url", ["database_url", "cache_bytes"]), Some("database_url"));
    }

    #[test]
    fn unknown_field_lists_what_is_known_if_nothing_is_near() {
        let text = readable("unknown field `zzzzzz`, expected `listen` or `region`");
        assert_eq!(text, "unknown key; known are listen, region");
    }
}
