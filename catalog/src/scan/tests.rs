//! Scans of small tables, against what reading every row says.

#![allow(clippy::unwrap_used)]

mod answers;
mod brute_force;
mod properties;
mod tables;
