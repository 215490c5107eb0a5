//! The worker against a real catalog, a real log and real files.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod addressing;
mod enrichment;
mod exactly_once;
mod house;
mod kills;
mod relay;
mod replay;
mod schema;
mod suspension;
mod transitions;
