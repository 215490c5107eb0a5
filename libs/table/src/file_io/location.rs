//! Locations as table metadata writes them.

use std::path::{Path, PathBuf};

use crate::TableError;

/// A parsed location. Paths are taken literally: nothing is percent-decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    /// A local file; `prefix` is `file://` or `file:`, as it was written.
    Local { prefix: &'static str, path: PathBuf },
    /// An object; `scheme` is `s3`, `s3a` or `s3n`.
    S3 { scheme: &'static str, bucket: String, key: String },
}

impl Location {
    pub(crate) fn parse(location: &str) -> Result<Self, TableError> {
        for prefix in ["file://", "file:"] {
            if let Some(path) = location.strip_prefix(prefix) {
                if !Path::new(path).is_absolute() {
                    return Err(TableError::invalid(format!(
                        "location '{location}' is not an absolute path"
                    )));
                }
                return Ok(Self::Local { prefix, path: PathBuf::from(path) });
            }
        }
        for scheme in ["s3", "s3a", "s3n"] {
            if let Some(rest) = location.strip_prefix(scheme).and_then(|rest| rest.strip_prefix("://")) {
                let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
                if bucket.is_empty() {
                    return Err(TableError::invalid(format!("location '{location}' names no bucket")));
                }
                return Ok(Self::S3 { scheme, bucket: bucket.to_owned(), key: key.to_owned() });
            }
        }
        Err(TableError::unsupported(format!("location '{location}' is neither file: nor s3:")))
    }

    /// The location of another path in the same store.
    pub(crate) fn sibling(&self, path: &str) -> String {
        match self {
            Self::Local { prefix, .. } => format!("{prefix}/{path}"),
            Self::S3 { scheme, bucket, .. } => format!("{scheme}://{bucket}/{path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn schemes_parse_and_print_as_they_were() {
        for (location, path) in [
            ("file:///a/b", "a/c"),
            ("file:/a/b", "a/c"),
            ("s3://bucket/a/b", "a/c"),
            ("s3a://bucket/a", "c"),
        ] {
            let parsed = Location::parse(location).unwrap();
            let sibling = parsed.sibling(path);
            assert!(sibling.ends_with(path));
            let prefix = &location[..location.find("/a").unwrap()];
            assert!(sibling.starts_with(prefix), "{sibling} {prefix}");
        }
    }

    #[test]
    fn relative_paths_and_missing_buckets_are_refused() {
        assert!(Location::parse("file:a/b").is_err());
        assert!(Location::parse("s3:///key").is_err());
        assert!(Location::parse("/a/b").is_err());
    }
}
