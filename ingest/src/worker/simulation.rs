//! The worker's loop in simulated worlds: its own code over a log and a lake in memory, in a time that passes at once. What is asked of
//! them fails before it is done, after it, or is done long after nobody waits for it; workers are killed, told to stop, left out of
//! their group unawares, and begin again. All of that follows from a seed, so a history that went wrong can be had again.
//!
//! The log and the lake hold what the workers' contracts with them say, and look at each step that a worker takes: the group's
//! offset never passes a record that is in no table, and positions never pass a record that isn't in the same commit.

mod history;
mod lake;
mod log;
mod outside;

use history::run;

/// How many histories are run, and from which seed on: `SIMULATION_HISTORIES`, `SIMULATION_SEED`.
fn asked(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn histories_of_faults_lose_and_repeat_nothing() {
    let (first, histories) = (asked("SIMULATION_SEED", 1), asked("SIMULATION_HISTORIES", 100));
    let mut happened = history::Told::default();
    for seed in first..first + histories {
        match run(seed) {
            Ok(told) => happened.add(&told),
            Err(wrong) => {
                panic!("{wrong}\nto see it again: SIMULATION_SEED={seed} SIMULATION_HISTORIES=1")
            }
        }
    }
    // A world in which nothing happens shows nothing.
    assert!(histories < 100 || happened.is_eventful(), "{happened:?}");
}

#[test]
fn a_seed_is_a_history() {
    let told = [run(5), run(5), run(6)].map(|told| told.expect("nothing goes wrong"));
    assert_eq!(told[0], told[1]);
    assert_ne!(told[0], told[2]);
}
