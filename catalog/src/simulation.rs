//! The catalog in a world that goes wrong, again and again, and always in the same way for the same seed.
//!
//! Several catalogs, real but for their ends, share one database and one object store in memory. Every call to these may be
//! slow, fail, be overtaken, be done without an answer, or be done only after everybody gave up; catalogs are killed, and their
//! clocks differ. Clients create tables, commit to them, set values, branch and merge, and some hang up in the midst of it. At the
//! end what they were told and what they saw is compared with what is there.
//!
//! Time passes only while everybody waits for it (`firn_runtime::clock`), and all chance comes from the seed (`chance`): a world
//! that goes wrong does so every time, and thousands of them fit into a minute.

mod bucket;
mod chance;
mod check;
mod client;
mod clock;
mod database;
mod history;
mod ledger;
mod life;
mod link;
mod world;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use firn_runtime::clock::VirtualTime;
use history::Verdict;
use world::World;

use crate::CatalogError;

/// What came of a world.
#[derive(Clone, Debug)]
pub struct Lived {
    /// The seed it came from.
    pub seed: u64,
    /// What happened, line by line. The same seed gives the same lines.
    pub ledger: Vec<String>,
    /// What tells the ledger from others.
    pub digest: String,
    /// Changes that were acknowledged.
    pub acknowledged: u64,
    /// Changes that were refused.
    pub refused: u64,
    /// Changes of which their clients never knew.
    pub unknown: u64,
    /// Reads that were answered.
    pub reads: u64,
    /// Calls that failed, or were not answered.
    pub faults: u64,
    /// Catalogs that were killed.
    pub crashes: u64,
    /// What doesn't fit together; empty if all is well.
    pub wrong: Vec<String>,
}

/// Lives through the world of a seed.
///
/// # Errors
/// If it can't begin, or what is left of it can't be read.
pub fn run(seed: u64) -> Result<Lived, CatalogError> {
    let time = VirtualTime::default();
    let world = Arc::new(World::new(seed, &time));
    let lived = time.run(async {
        world.live().await?;
        let count = |wanted| {
            let history = world.history();
            history.changes.iter().filter(|change| change.verdict == wanted).count() as u64
        };
        let (acknowledged, refused) = (count(Verdict::Acknowledged), count(Verdict::Refused));
        let (unknown, reads) = (count(Verdict::Unknown), world.history().reads.len() as u64);
        let (ledger, wrong) = (world.ledger.take(), check::check(&world).await?);
        let (faults, crashes) = (world.chance.faults(), world.crashes());
        let digest = ledger::digest(&ledger);
        Ok(Lived { seed, ledger, digest, acknowledged, refused, unknown, reads, faults, crashes, wrong })
    });
    lived.map_err(|error| CatalogError::Internal(format!("no runtime for a world: {error}")))?
}
