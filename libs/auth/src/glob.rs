//! Patterns of references and keys.

/// Whether `text` fits `pattern`: `*` is any number of characters, `?` is one. Takes time linear in their product.
pub fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    sequence_fits(&pattern, &text, |one| *one == '*', |one, c| *one == '?' || one == c)
}

/// Whether a key fits: patterns of its elements, joined by dots; `**` is any number of elements.
pub(crate) fn key_fits(pattern: &str, key: &[String]) -> bool {
    let pattern: Vec<&str> = pattern.split('.').collect();
    sequence_fits(&pattern, key, |one| *one == "**", |one, element| fits(one, element))
}

/// Whether a key below `namespace`, or that itself, may fit: then its name is no secret.
pub(crate) fn may_fit_below(pattern: &str, namespace: &[String]) -> bool {
    let mut elements = pattern.split('.');
    for level in namespace {
        match elements.next() {
            None => return false,
            Some("**") => return true,
            Some(one) if !fits(one, level) => return false,
            Some(_) => {}
        }
    }
    true
}

/// Greedy matching with one place to go back to: the last `any` that was passed.
fn sequence_fits<P, T>(
    pattern: &[P],
    text: &[T],
    any: impl Fn(&P) -> bool,
    one: impl Fn(&P, &T) -> bool,
) -> bool {
    let (mut at, mut read) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while read < text.len() {
        if pattern.get(at).is_some_and(&any) {
            back = Some((at, read));
            at += 1;
        } else if pattern.get(at).is_some_and(|part| one(part, &text[read])) {
            at += 1;
            read += 1;
        } else if let Some((star, taken)) = back {
            at = star + 1;
            read = taken + 1;
            back = Some((star, taken + 1));
        } else {
            return false;
        }
    }
    pattern[at..].iter().all(any)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn key(text: &str) -> Vec<String> {
        text.split('.').map(str::to_owned).collect()
    }

    #[test]
    fn references_fit_their_patterns() {
        for (pattern, text, want) in [
            ("main", "main", true),
            ("main", "mainly", false),
            ("release/*", "release/1/hotfix", true),
            ("*", "", true),
            ("?ain", "main", true),
            ("a*b*c", "aXbXbXc", true),
            ("a*b*c", "aXbX", false),
            ("", "x", false),
        ] {
            assert_eq!(fits(pattern, text), want, "{pattern} {text}");
        }
    }

    #[test]
    fn keys_fit_by_element() {
        for (pattern, text, want) in [
            ("**", "a.b.c", true),
            ("gold.*", "gold.device", true),
            ("gold.*", "gold.a.b", false),
            ("gold.**", "gold.a.b", true),
            ("gold.**", "gold", true),
            ("gold.**", "golden.a", false),
            ("**.secret", "a.b.secret", true),
            ("*.t", "a.b.t", false),
        ] {
            assert_eq!(key_fits(pattern, &key(text)), want, "{pattern} {text}");
        }
        assert!(!key_fits("gold.*", &["gold.x".to_owned()]), "a dot in a name joins no elements");
    }

    #[test]
    fn namespaces_above_a_fitting_key_are_seen() {
        assert!(may_fit_below("a.b.*", &key("a")) && may_fit_below("a.b.*", &key("a.b")));
        assert!(may_fit_below("**", &key("x.y")) && may_fit_below("a.**", &key("a.z")));
        assert!(!may_fit_below("a.b.*", &key("b")) && !may_fit_below("a", &key("a.b")));
    }

    /// What `fits` means, by definition and in exponential time.
    fn by_definition(pattern: &[char], text: &[char]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some(('*', rest)) => (0..=text.len()).any(|skipped| by_definition(rest, &text[skipped..])),
            Some((one, rest)) => text
                .split_first()
                .is_some_and(|(c, text)| (*one == '?' || one == c) && by_definition(rest, text)),
        }
    }

    proptest! {
        #[test]
        fn greedy_matching_is_matching(pattern in "[ab*?]{0,8}", text in "[ab]{0,10}") {
            let (p, t): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
            prop_assert_eq!(fits(&pattern, &text), by_definition(&p, &t));
        }
    }
}
