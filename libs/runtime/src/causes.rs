//! Errors as one line of text.

use std::error::Error;

/// The error and its causes. Libraries differ in whether an error repeats its cause: what was said already is left out.
#[must_use]
pub fn with_causes(error: &dyn Error) -> String {
    let mut said = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if said.is_empty() {
            said = text;
        } else if !said.contains(&text) {
            said = format!("{said}: {text}");
        }
        next = cause.source();
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Layer>>,
    }

    #[test]
    fn what_was_said_is_not_said_again() {
        let layer = |text, source: Option<Layer>| Layer { text, source: source.map(Box::new) };
        let cause = layer("no field 'x'", None);
        let error = layer("the query", Some(layer("planning: no field 'x'", Some(cause))));
        assert_eq!(with_causes(&error), "the query: planning: no field 'x'");
    }
}
