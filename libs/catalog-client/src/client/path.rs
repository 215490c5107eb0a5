//! Request paths and queries, built from raw names.
//!
//! The server decodes each segment once, as a form field, so everything outside `A-Za-z0-9-._~` is percent-encoded: a
//! plus and a space mean themselves whichever rule a proxy in between follows.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::iceberg::NAMESPACE_SEPARATOR;

const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A path with an optional query, ready for a request line.
#[derive(Clone, Debug)]
pub(super) struct Path {
    text: String,
    has_query: bool,
    /// A segment that URL parsers would swallow (`.` or `..`).
    refused: Option<String>,
}

impl Path {
    /// Starts with text that needs no encoding.
    pub(super) fn new(fixed: &str) -> Self {
        Self { text: fixed.to_owned(), has_query: false, refused: None }
    }

    /// Below `/iceberg/v1/{prefix}`, the prefix carrying the reference.
    pub(super) fn iceberg(tenant: &str, reference: &str) -> Self {
        Self::new("/iceberg/v1/").joined(&prefix(tenant, reference))
    }

    /// Below `/nessie/{tenant}/api/v2`.
    pub(super) fn nessie(tenant: &str) -> Self {
        Self::new("/nessie/").joined(tenant).fixed("/api/v2")
    }

    /// Appends text that needs no encoding.
    pub(super) fn fixed(mut self, text: &str) -> Self {
        self.text.push_str(text);
        self
    }

    /// Appends `/` and a name as one segment.
    pub(super) fn segment(self, name: &str) -> Self {
        self.fixed("/").joined(name)
    }

    /// Appends a namespace as one segment.
    pub(super) fn namespace(self, levels: &[String]) -> Self {
        self.fixed("/namespaces").segment(&join_namespace(levels))
    }

    /// Appends a query parameter.
    pub(super) fn query(mut self, name: &str, value: &str) -> Self {
        self.text.push(if self.has_query { '&' } else { '?' });
        self.has_query = true;
        self.text.push_str(name);
        self.text.push('=');
        self.text.extend(utf8_percent_encode(value, ENCODED));
        self
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// The name that can't be sent, if there is one.
    pub(super) fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    fn joined(mut self, name: &str) -> Self {
        if matches!(name, "" | "." | "..") {
            self.refused = Some(name.to_owned());
        }
        self.text.extend(utf8_percent_encode(name, ENCODED));
        self
    }
}

/// Levels of a namespace as one raw text.
pub(super) fn join_namespace(levels: &[String]) -> String {
    levels.join(&NAMESPACE_SEPARATOR.to_string())
}

/// The Iceberg prefix: the tenant alone for `main`, else `TENANT~` and the lower-case hex of the reference.
fn prefix(tenant: &str, reference: &str) -> String {
    if reference.is_empty() || reference == "main" {
        return tenant.to_owned();
    }
    reference.bytes().fold(format!("{tenant}~"), |text, byte| format!("{text}{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_encoded_segment_each() {
        let levels = ["a/b".to_owned(), "c d+e%".to_owned(), "é".to_owned()];
        let path = Path::iceberg("acme", "main").namespace(&levels).fixed("/tables").segment("t@dev");
        let wanted = "/iceberg/v1/acme/namespaces/a%2Fb%1Fc%20d%2Be%25%1F%C3%A9/tables/t%40dev";
        assert_eq!(path.as_str(), wanted);
        assert_eq!(path.refused(), None);
    }

    #[test]
    fn another_reference_than_main_is_hex_in_the_prefix() {
        assert_eq!(Path::iceberg("acme", "").as_str(), "/iceberg/v1/acme");
        assert_eq!(Path::iceberg("acme", "dev/x").as_str(), "/iceberg/v1/acme~6465762f78");
    }

    #[test]
    fn queries_follow_the_path() {
        let path = Path::nessie("acme").fixed("/trees").query("name", "a&b").query("type", "TAG");
        assert_eq!(path.as_str(), "/nessie/acme/api/v2/trees?name=a%26b&type=TAG");
    }

    #[test]
    fn names_that_url_parsers_swallow_are_refused() {
        for name in ["", ".", ".."] {
            assert_eq!(Path::new("/x").segment(name).refused(), Some(name));
        }
    }
}
