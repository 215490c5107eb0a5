#![allow(clippy::unwrap_used)]

use std::{sync::Arc, thread};

use firn_runtime::clock::SystemClock;

use super::{database::Database, ledger::Sequence, run};
use crate::store::{Store, conformance::conform};

/// As many as `.ci/run` has time for; `firn bench simulate` lives through more.
const SEEDS: u64 = 200;
const THREADS: u64 = 2;

#[test]
fn two_hundred_worlds_with_faults_keep_their_histories() {
    let worlds = (0..THREADS).map(|thread| {
        thread::spawn(move || (thread..SEEDS).step_by(THREADS as usize).map(run).collect::<Vec<_>>())
    });
    let (mut acknowledged, mut faults, mut crashes, mut wrong) = (0, 0, 0, Vec::new());
    for thread in worlds.collect::<Vec<_>>() {
        for world in thread.join().unwrap() {
            let world = world.unwrap();
            acknowledged += world.acknowledged;
            faults += world.faults;
            crashes += world.crashes;
            wrong.extend(world.wrong.into_iter().map(|what| format!("seed {}: {what}", world.seed)));
        }
    }
    assert_eq!(wrong, Vec::<String>::new(), "'firn bench simulate --seed N' tells more");
    // Or else it was too calm to tell anything.
    let least = [(acknowledged, SEEDS * 10), (faults, SEEDS * 5), (crashes, SEEDS)];
    assert!(least.iter().all(|(found, least)| found > least), "{least:?}");
}

#[test]
fn a_seed_is_a_world() {
    for seed in [3, 11, 12] {
        let (one, other) = (run(seed).unwrap(), run(seed).unwrap());
        assert_eq!(one.ledger, other.ledger, "seed {seed}");
        assert_eq!(one.wrong, other.wrong);
        assert!(one.ledger.len() > 50, "{:?}", one.ledger);
    }
    assert_ne!(run(1).unwrap().digest, run(2).unwrap().digest);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_in_memory_conforms() {
    let database = Database::new(Arc::new(SystemClock), &Sequence::default());
    conform(async || Arc::new(database.reopened()) as Arc<dyn Store>).await;
}
