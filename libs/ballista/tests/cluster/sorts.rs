//! What comes back is what one machine alone would have made of it.

use std::{
    sync::{Arc, Barrier},
    time::Duration,
};

use firn_table::{Operation, StorageConfig};
use firn_tests::{SeaweedFs, until};

use crate::{
    executors::{BUCKET, Executor, OnTask, scheduler},
    lake::{Lake, ROWS, cluster},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// No executor ends its first task before the other one has begun its own: so both have work.
fn together() -> OnTask {
    let both = Arc::new(Barrier::new(2));
    Arc::new(move |task| {
        if task == 1 {
            both.wait();
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn two_executors_sort_as_one_machine_does() {
    let lake = Lake::with_files(12, None).await;
    let url = scheduler(false).await;
    let both = together();
    let executors = [Executor::start(&url, Arc::clone(&both)), Executor::start(&url, both)];

    let here = lake.sort(None).await.unwrap();
    assert_eq!(executors.each_ref().map(Executor::tasks), [0, 0]);
    let there = lake.sort(Some(cluster(&url, PATIENCE))).await.unwrap();
    let [one, two] = executors.each_ref().map(Executor::tasks);
    assert!(one > 0 && two > 0 && one + two == 8, "eight tasks, of which {one} and {two}");

    assert!(there.files.len() > 1, "{there:?}");
    assert_eq!((there.read_rows, there.deleted_rows), (12 * ROWS.unsigned_abs(), 0));
    let (here, rows) = (lake.read(&here).await, lake.read(&there).await);
    assert_eq!(here.schema(), rows.schema(), "field ids included");
    assert_eq!(here, rows);

    let table = lake.table().await;
    let remove = table.data_files(None).await.unwrap().into_iter().map(|file| file.location).collect();
    let base_snapshot_id = table.current_snapshot().unwrap().id;
    let written = there.files.len();
    lake.commit(Operation::Rewrite { remove, add: there.files, base_snapshot_id }).await;
    assert_eq!(lake.table().await.data_files(None).await.unwrap().len(), written);

    let cleaned = until("what executors sorted is removed", PATIENCE, async || {
        let kept = executors.iter().map(Executor::kept_files).sum::<usize>();
        if kept == 0 { Ok(()) } else { Err(kept) }
    });
    cleaned.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn executors_reach_a_bucket_with_the_keys_that_are_shared() {
    let server = SeaweedFs::start().await.unwrap();
    server.create_bucket(BUCKET).await.unwrap();
    let storage = StorageConfig {
        endpoint: Some(server.endpoint()),
        region: Some("us-east-1".to_owned()),
        path_style: true,
        credentials: Some((SeaweedFs::ACCESS_KEY.to_owned(), SeaweedFs::SECRET_KEY.to_owned())),
    };
    let lake = Lake::with_files(3, Some((BUCKET, storage))).await;
    // What they sorted comes by way of the scheduler.
    let url = scheduler(true).await;
    let executor = Executor::start(&url, Arc::new(|_| {}));
    let there = lake.sort(Some(cluster(&url, PATIENCE))).await.unwrap();
    assert_eq!((executor.tasks(), there.read_rows), (3, 3 * ROWS.unsigned_abs()));
    let here = lake.sort(None).await.unwrap();
    assert_eq!(lake.read(&here).await, lake.read(&there).await);
}
