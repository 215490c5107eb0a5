//! Where in a rule's text something stands, and what may have been meant.

use datafusion::common::utils::datafusion_strsim::levenshtein;

/// Line and column (from 1) of the first use of `identifier` in `rule`, outside of text literals.
pub(crate) fn position_of(rule: &str, identifier: &str) -> Option<(usize, usize)> {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    let (mut line, mut column, mut in_literal) = (1, 1, false);
    let mut before = ' ';
    for (at, c) in rule.char_indices() {
        let here = rule.get(at..at + identifier.len());
        if !in_literal
            && !part_of_word(before)
            && here.is_some_and(|text| text.eq_ignore_ascii_case(identifier))
        {
            let after = rule[at + identifier.len()..].chars().next();
            if !after.is_some_and(part_of_word) {
                return Some((line, column));
            }
        }
        if c == '\'' {
            in_literal = !in_literal;
        }
        if c == '\n' {
            (line, column) = (line + 1, 1);
        } else {
            column += 1;
        }
        before = c;
    }
    None
}

/// The candidate nearest to `word`, if one is near enough to be a slip.
pub(crate) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.len() / 3).max(2);
    candidates
        .map(|candidate| (levenshtein(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifier_is_found_by_line_and_column_outside_of_literals() {
        let rule = "hostname <> 'dsk'\n  AND my_dsk AND dsk";
        assert_eq!(position_of(rule, "dsk"), Some((2, 18)));
        assert_eq!(position_of(rule, "hostname"), Some((1, 1)));
        assert_eq!(position_of(rule, "absent"), None);
        assert_eq!(position_of("'ünï' = ünd", "ünd"), Some((1, 9)));
    }

    #[test]
    fn nearest_takes_slips_only() {
        let names = ["disk_encrypted", "disk_free_bytes", "hostname"];
        assert_eq!(nearest("disk_encripted", names.into_iter()), Some("disk_encrypted"));
        assert_eq!(nearest("weather", names.into_iter()), None);
    }
}
