//! Which delete files apply to which data files (specification, "Scan Planning").
//!
//! | delete | applies to data files | of which partition |
//! | --- | --- | --- |
//! | deletion vector, position deletes | with the same or a lower data sequence number | the same; vectors: the one file they name |
//! | equality deletes | with a lower data sequence number | the same; of an unpartitioned spec: all |
//!
//! Where a data file has a deletion vector, its position delete files no longer count. Data files are known first and delete files
//! pass by one at a time, so that only those that apply are kept.

use std::collections::{BTreeSet, HashMap};

use super::file::ScanFile;
use crate::manifests::FileContent;

/// The delete files of some data files.
pub(crate) struct Deletes {
    data: Vec<ScanFile>,
    by_path: HashMap<String, Vec<usize>>,
    by_partition: HashMap<String, Vec<usize>>,
    kept: Vec<ScanFile>,
    /// Of each data file: the delete files that apply.
    applying: Vec<BTreeSet<usize>>,
}

/// Data files and their deletes.
pub(crate) struct Attached {
    pub(crate) data: Vec<ScanFile>,
    pub(crate) deletes: Vec<ScanFile>,
    /// Of each data file: the places of the delete files that apply.
    pub(crate) applying: Vec<Vec<usize>>,
}

impl Deletes {
    pub(crate) fn new(data: Vec<ScanFile>) -> Self {
        let mut by_path: HashMap<String, Vec<usize>> = HashMap::new();
        let mut by_partition: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, file) in data.iter().enumerate() {
            by_path.entry(file.path.clone()).or_default().push(index);
            by_partition.entry(partition(file)).or_default().push(index);
        }
        let applying = vec![BTreeSet::new(); data.len()];
        Self { data, by_path, by_partition, kept: Vec::new(), applying }
    }

    /// The lowest data sequence number: deletes that are older apply to none of the files.
    pub(crate) fn oldest(&self) -> i64 {
        self.data.iter().map(|file| file.sequence_number).min().unwrap_or(i64::MAX)
    }

    /// Looks at a delete file; `unpartitioned` says that its spec has no fields.
    pub(crate) fn offer(&mut self, delete: ScanFile, unpartitioned: bool) {
        let by_position = delete.content == FileContent::PositionDeletes;
        let (first, last) = if by_position { delete.named_paths() } else { (None, None) };
        let everything: Vec<usize>;
        let candidates = match (first, last) {
            (Some(first), Some(last)) if first == last => self.by_path.get(first),
            _ if unpartitioned && !by_position => {
                everything = (0..self.data.len()).collect();
                Some(&everything)
            }
            _ => self.by_partition.get(&partition(&delete)),
        };
        let applies = |index: &&usize| {
            let file = &self.data[**index];
            let is_named = first.is_none_or(|first| first <= file.path.as_str())
                && last.is_none_or(|last| file.path.as_str() <= last);
            let is_newer = match by_position {
                true => delete.sequence_number >= file.sequence_number,
                false => delete.sequence_number > file.sequence_number,
            };
            is_named && is_newer
        };
        let files: Vec<usize> = candidates.into_iter().flatten().filter(applies).copied().collect();
        if files.is_empty() {
            return;
        }
        for file in files {
            self.applying[file].insert(self.kept.len());
        }
        self.kept.push(delete);
    }

    pub(crate) fn finish(mut self) -> Attached {
        for applying in &mut self.applying {
            if applying.iter().any(|delete| self.kept[*delete].is_vector()) {
                applying.retain(|delete| {
                    let file = &self.kept[*delete];
                    file.is_vector() || file.content == FileContent::EqualityDeletes
                });
            }
        }
        // Position deletes that gave way to vectors everywhere are not named.
        let used: BTreeSet<usize> = self.applying.iter().flatten().copied().collect();
        let places: HashMap<usize, usize> =
            used.iter().enumerate().map(|(place, old)| (*old, place)).collect();
        let applying = self.applying.iter().map(|all| all.iter().map(|old| places[old]).collect()).collect();
        let kept = self.kept.into_iter().enumerate().filter(|(old, _)| used.contains(old));
        Attached { data: self.data, deletes: kept.map(|(_, file)| file).collect(), applying }
    }
}

/// Equal for files of one partition.
fn partition(file: &ScanFile) -> String {
    format!("{}:{:?}", file.spec_id, file.partition)
}
