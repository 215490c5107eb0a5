//! A backup of the bucket is put back over it.

use std::{fs, path::Path};

use super::*;

/// Copies a folder over another one, as a restore from a backup does: what came meanwhile stays.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// One sweep of the service.
async fn sweep(lake: &Lake, compactor: &Compactor, place: &mut ErasurePlace) {
    let done = lake.catalog.erasure_jobs().await.unwrap();
    let done: Vec<_> = done.into_iter().filter(|job| job.erasure.state == ErasureState::Done).collect();
    compactor.erasures.recheck(&lake.client, &done, place).await;
    visit(lake, compactor).await;
}

#[tokio::test]
async fn what_a_backup_brings_back_goes_again_without_being_asked_for() {
    let lake = Lake::start().await;
    let compactor = lake.compactor("one");
    history(&lake, &compactor).await;
    let (warehouse, backup) = (lake.folder().join("warehouse"), lake.folder().join("backup"));
    copy(&warehouse, &backup);
    let first = erase(&lake, &compactor, &request("owner_email", EMAIL)).await;
    assert_eq!(first.state, ErasureState::Done, "{}", first.message);
    let mut place = ErasurePlace::default();
    sweep(&lake, &compactor, &mut place).await;
    assert_eq!(
        lake.client.erasure(&first.id).await.unwrap(),
        first,
        "nothing came back, and nothing is done"
    );

    copy(&backup, &warehouse);
    assert_ne!(mentions(&lake, EMAIL).await, [""; 0]);
    sweep(&lake, &compactor, &mut place).await;
    let again = lake.client.erasure(&first.id).await.unwrap();
    assert_eq!(again.state, ErasureState::Done, "{}", again.message);
    assert_eq!(mentions(&lake, EMAIL).await, [""; 0]);
    assert!(again.receipt != first.receipt && again.finished_at > first.finished_at);
    let left = owners(&lake, "main", "bronze.inventory").await;
    assert!(left.contains("| pc-of-al | 2 |"), "{left}");
    let job = lake.catalog.erasure_jobs().await.unwrap().pop().unwrap();
    assert!(job.value.is_none() && job.events.is_empty());
}
