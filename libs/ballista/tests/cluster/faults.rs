//! Clusters that fail: the table stays as it was, and the error says why.

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use firn_table::TableErrorKind;
use firn_tests::free_port;

use crate::{
    executors::{Executor, scheduler},
    lake::{Lake, ROWS, cluster},
};

const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn without_a_scheduler_nothing_is_rewritten() {
    let lake = Lake::with_files(2, None).await;
    let before = lake.stored_files().await;
    let url = format!("http://127.0.0.1:{}", free_port().unwrap());
    let error = lake.sort(Some(cluster(&url, PATIENCE))).await.unwrap_err();
    assert_eq!(error.kind, TableErrorKind::Storage);
    for part in ["silver.sorted", url.as_str(), "no scheduler answers", "start it", "[maintenance.ballista]"]
    {
        assert!(error.context.contains(part), "{part}: {error}");
    }
    assert_eq!(lake.stored_files().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_executors_is_not_waited_for_without_end() {
    let lake = Lake::with_files(2, None).await;
    let before = lake.stored_files().await;
    let url = scheduler(false).await;
    let error = lake.sort(Some(cluster(&url, Duration::from_secs(1)))).await.unwrap_err();
    assert!(
        error.context.contains("not done within 1 s") && error.context.contains("more executors"),
        "{error}"
    );
    assert_eq!(lake.stored_files().await, before);
    // What was given up is no longer to be done there.
    let executor = Executor::start(&url, Arc::new(|_| {}));
    lake.sort(Some(cluster(&url, PATIENCE))).await.unwrap();
    assert_eq!(executor.tasks(), 2, "those of the second sort alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_executor_that_is_lost_midway_had_sorted_another_one_sorts_again() {
    let lake = Lake::with_files(4, None).await;
    let url = scheduler(false).await;
    let (begun, begins) = mpsc::channel();
    // It ends one task, and hangs in the second.
    let mut lost = Executor::start(
        &url,
        Arc::new(move |task| {
            if task == 2 {
                begun.send(()).unwrap();
                std::thread::park_timeout(PATIENCE);
            }
        }),
    );
    let sorting = {
        let cluster = cluster(&url, PATIENCE);
        async { lake.sort(Some(cluster)).await }
    };
    let losing = async {
        tokio::task::spawn_blocking(move || begins.recv_timeout(PATIENCE)).await.unwrap().unwrap();
        lost.kill();
        Executor::start(&url, Arc::new(|_| {}))
    };
    let (sorted, other) = tokio::join!(sorting, losing);
    let sorted = sorted.unwrap();
    assert_eq!((other.tasks(), lost.tasks()), (4, 2), "all is done by the other one");
    assert_eq!(sorted.read_rows, 4 * ROWS.unsigned_abs());
    let here = lake.sort(None).await.unwrap();
    assert_eq!(lake.read(&here).await, lake.read(&sorted).await);
}
