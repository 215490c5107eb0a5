//! Locations of files, parsed into what can't be wrong.

use std::{fmt, str::FromStr};

use percent_encoding::percent_decode_str;

/// `file:///…` or `s3://bucket/…`, without `..` in any disguise and without trailing slash.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Location {
    bucket: Option<String>,
    /// Without leading and trailing slash.
    path: String,
}

/// Why a text is no location.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a location: {reason}")]
pub(crate) struct LocationError {
    text: String,
    reason: &'static str,
}

impl Location {
    /// The S3 bucket; `None` for local files.
    pub(crate) fn bucket(&self) -> Option<&str> {
        self.bucket.as_deref()
    }

    /// Path within the bucket or file system, without leading slash.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// A location below this one. `segment` is trusted.
    pub(crate) fn join(&self, segment: &str) -> Self {
        let path = if self.path.is_empty() { segment.to_owned() } else { format!("{}/{segment}", self.path) };
        Self { bucket: self.bucket.clone(), path }
    }

    /// Another place in the same bucket. `path` is trusted.
    pub(super) fn in_bucket(&self, path: &str) -> Self {
        Self { bucket: self.bucket.clone(), path: path.trim_matches('/').to_owned() }
    }

    /// The folders it lies in, nearest first.
    pub(crate) fn folders(&self) -> impl Iterator<Item = Self> {
        let ends = self.path.rmatch_indices('/').map(|(end, _)| end);
        ends.map(|end| Self { bucket: self.bucket.clone(), path: self.path[..end].to_owned() })
    }

    /// Its last segment.
    pub(crate) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// Whether this lies below `root`. The root itself doesn't.
    pub(crate) fn is_within(&self, root: &Self) -> bool {
        let rest = match root.path.as_str() {
            "" => Some(self.path.as_str()),
            path => self.path.strip_prefix(path).and_then(|rest| rest.strip_prefix('/')),
        };
        self.bucket == root.bucket && rest.is_some_and(|rest| !rest.is_empty())
    }

    /// Whether it has characters that mean something else in an access policy.
    pub(crate) fn has_wildcards(&self) -> bool {
        self.path.contains(['*', '?', '$'])
    }
}

impl FromStr for Location {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |reason| Err(LocationError { text: text.to_owned(), reason });
        let (bucket, path) = if let Some(rest) = strip_s3(text) {
            match rest.split_once('/') {
                Some((bucket, path)) if !bucket.is_empty() => (Some(bucket.to_owned()), path),
                None if !rest.is_empty() => (Some(rest.to_owned()), ""),
                _ => return refuse("it has no bucket"),
            }
        } else if let Some(rest) = text.strip_prefix("file:") {
            // file:/x, file:///x and file://localhost/x are the same file.
            let rest =
                rest.strip_prefix("//").map_or(rest, |rest| rest.strip_prefix("localhost").unwrap_or(rest));
            match rest.strip_prefix('/') {
                Some(path) => (None, path),
                None => return refuse("a local path must be absolute: file:///…"),
            }
        } else {
            return refuse("it must start with file:/// or s3://");
        };
        let path = path.trim_end_matches('/');
        if path.chars().any(|c| c.is_control() || c == '\\') {
            return refuse("it has a control character or backslash");
        }
        for segment in path.split('/').filter(|_| !path.is_empty()) {
            if segment.is_empty() || is_dots(segment) {
                return refuse("it has an empty segment, '.' or '..'");
            }
        }
        Ok(Self { bucket, path: path.to_owned() })
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.bucket {
            Some(bucket) => write!(f, "s3://{bucket}/{}", self.path),
            None => write!(f, "file:///{}", self.path),
        }
    }
}

/// A name as part of a path that every client spells alike. Two names may become the same; a uuid tells tables apart.
pub(super) fn plain_segment(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let text: String = name.chars().take(100).map(plain).collect();
    if is_dots(&text) { "_".repeat(text.len()) } else { text }
}

fn strip_s3(text: &str) -> Option<&str> {
    ["s3://", "s3a://", "s3n://"].iter().find_map(|scheme| text.strip_prefix(scheme))
}

/// `.` or `..`, as they are or percent-encoded once or twice.
fn is_dots(segment: &str) -> bool {
    let once = percent_decode_str(segment).decode_utf8_lossy();
    let twice = percent_decode_str(&once).decode_utf8_lossy();
    [segment, &once, &twice].iter().any(|text| matches!(*text, "." | ".."))
        || once.contains("/..")
        || twice.contains("/..")
        || once.contains("../")
        || twice.contains("../")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_place_has_one_form() {
        for (text, form) in [
            ("file:/a/b/", "file:///a/b"),
            ("file:///a/b", "file:///a/b"),
            ("file://localhost/a/b", "file:///a/b"),
            ("s3a://bucket/a", "s3://bucket/a"),
            ("s3://bucket", "s3://bucket/"),
        ] {
            assert_eq!(text.parse::<Location>().unwrap().to_string(), form);
        }
    }

    #[test]
    fn ways_out_are_refused() {
        for text in [
            "",
            "/a/b",
            "http://x/a",
            "file:a",
            "s3:///a",
            "file:///a/../b",
            "file:///a/%2e%2e/b",
            "file:///a/%252e%252E/b",
            "file:///a/x%2f..%2fy/b",
            "s3://b/a/./c",
            "s3://b/a//c",
            "s3://b/a\\..\\c",
            "file:///a\u{0}b",
        ] {
            assert!(text.parse::<Location>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_root_contains_what_is_below_it_only() {
        let root: Location = "s3://b/w/acme".parse().unwrap();
        let within = |text: &str| text.parse::<Location>().unwrap().is_within(&root);
        assert!(within("s3://b/w/acme/t"));
        assert!(!within("s3://b/w/acme"));
        assert!(!within("s3://b/w/acme2/t"));
        assert!(!within("s3://c/w/acme/t"));
        assert!(!within("file:///b/w/acme/t"));
        let bucket: Location = "s3://acme-lake/".parse().unwrap();
        assert!("s3://acme-lake/t".parse::<Location>().unwrap().is_within(&bucket));
        assert!(!"s3://acme-lake".parse::<Location>().unwrap().is_within(&bucket));
        assert!(!"s3://acme-lake2/t".parse::<Location>().unwrap().is_within(&bucket));
    }

    /// Where a server that decodes a path some times, and follows its dots, ends up.
    fn followed(path: &str, decodings: usize) -> String {
        let mut text = path.to_owned();
        for _ in 0..decodings {
            text = percent_decode_str(&text).decode_utf8_lossy().into_owned();
        }
        let mut segments: Vec<&str> = Vec::new();
        for segment in text.split('/') {
            match segment {
                "" | "." => {}
                ".." => drop(segments.pop()),
                name => segments.push(name),
            }
        }
        segments.join("/")
    }

    /// Text as somebody writes it who wants to get out, or at least to break something.
    fn tricky() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            "\\.{1,3}|%2e|%2E%2e|%252e%252E|\\.%2e|%2f|%252f|/|//|\\\\|%5c|;|%00|\\x00|%",
            "acme|other|acme2|w|a|é|%c3%28",
            "\\PC{0,3}",
        ];
        proptest::collection::vec(part, 0..8).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn what_is_within_a_root_is_there_for_whoever_decodes_it(rest in tricky(), glue in "/|") {
            let root: Location = "s3://b/w/acme".parse().unwrap();
            if let Ok(location) = format!("s3://b/w/acme{glue}{rest}").parse::<Location>()
                && location.is_within(&root)
            {
                for decodings in 0..=2 {
                    let place = followed(location.path(), decodings);
                    // An encoded slash may lead to the root itself, which is the tenant's, too.
                    prop_assert!(format!("{place}/").starts_with("w/acme/"), "{location} leads to {place}");
                }
            }
        }

        #[test]
        fn a_location_is_its_own_text(text in tricky()) {
            if let Ok(location) = format!("file:///{text}").parse::<Location>() {
                let again = location.to_string().parse::<Location>();
                prop_assert_eq!(again, Ok(location));
            }
        }

        #[test]
        fn plain_segments_are_one_segment(name in tricky()) {
            let segment = plain_segment(&name);
            prop_assert!(!segment.contains('/') && !is_dots(&segment));
            prop_assert_eq!(followed(&format!("w/{segment}"), 2).matches('/').count(), usize::from(!segment.is_empty()));
        }
    }

    #[test]
    fn names_become_plain_segments() {
        assert_eq!(plain_segment("a/b c+é"), "a_b_c__");
        assert_eq!(plain_segment(".."), "__");
    }
}
