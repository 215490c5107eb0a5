//! A URL with a password in it, and where it comes from.

use std::fmt;

use firn_runtime::config::{SecretRef, SecretRefError};
use serde::Deserialize;

/// A URL that may hold a password: as it is, or a reference to it. `Debug` shows the reference alone.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub(crate) enum SecretUrl {
    Plain(String),
    Reference(SecretRef),
}

impl From<String> for SecretUrl {
    fn from(text: String) -> Self {
        SecretRef::try_from(text.clone()).map_or(Self::Plain(text), Self::Reference)
    }
}

impl SecretUrl {
    /// The URL as text.
    pub(crate) fn resolve(&self) -> Result<String, SecretRefError> {
        match self {
            Self::Plain(text) => Ok(text.clone()),
            Self::Reference(reference) => reference.resolve(),
        }
    }

    /// The URL, if it stands in the configuration itself.
    pub(crate) fn plain(&self) -> Option<&str> {
        match self {
            Self::Plain(text) => Some(text),
            Self::Reference(_) => None,
        }
    }

    /// What it refers to, if it does.
    pub(crate) fn reference(&self) -> Option<&SecretRef> {
        match self {
            Self::Plain(_) => None,
            Self::Reference(reference) => Some(reference),
        }
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(_) => f.write_str("Plain"),
            Self::Reference(reference) => write!(f, "{reference}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_told_from_urls_and_passwords_are_not_printed() {
        let of = |text: &str| SecretUrl::from(text.to_owned());
        assert!(of("env:DATABASE").reference().is_some() && of("file:/run/url").reference().is_some());
        let plain = of("postgres://u:hunter2@db/firn");
        assert_eq!(plain.plain(), Some("postgres://u:hunter2@db/firn"));
        assert!(!format!("{plain:?}").contains("hunter2"));
        assert_eq!(of("sqlite:/x").plain(), Some("sqlite:/x"));
    }
}
