//! Scan planning: which files a filter leaves to be read, with their deletes and what is still to be tested of their rows.
//!
//! A scan is pinned to snapshots and a schema (`request`), its filter bound to columns (`expression`) and judged by partition
//! summaries, partition values and column statistics (`filter`, `judge`). It is read in parts that fit an answer (`span`), with
//! bounded memory, off the async threads (`plan`). Manifests are read as they are (`manifests`), so that a table with types that no
//! typed library knows is planned like any other.

mod columns;
mod datum;
mod deletes;
mod expression;
mod file;
mod filter;
mod jobs;
mod judge;
mod layout;
mod plan;
mod primitive;
mod request;
mod snapshots;
mod span;
mod time;
mod transform;

#[cfg(test)]
mod tests;

pub(crate) use jobs::Jobs;
pub(crate) use plan::{Part, Planned, Scan};
pub(crate) use request::{Pinned, ScanRequest};
pub(crate) use span::{Span, joined};
