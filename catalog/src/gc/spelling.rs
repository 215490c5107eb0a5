//! Sets of files whose locations may be spelled in several ways.
//!
//! Engines spell the location of one file differently: `s3a` for `s3`, an empty segment more, a percent-encoded colon. A file
//! that is needed under one spelling must not go because it was listed under another. So all are brought to one form that is
//! coarser than any server's: some files that differ become the same, and then both stay. Never the other way round.

use std::{
    borrow::Cow,
    collections::HashSet,
    hash::{BuildHasher as _, RandomState},
};

use percent_encoding::percent_decode_str;

/// Encodings within encodings that are looked through.
const DECODINGS: usize = 3;

/// Files below some folders, eight bytes each: a table may have millions.
///
/// What is kept is a hash under a key of this set's own. If two files have the same, one that nothing needs stays until the
/// next collection, which has another key.
#[derive(Default)]
pub(super) struct FileSet {
    key: RandomState,
    hashes: HashSet<u64>,
    /// Canonical, each with a slash behind; without any, nothing is in the set.
    folders: Vec<String>,
}

impl FileSet {
    /// An empty set that takes files below `folders` and no others.
    pub(super) fn below<'a>(folders: impl IntoIterator<Item = &'a str>) -> Self {
        let folders = folders.into_iter().map(|folder| format!("{}/", canonical(folder))).collect();
        Self { folders, ..Self::default() }
    }

    /// Adds a file, if it lies below one of the folders.
    pub(super) fn insert(&mut self, location: &str) {
        let form = canonical(location);
        if is_below(&form, &self.folders) {
            self.hashes.insert(self.key.hash_one(form));
        }
    }

    /// Whether a file is in it, however it is spelled. May err by saying yes.
    pub(super) fn holds(&self, location: &str) -> bool {
        self.hashes.contains(&self.key.hash_one(canonical(location)))
    }
}

/// Whether a location lies below a folder for anybody who might read it, however both are spelled.
pub(super) fn lies_below(location: &str, folder: &str) -> bool {
    is_below(&canonical(location), &[format!("{}/", canonical(folder))])
}

fn is_below(form: &str, folders: &[String]) -> bool {
    folders.iter().any(|folder| form.starts_with(folder.as_str()))
}

/// The one form of a location.
fn canonical(location: &str) -> String {
    let (place, path) = split(location);
    let mut path = Cow::Borrowed(path);
    for _ in 0..DECODINGS {
        let decoded = percent_decode_str(&path).decode_utf8_lossy().into_owned();
        if decoded == *path {
            break;
        }
        path = Cow::Owned(decoded);
    }
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split(['/', '\\']) {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            name => segments.push(name),
        }
    }
    format!("{place}/{}", segments.join("/"))
}

/// What tells where a path is, and the path: `s3:bucket` for all of S3's schemes, nothing for local files.
fn split(location: &str) -> (String, &str) {
    let Some((scheme, rest)) = location.split_once(':').filter(|(scheme, _)| !scheme.contains('/')) else {
        return (String::new(), location);
    };
    match scheme.to_ascii_lowercase().as_str() {
        "file" => (String::new(), rest.strip_prefix("//localhost").unwrap_or(rest)),
        "s3" | "s3a" | "s3n" => {
            let rest = rest.trim_start_matches('/');
            let (bucket, path) = rest.split_once('/').unwrap_or((rest, ""));
            (format!("s3:{bucket}"), path)
        }
        other => (format!("{other}:"), rest),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_file_has_one_form_however_it_is_spelled() {
        let spellings = [
            "s3://lake/acme/t/data/at=2026-11-22T10:00/a b.parquet",
            "s3a://lake/acme/t/data/at=2026-11-22T10:00/a b.parquet",
            "S3N://lake//acme/t//data/at=2026-11-22T10%3A00/a%20b.parquet",
            "s3://lake/acme/t/./data/x/../at=2026-11-22T10%253a00/a b.parquet/",
        ];
        let set = filled("s3://lake/acme", &spellings[..1]);
        for spelling in spellings {
            assert!(set.holds(spelling), "{spelling}");
        }
        for other in [
            "s3://lake/acme/t/data/at=2026-11-22T10:00/a_b.parquet",
            "s3://lake2/acme/t/data/at=2026-11-22T10:00/a b.parquet",
            "file:///lake/acme/t/data/at=2026-11-22T10:00/a b.parquet",
            "s3://lake/acme/t/data/at=2026-11-22T10:00/A b.parquet",
        ] {
            assert!(!set.holds(other), "{other}");
        }
        let local = filled("file:///w/acme", &["file:/w/acme/t/1"]);
        for spelling in
            ["file:///w/acme/t/1", "file://localhost/w/acme//t/1", "/w/acme/t/1", "file:////w/acme/t/1"]
        {
            assert!(local.holds(spelling), "{spelling}");
        }
    }

    #[test]
    fn files_elsewhere_take_no_room() {
        let set = filled("s3://lake/acme", &["s3://lake/acme2/t/1", "s3://lake/acme/t/1", "s3://lake/acme"]);
        assert_eq!(set.hashes.len(), 1);
        assert!(lies_below("s3a://lake/acme/x/%2e%2e/t", "s3://lake/acme/"));
        assert!(!lies_below("s3://lake/acme/../other/t", "s3://lake/acme"));
    }

    fn filled(folder: &str, locations: &[&str]) -> FileSet {
        let mut set = FileSet::below([folder]);
        locations.iter().for_each(|location| set.insert(location));
        set
    }

    proptest! {
        #[test]
        fn a_form_is_its_own_form(text in "(s3|s3a|file|gs)?:?/{0,3}[a-c%2eEfF5./\\\\ :+é]{0,20}") {
            let form = canonical(&text);
            let (place, _) = split(&text);
            let path = form.strip_prefix(&place).unwrap_or_default();
            prop_assert!(!path.contains("//") && !path.split('/').any(|segment| segment == ".."), "{form}");
        }

        #[test]
        fn a_file_that_was_put_in_is_found(path in "[a-z0-9=%:+ ._-]{1,12}(/[a-z0-9=%:+ ._-]{1,12}){0,3}") {
            let location = format!("s3://lake/acme/t/{path}");
            let set = filled("s3://lake/acme/t", &[&location]);
            // A path of dots may lead out of the folder, where nothing is searched.
            prop_assert!(set.holds(&location) || !lies_below(&location, "s3://lake/acme/t"));
        }
    }
}
