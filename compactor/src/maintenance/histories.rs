//! Random histories of one table over branches, with everything that rewrites, forgets and removes: whatever a branch, tag or
//! snapshot reaches is there with the rows that it had, and once all is old nothing else is.
//!
//! Time passes by making everything older: the files' own times, and the database's of when objects were last needed.

#![allow(clippy::unwrap_used)]

mod reach;
mod world;

use proptest::prelude::*;

use world::World;

/// Branches, snapshots and commits are chosen among those that there are, by number.
#[derive(Clone, Debug)]
enum Step {
    Append {
        branch: usize,
    },
    /// By position, where the rows are.
    DeleteRows {
        branch: usize,
        choice: usize,
    },
    Branch {
        from: usize,
    },
    Tag {
        from: usize,
    },
    Drop {
        branch: usize,
    },
    MergeIntoMain {
        from: usize,
    },
    Compact,
    Expire,
    /// To a snapshot in the log.
    Rollback {
        branch: usize,
        choice: usize,
    },
    /// To a commit, expired or not.
    Restore {
        branch: usize,
        choice: usize,
    },
    /// Files are written; their commit may come later, or never.
    Write {
        branch: usize,
    },
    CommitWritten,
    /// Everything there is becomes older than the safety age.
    Age,
    RemoveOrphans,
    CollectGarbage,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (branch, choice) = (0..4usize, 0..8usize);
    let step = prop_oneof![
        6 => branch.clone().prop_map(|branch| Step::Append { branch }),
        3 => (branch.clone(), choice.clone()).prop_map(|(branch, choice)| Step::DeleteRows { branch, choice }),
        2 => branch.clone().prop_map(|from| Step::Branch { from }),
        1 => branch.clone().prop_map(|from| Step::Tag { from }),
        1 => branch.clone().prop_map(|branch| Step::Drop { branch }),
        2 => branch.clone().prop_map(|from| Step::MergeIntoMain { from }),
        2 => Just(Step::Compact),
        2 => Just(Step::Expire),
        2 => (branch.clone(), choice.clone()).prop_map(|(branch, choice)| Step::Rollback { branch, choice }),
        2 => (branch.clone(), choice).prop_map(|(branch, choice)| Step::Restore { branch, choice }),
        2 => branch.prop_map(|branch| Step::Write { branch }),
        2 => Just(Step::CommitWritten),
        2 => Just(Step::Age),
        2 => Just(Step::RemoveOrphans),
        2 => Just(Step::CollectGarbage),
    ];
    prop::collection::vec(step, 4..24)
}

async fn live_through(steps: Vec<Step>) {
    let mut world = World::new().await;
    for step in &steps {
        world.take(step).await;
        world.check_heads().await;
        world.check_files().await;
    }
    world.check_history().await;
    world.take(&Step::Age).await;
    world.take(&Step::RemoveOrphans).await;
    world.check_only_needed_files_are_left_in_the_table().await;
    world.take(&Step::CollectGarbage).await;
    world.check_only_needed_files_are_left().await;
    world.check_history().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_any_history_needs_stays_and_the_rest_goes(steps in steps()) {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap()
            .block_on(live_through(steps));
    }
}

/// One history with each kind of step, so that none depends on luck alone.
#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_step_in_one_history() {
    use Step::*;
    live_through(vec![
        Append { branch: 0 },
        Append { branch: 0 },
        Branch { from: 0 },
        Append { branch: 0 },
        DeleteRows { branch: 0, choice: 1 },
        Write { branch: 1 },
        Age,
        Write { branch: 0 },
        RemoveOrphans,
        CommitWritten,
        Tag { from: 1 },
        MergeIntoMain { from: 0 },
        Compact,
        Expire,
        Age,
        CollectGarbage,
        Restore { branch: 1, choice: 3 },
        Append { branch: 1 },
        Rollback { branch: 1, choice: 0 },
        Drop { branch: 0 },
        Age,
        CollectGarbage,
        Compact,
    ])
    .await;
}
