//! Tables against a real catalog: its HTTP API on a free port, SQLite and files in a temporary folder.

#![allow(clippy::unwrap_used)]

mod clusters;
mod commits;
mod copies;
mod deletes;
mod evolution;
mod harness;
mod increments;
mod merges;
mod orders;
mod planning;
mod pruning;
mod round_trips;
mod scrub;
mod sessions;
mod validation;
