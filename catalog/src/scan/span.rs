//! Parts of a scan: runs of live entries over the scan's manifests, in the order of the manifest list.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::manifests::ManifestFile;

/// Data files of one answer.
pub(crate) const FILES_PER_ANSWER: usize = 1000;
/// Manifests that are read for one answer, unless one alone is larger.
const MANIFESTS_PER_ANSWER: usize = 64;
const BYTES_PER_ANSWER: i64 = 16 << 20;

/// A manifest and a live entry of it.
pub(crate) type Place = (usize, usize);

/// From one place up to another, without that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Span {
    from: Place,
    to: Place,
}

impl Span {
    /// All of a scan's manifests.
    pub(crate) fn all(manifests: &[ManifestFile]) -> Self {
        Self { from: (0, 0), to: (manifests.len(), 0) }
    }

    /// Both, and what lies between.
    pub(crate) fn joined(self, other: Self) -> Self {
        Self { from: self.from, to: other.to }
    }

    /// The manifests that it has entries of.
    pub(crate) fn manifests(self, all: &[ManifestFile]) -> Range<usize> {
        let end = self.to.0.saturating_add(usize::from(self.to.1 > 0)).min(all.len());
        self.from.0.min(end)..end
    }

    /// The entries that it has of a manifest.
    pub(crate) fn entries(self, manifest: usize) -> Range<usize> {
        let start = if manifest == self.from.0 { self.from.1 } else { 0 };
        let end = if manifest == self.to.0 { self.to.1 } else { usize::MAX };
        start..end.max(start)
    }

    /// Whether it can be read while a client waits.
    pub(crate) fn is_small(self, all: &[ManifestFile]) -> bool {
        let manifests = &all[self.manifests(all)];
        manifests.len() <= 1
            || manifests.len() <= MANIFESTS_PER_ANSWER
                && manifests.iter().map(|manifest| manifest.length).sum::<i64>() <= BYTES_PER_ANSWER
    }

    /// Small parts of at most as many files as an answer has, as far as the manifest list tells.
    pub(crate) fn portions(self, all: &[ManifestFile]) -> Vec<Self> {
        let mut portions = Vec::new();
        let (mut from, mut files, mut bytes) = (self.from, 0, 0);
        let mut cut = |from: &mut Place, at: Place| {
            portions.push(Self { from: *from, to: at });
            *from = at;
        };
        for index in self.manifests(all) {
            let entries = self.entries(index);
            let end = entries.end.min(live(&all[index]).max(entries.start));
            let own = end - entries.start;
            let is_full = files + own > FILES_PER_ANSWER
                || bytes + all[index].length > BYTES_PER_ANSWER
                || index - from.0 >= MANIFESTS_PER_ANSWER;
            if files > 0 && is_full {
                cut(&mut from, (index, entries.start));
                (files, bytes) = (0, 0);
            }
            files += own;
            bytes += all[index].length;
            while files > FILES_PER_ANSWER {
                files -= FILES_PER_ANSWER;
                cut(&mut from, (index, end - files));
            }
        }
        portions.push(Self { from, to: self.to });
        portions
    }
}

/// Files that were found, in groups that fit an answer: each a span from its first file to its last.
#[derive(Default)]
pub(crate) struct Groups {
    full: Vec<Span>,
    files: usize,
    open: Option<Span>,
}

impl Groups {
    /// The next file.
    pub(crate) fn add(&mut self, place: Place) {
        let to = (place.0, place.1 + 1);
        if self.files == FILES_PER_ANSWER {
            self.full.extend(self.open.take());
            self.files = 0;
        }
        self.open.get_or_insert(Span { from: place, to }).to = to;
        self.files += 1;
    }

    /// All groups; `None` if they fit one answer.
    pub(crate) fn finish(mut self) -> Option<Vec<Span>> {
        if self.full.is_empty() {
            return None;
        }
        self.full.extend(self.open);
        Some(self.full)
    }
}

/// Live files of a manifest, as its list tells.
fn live(manifest: &ManifestFile) -> usize {
    usize::try_from(manifest.added.files.saturating_add(manifest.existing.files)).unwrap_or_default()
}

/// At most `most` spans, in order, of neighbours joined.
pub(crate) fn joined(spans: Vec<Span>, most: usize) -> Vec<Span> {
    let each = spans.len().div_ceil(most.max(1)).max(1);
    spans.chunks(each).filter_map(|chunk| Some(chunk.first()?.joined(*chunk.last()?))).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::manifests::samples;

    fn manifests(files: &[usize]) -> Vec<ManifestFile> {
        let listed = |files: &usize| {
            let (_, mut listed) = samples::manifest("file:///m", 1, &[]);
            listed.added.files = *files as i64;
            listed
        };
        files.iter().map(listed).collect()
    }

    /// The entries of all spans, in order.
    fn entries(spans: &[Span], all: &[ManifestFile]) -> Vec<Place> {
        let of = |span: &Span| {
            let span = *span;
            span.manifests(all).flat_map(move |index| {
                let range = span.entries(index);
                (range.start..range.end.min(live(&all[index]))).map(move |entry| (index, entry))
            })
        };
        spans.iter().flat_map(of).collect()
    }

    #[test]
    fn portions_have_each_entry_once_and_fit_an_answer() {
        for files in [&[][..], &[1], &[2500], &[999, 1, 1], &[400, 700, 3000, 0, 5], &[10; 200]] {
            let all = manifests(files);
            let whole = Span::all(&all);
            let portions = whole.portions(&all);
            assert_eq!(entries(&portions, &all), entries(&[whole], &all), "{files:?}");
            for portion in &portions {
                assert!(entries(&[*portion], &all).len() <= FILES_PER_ANSWER, "{files:?}");
                assert!(portion.is_small(&all), "{files:?}");
            }
            let few = joined(portions, 2);
            assert!(few.len() <= 2);
            assert_eq!(entries(&few, &all), entries(&[whole], &all), "{files:?}");
        }
    }

    #[test]
    fn a_span_that_no_scan_has_is_empty_at_worst() {
        let all = manifests(&[3]);
        let odd = Span { from: (7, 2), to: (5, usize::MAX) };
        assert_eq!(odd.manifests(&all), 1..1);
        assert_eq!(Span { from: (0, 5), to: (0, 2) }.entries(0), 5..5);
    }
}
