//! Taking rows out of every file below a folder, in whatever table, branch, snapshot or commit they are.
//!
//! A table's history stays as it is: data files, manifests and manifest lists that hold such rows are written anew under other
//! names, with the same snapshot ids and sequence numbers, and the metadata files that lead to them are replaced where they are.
//! So no catalog has to be asked what reaches what, commits keep their hashes, and every earlier state stays readable without
//! the rows. The folder's listing is the only truth: what nothing leads to any more is looked into as well.
//!
//! One pass is [`Scrub::survey`], then [`Scrub::apply`]. Writers may go on meanwhile: what they add is found by the next pass, so
//! whoever calls repeats passes until one finds nothing, and sees to it that no writer commits on top of what it read before (a
//! snapshot that changes nothing does that). Then [`Scrub::doomed`] and [`Scrub::remove`] delete what was replaced. Each step may be repeated at any
//! time, also by another process after a crash: nothing is remembered that the files don't say.

mod apply;
mod contents;
mod deletes;
mod names;
mod row_match;
mod survey;
mod sweep;
mod values;

use std::{collections::HashSet, sync::Arc};

use serde::Serialize;
use uuid::Uuid;

use crate::FileIo;
pub use row_match::RowMatch;
pub use survey::Survey;
pub use sweep::Doomed;
pub use values::column_values;

/// Files worked on at once; each may be as large as a table's target size.
const PARALLEL: usize = 2;

/// Takes rows out of all files below a folder.
pub struct Scrub {
    file_io: FileIo,
    root: String,
    rows: Arc<RowMatch>,
    /// Part of the names of what is written.
    id: Uuid,
    written: usize,
    /// Data files known to hold no such row; files never change.
    clean: HashSet<String>,
    /// What is replaced and may go.
    replaced: HashSet<String>,
}

/// A data file with rows that are to go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DirtyFile {
    /// Its location.
    pub location: String,
    /// Rows that are to go.
    pub rows: u64,
    /// Whether a table's metadata leads to it.
    pub is_reached: bool,
}

/// What a pass changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Metadata files that were replaced, by location.
    pub metadata: Vec<String>,
    /// Rows that were left out, counted once per file.
    pub rows: u64,
    /// Data and delete files that were written anew or left out.
    pub files: u64,
    /// Manifests and manifest lists that were written anew.
    pub manifests: u64,
}

impl Scrub {
    /// Takes the rows that `rows` tells out of the files below `root`.
    #[must_use]
    pub fn new(file_io: &FileIo, root: &str, rows: RowMatch) -> Self {
        Self {
            file_io: file_io.clone(),
            root: root.trim_end_matches('/').to_owned(),
            rows: Arc::new(rows),
            id: Uuid::now_v7(),
            written: 0,
            clean: HashSet::new(),
            replaced: HashSet::new(),
        }
    }

    /// Goes on with other rows; everything is looked into again.
    pub fn look_for(&mut self, rows: RowMatch) {
        self.rows = Arc::new(rows);
        self.clean.clear();
    }

    /// A name that no other file has, in the folder of `beside`.
    fn new_location(&mut self, beside: &str, suffix: &str) -> String {
        let folder = beside.rsplit_once('/').map_or(beside, |(folder, _)| folder);
        self.written += 1;
        format!("{folder}/{}-{:05}{suffix}", self.id, self.written)
    }
}
