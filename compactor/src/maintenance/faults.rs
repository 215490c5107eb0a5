//! Rewrites under faults, over an S3 server and a catalog that are each reached by way of a proxy. Whatever befalls them, the table
//! is as before or as after, with the same rows; nothing that a commit reaches is removed, and what is left behind is found as orphans.

#![allow(clippy::unwrap_used)]

mod house;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use firn_catalog_client::{ClientErrorKind, LeaseRequest};
use firn_table::DataFileEntry;
use firn_tests::{Fault, FaultProxy, Process, until};
use reqwest::Method;

use super::MAINTENANCE;
use crate::{Compacted, CompactorError};
use house::{BRONZE, CHILD, House, child, child_command};

const DEADLINE: Duration = Duration::from_secs(120);
/// Beyond the end of any test.
const LONG: Duration = Duration::from_secs(3_600);
/// A rewrite has fewer requests.
const MOST_STEPS: usize = 90;

fn is_data(method: &Method, path: &str) -> bool {
    method == Method::PUT && path.ends_with(".parquet")
}

fn is_list(method: &Method, path: &str) -> bool {
    method == Method::PUT && path.ends_with(".avro") && path.contains("/snap-")
}

fn is_commit(path: &str) -> bool {
    path.ends_with("/transactions/commit")
}

/// Waits until a fault befell a request; `false` if the process ended before.
async fn befalls(proxies: [&FaultProxy; 2], compactor: &mut Process) -> bool {
    loop {
        if proxies.iter().any(|proxy| proxy.met() > 0) {
            return true;
        }
        if !compactor.is_running().unwrap() {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn compactors_killed_at_each_step_of_a_rewrite_change_no_row_and_no_state() {
    let name = "compactors_killed_at_each_step_of_a_rewrite_change_no_row_and_no_state";
    // None that is written here is so large.
    killed_at_each_step(name, "1000000000", 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn compactors_killed_at_each_step_of_a_copy_change_no_row_and_no_state() {
    killed_at_each_step("compactors_killed_at_each_step_of_a_copy_change_no_row_and_no_state", "1", 3).await;
}

/// All that a compactor does to the outside is requests to the catalog and to the object store. It is killed at each of them in turn:
/// before the server hears of it, and when the server has acted. Row groups of at least so many bytes are copied, which are those of
/// so many of three files.
async fn killed_at_each_step(test: &str, min_row_group_bytes: &str, copied_files: usize) {
    if std::env::var_os(CHILD).is_some() {
        return child().await;
    }
    let test = format!("maintenance::faults::{test}");
    let house = House::new().await;
    house.report(0..1).await;
    house.lake.set(BRONZE, "firn.maintenance.min-row-group-bytes", min_row_group_bytes).await;
    let (mut rows, mut kills, mut commits) = (1, 0, 0);
    for fault in [Fault::Delay(LONG), Fault::Silence] {
        for step in 1..=MOST_STEPS {
            // As many files each time, of one row group each, lest there be ever more requests.
            rows = house.report_up_to(3, rows).await;
            let (before, files) = (house.rows().await, house.files().await);
            house.nth_request(step, fault);
            let mut compactor = child_command(&house, &test);
            let was_met = befalls([&house.store, &house.catalog], &mut compactor).await;
            compactor.kill().unwrap();
            house.heal();
            let after = house.files().await;
            let is_as_before = files.iter().all(|file| after.contains(file)) && after.len() == files.len();
            assert!(is_as_before || after.len() == 1, "{fault:?} at step {step}: {after:?}");
            assert_eq!(house.rows().await, before, "{fault:?} at step {step}");
            if !is_as_before {
                commits += 1;
                house.clear().await;
            }
            if !was_met {
                assert!(!is_as_before, "without a fault it is rewritten:\n{}", compactor.output());
                break;
            }
            kills += 1;
            assert!(step < MOST_STEPS, "a compactor doesn't come to its end");
        }
    }
    assert!(kills > 40 && commits > 2, "{kills} kills only, {commits} commits");
    house.check_history().await;
    assert!(house.orphans().await > 10, "so many kills leave files behind, which are found");
    house.report_up_to(3, rows).await;
    let before = house.rows().await;
    let compacted = house.compact(LONG).await.unwrap();
    assert_eq!((compacted.failures, compacted.copied_files), (Vec::new(), copied_files));
    assert_eq!((house.rows().await, house.files().await.len()), (before, 1));
}

/// Files of the table and their rows are the same, and nobody wrote anything else.
async fn is_untouched(house: &House, rows: &str, files: &[DataFileEntry]) {
    assert_eq!(house.rows().await, rows);
    assert_eq!(house.files().await, files);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewrite_whose_lease_is_lost_is_given_up_and_leaves_nothing() {
    let house = House::new().await;
    house.report(0..3).await;
    let (rows, files) = (house.rows().await, house.files().await);
    house.store.decide(|method, path| if is_data(method, path) { Fault::Delay(LONG) } else { Fault::None });
    let mut leases = 0;
    house.catalog.decide(move |_, path| {
        leases += usize::from(path.contains("/leases/"));
        if path.contains("/leases/") && leases > 1 { Fault::Reset } else { Fault::None }
    });
    let ttl = Duration::from_millis(900);
    let (compacted, ()) = tokio::join!(house.compact(ttl), async {
        until("the rewrite writes", DEADLINE, async || {
            if house.store.met() > 0 { Ok(()) } else { Err(house.store.met()) }
        })
        .await
        .unwrap();
        let other = LeaseRequest { holder: "other".to_owned(), ttl_ms: 3_600_000 };
        let taken = async || house.lake.client.lease(MAINTENANCE, &other).await.map_err(|error| error.kind);
        until("the lease runs out", DEADLINE, taken).await.unwrap();
    });
    let error = compacted.unwrap_err();
    assert!(matches!(error, CompactorError::LeaseLost(_)), "{error}");
    house.heal();
    is_untouched(&house, &rows, &files).await;
    house.await_orphans(0).await;
    let again = LeaseRequest { holder: "third".to_owned(), ttl_ms: 1_000 };
    let refused = house.lake.client.lease(MAINTENANCE, &again).await.unwrap_err();
    assert_eq!(refused.kind, ClientErrorKind::Conflict, "whoever lost it doesn't give back another's");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answers_are_lost_for_good_may_have_landed_and_nothing_of_it_is_removed() {
    let house = House::new().await;
    house.report(0..3).await;
    let rows = house.rows().await;
    let committed = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&committed);
    house.catalog.decide(move |_, path| {
        let acted = seen.fetch_add(usize::from(is_commit(path)), Ordering::SeqCst);
        // From the first on nobody hears anything, not even what the table is now.
        if is_commit(path) || acted > 0 { Fault::Lose } else { Fault::None }
    });
    let failures = house.compact(LONG).await.unwrap().failures;
    assert!(failures.len() == 1 && failures[0].contains("landed is not known"), "{failures:?}");
    assert!(committed.load(Ordering::SeqCst) > 3, "it was tried again");
    house.heal();
    assert_eq!((house.rows().await, house.files().await.len()), (rows, 1));
    assert_eq!(house.orphans().await, 0, "what was written is in use");
    house.check_history().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_never_reaches_the_catalog_leaves_its_files_to_orphan_removal() {
    let house = House::new().await;
    house.report(0..3).await;
    let (rows, files) = (house.rows().await, house.files().await);
    house.catalog.decide(|_, path| if is_commit(path) { Fault::Reset } else { Fault::None });
    let failures = house.compact(LONG).await.unwrap().failures;
    assert!(failures.len() == 1 && failures[0].contains("landed is not known"), "{failures:?}");
    house.heal();
    is_untouched(&house, &rows, &files).await;
    // Rows, manifests, and their list.
    let orphans = house.orphans().await;
    assert!(orphans >= 3, "{orphans}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_first_answer_is_lost_is_made_once() {
    let house = House::new().await;
    house.report(0..3).await;
    let (rows, snapshots) = (house.rows().await, house.snapshots().await);
    let mut commits = 0;
    house.catalog.decide(move |_, path| {
        commits += usize::from(is_commit(path));
        if is_commit(path) && commits == 1 { Fault::Lose } else { Fault::None }
    });
    let compacted = house.compact(LONG).await.unwrap();
    assert_eq!((compacted.rewritten_files, compacted.written_files), (3, 1), "{compacted:?}");
    assert_eq!((house.rows().await, house.snapshots().await), (rows, snapshots + 1));
    assert_eq!(house.orphans().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_throttles_makes_rewrites_slow_and_one_that_refuses_makes_them_fail() {
    let house = House::new().await;
    house.report(0..4).await;
    let (rows, files) = (house.rows().await, house.files().await);
    // Refused for good, whatever is tried: files that were written are removed again.
    for denied in [is_data, is_list] as [fn(&Method, &str) -> bool; 2] {
        house.store.decide(
            move |method, path| {
                if denied(method, path) { Fault::Refuse(403) } else { Fault::None }
            },
        );
        let Compacted { failures, rewritten_files, .. } = house.compact(LONG).await.unwrap();
        assert!(failures.len() == 1 && failures[0].contains("s3://lake/firn"), "{failures:?}");
        assert_eq!((rewritten_files, house.store.met() > 0), (0, true));
        house.heal();
        is_untouched(&house, &rows, &files).await;
    }

    let mut requests = 0;
    house.store.decide(move |_, _| {
        requests += 1;
        if requests % 3 == 0 { Fault::None } else { Fault::Refuse(503) }
    });
    let compacted = house.compact(LONG).await.unwrap();
    assert_eq!((compacted.rewritten_files, compacted.failures.len()), (4, 0), "{compacted:?}");
    assert!(house.store.met() > 10, "{} requests were refused only", house.store.met());
    house.heal();
    assert_eq!((house.rows().await, house.files().await.len()), (rows, 1));
    house.check_history().await;
}
