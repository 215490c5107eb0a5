//! What clients did and were told, to be compared with what came of it.

use super::ledger::Count;
use crate::{store::Hash, version::Key};

/// What a client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is done.
    Acknowledged,
    /// It isn't, and never will be.
    Refused,
    /// Nothing that tells.
    Unknown,
}

/// A change that a client wanted.
#[derive(Clone, Debug)]
pub(super) struct Change {
    /// Unlike that of any other; what it makes carries it.
    pub(super) name: String,
    pub(super) branch: String,
    pub(super) what: What,
    pub(super) began: Count,
    pub(super) ended: Count,
    pub(super) verdict: Verdict,
}

/// What a change makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Commit,
    Branch,
    NoBranch,
}

/// What a client saw of a branch.
#[derive(Clone, Debug)]
pub(super) struct Read {
    pub(super) branch: String,
    pub(super) began: Count,
    pub(super) ended: Count,
    pub(super) saw: Saw,
}

/// See [`Read`].
#[derive(Clone, Debug)]
pub(super) enum Saw {
    /// Where it was; `None` if there was no such branch.
    Head(Option<Hash>),
    /// Where a table's metadata was; `None` if there was no such table.
    Table(Key, Option<String>),
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) changes: Vec<Change>,
    pub(super) reads: Vec<Read>,
    /// Answers that were wrong by themselves.
    pub(super) wrong: Vec<String>,
}
