//! Rewrites of tables that a Ballista cluster in this process sorts: a scheduler, and executors that have a runtime of their own each.

#![allow(clippy::unwrap_used)]

mod executors;
mod faults;
mod lake;
mod sorts;
