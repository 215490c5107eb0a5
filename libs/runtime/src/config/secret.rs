//! Secrets by reference: a configuration never holds one in clear.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// `env:NAME` or `file:PATH`. Printing it shows the reference, never the secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SecretRef {
    /// A variable of the environment.
    Env(String),
    /// A file; white space around its content is ignored.
    File(PathBuf),
}

/// Why a secret can't be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretRefError {
    /// The text is no reference. The text isn't shown: it may be the secret itself.
    #[error("expected a reference to a secret, 'env:NAME' or 'file:PATH', not the secret itself")]
    NotAReference,
    /// The variable isn't set, or is empty.
    #[error("the variable {0} is not set")]
    NoVariable(String),
    /// The file can't be read.
    #[error("can't read the secret in {0}: {1}")]
    NoFile(PathBuf, String),
}

impl SecretRef {
    /// The file that it refers to, if it does.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Env(_) => None,
            Self::File(path) => Some(path),
        }
    }

    /// Reads the secret.
    pub fn resolve(&self) -> Result<String, SecretRefError> {
        match self {
            Self::Env(name) => std::env::var(name)
                .ok()
                .filter(|value| !value.is_empty())
                .ok_or_else(|| SecretRefError::NoVariable(name.clone())),
            Self::File(path) => fs::read_to_string(path)
                .map(|text| text.trim().to_owned())
                .map_err(|error| SecretRefError::NoFile(path.clone(), error.to_string())),
        }
    }
}

impl TryFrom<String> for SecretRef {
    type Error = SecretRefError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.split_once(':') {
            Some(("env", name)) if !name.is_empty() => Ok(Self::Env(name.to_owned())),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            _ => Err(SecretRefError::NotAReference),
        }
    }
}

impl From<SecretRef> for String {
    fn from(reference: SecretRef) -> Self {
        reference.to_string()
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn literal_secret_is_refused_without_showing_it() {
        let error = SecretRef::try_from("hunter2".to_owned()).unwrap_err().to_string();
        assert!(!error.contains("hunter2") && error.contains("env:NAME"), "{error}");
    }

    #[test]
    fn file_reference_reads_trimmed_and_an_absent_variable_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "s3cret\n").unwrap();
        let reference = SecretRef::try_from(format!("file:{}", path.display())).unwrap();
        assert_eq!(reference.resolve().unwrap(), "s3cret");
        let error = SecretRef::Env("FIRN_TEST_NOT_SET".into()).resolve().unwrap_err();
        assert_eq!(error.to_string(), "the variable FIRN_TEST_NOT_SET is not set");
    }
}
