//! Locations as table metadata writes them.

use std::path::{Path, PathBuf};

use datafusion::execution::object_store::ObjectStoreUrl;

use crate::{TableError, TableErrorKind};

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

    /// The path within its store.
    pub(crate) fn path(&self) -> Result<object_store::path::Path, TableError> {
        let path = match self {
            Self::Local { path, .. } => local_path(path),
            Self::S3 { key, .. } => object_store::path::Path::parse(key),
        };
        path.map_err(|error| {
            TableError::caused(TableErrorKind::Invalid, format!("{self:?} is not a valid path"), error)
        })
    }

    /// The store as other programs know it: `file:///` or `s3://bucket`.
    pub(crate) fn store_url(&self) -> Result<ObjectStoreUrl, TableError> {
        let Self::S3 { bucket, .. } = self else { return Ok(ObjectStoreUrl::local_filesystem()) };
        ObjectStoreUrl::parse(format!("s3://{bucket}")).map_err(|error| {
            TableError::caused(TableErrorKind::Invalid, format!("'{bucket}' is not a bucket name"), error)
        })
    }

    /// The location of another path in the same store.
    pub(crate) fn sibling(&self, path: &str) -> String {
        match self {
            Self::Local { prefix, .. } => format!("{prefix}/{path}"),
            Self::S3 { scheme, bucket, .. } => format!("{scheme}://{bucket}/{path}"),
        }
    }
}

/// What of a location tells its store: scheme and bucket.
pub(crate) fn root(location: &str) -> &str {
    match location.split_once("://") {
        Some((scheme, rest)) if scheme != "file" => {
            let bucket = rest.find('/').unwrap_or(rest.len());
            &location[..scheme.len() + 3 + bucket]
        }
        _ => "file:",
    }
}

/// Most paths are spelled as the store has them; the others come to it by way of a URL, which takes several times as long.
fn local_path(path: &Path) -> Result<object_store::path::Path, object_store::path::Error> {
    let plain = path.to_str().and_then(|path| object_store::path::Path::parse(path).ok());
    plain.map_or_else(|| object_store::path::Path::from_absolute_path(path), Ok)
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
    fn local_paths_are_what_they_are_by_way_of_a_url() {
        for path in ["/a/b.parquet", "/a b/100%/é=1", "/a//b", "/a/./b", "/a/b/", "/%2e/b"] {
            let by_url = object_store::path::Path::from_absolute_path(path);
            assert_eq!(local_path(path.as_ref()).ok(), by_url.ok(), "{path}");
        }
    }

    #[test]
    fn one_store_has_one_root() {
        assert_eq!([root("file:///a/b"), root("file:/c")], ["file:"; 2]);
        assert_eq!([root("s3://one/a/b"), root("s3://one")], ["s3://one"; 2]);
        assert_eq!(root("s3a://two/a"), "s3a://two");
    }

    #[test]
    fn relative_paths_and_missing_buckets_are_refused() {
        assert!(Location::parse("file:a/b").is_err());
        assert!(Location::parse("s3:///key").is_err());
        assert!(Location::parse("/a/b").is_err());
    }
}
