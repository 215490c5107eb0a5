//! Keys: paths whose order is the tree's order.

use std::fmt;

use super::Key;
use crate::{CatalogError, store::Hash};

/// Nessie's bound.
const MAX_ELEMENTS: usize = 20;
/// Nessie's bound on all elements together.
const MAX_BYTES: usize = 500;
/// One node in 32 entries ends at a key, so nodes hold 32 entries on average.
const BOUNDARY_BITS: u32 = 5;

impl Key {
    /// Checks the bounds and that every element can be shown and sent.
    pub fn checked(self) -> Result<Self, CatalogError> {
        let fault = if self.0.is_empty() || self.0.len() > MAX_ELEMENTS {
            Some(format!("must have 1 to {MAX_ELEMENTS} elements, not {}", self.0.len()))
        } else if self.0.iter().any(String::is_empty) {
            Some("has an empty element".to_owned())
        } else if self.0.iter().any(|element| element.chars().any(char::is_control)) {
            Some("has a control character".to_owned())
        } else if self.0.iter().map(String::len).sum::<usize>() > MAX_BYTES {
            Some(format!("must not be longer than {MAX_BYTES} bytes"))
        } else {
            None
        };
        match fault {
            None => Ok(self),
            Some(fault) => {
                Err(CatalogError::Invalid(format!("the key '{}' {fault}", self.to_string().escape_debug())))
            }
        }
    }

    /// The namespace it lies in, if it has more than one element.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let (_, parent) = self.0.split_last()?;
        (!parent.is_empty()).then(|| Self(parent.to_vec()))
    }

    /// Whether it is `prefix` or lies below it.
    #[must_use]
    pub fn starts_with(&self, prefix: &Self) -> bool {
        self.0.starts_with(&prefix.0)
    }

    /// The least key above this one. It has an empty element, so it is a bound and never a key.
    pub(super) fn successor(&self) -> Self {
        let mut elements = self.0.clone();
        elements.push(String::new());
        Self(elements)
    }

    /// Whether a node of a tree ends at this key on a level. It follows from the key alone, so that a set of keys has one tree.
    pub(super) fn ends_node(&self, level: u8) -> bool {
        let Hash(digest) = Hash::of(self.0.join("\0").as_bytes());
        let [a, b, c, d, e, f, g, h, ..] = digest;
        let zeros = u64::from_le_bytes([a, b, c, d, e, f, g, h]).trailing_zeros();
        zeros / BOUNDARY_BITS > u32::from(level)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(elements: &[&str]) -> Key {
        Key(elements.iter().map(|element| (*element).to_owned()).collect())
    }

    #[test]
    fn bad_keys_say_what_is_wrong() {
        let cases: [(&[&str], &str); 5] = [
            (&[], "1 to 20 elements"),
            (&["a"; 21], "1 to 20 elements"),
            (&["a", ""], "empty element"),
            (&["a\u{7}"], "control character"),
            (&[&"x".repeat(501)], "longer than 500"),
        ];
        for (elements, fault) in cases {
            let error = key(elements).checked().err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(fault), "{elements:?}: {error}");
        }
        assert!(key(&["a b", "ü.%+/", "🧊"]).checked().is_ok());
    }

    #[test]
    fn the_successor_is_the_least_key_above() {
        let (a, below, next) = (key(&["a"]), key(&["a", "\u{1}"]), key(&["a\u{1}"]));
        assert!(a < a.successor() && a.successor() < below && below < next);
    }
}
