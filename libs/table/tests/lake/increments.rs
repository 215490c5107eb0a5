//! Rows between snapshots.

use firn_table::{Increment, Operation, Table, increment};

use crate::harness::{DAY, Lake, operation, rows_of, samples, write};

async fn values(table: &Table, from: Option<i64>, to: Option<i64>) -> Result<Vec<i64>, String> {
    match increment(table, from, to).await.unwrap() {
        Increment::Empty => Ok(vec![]),
        Increment::Appended(scan) => Ok(rows_of(*scan).await.into_iter().map(|row| row.1.unwrap()).collect()),
        Increment::Full(reason) => Err(reason),
    }
}

#[tokio::test]
async fn increments_hold_what_was_appended_since_and_skip_compaction() {
    let lake = Lake::start().await;
    let table = lake.samples("increments", &[]).await;
    assert_eq!(values(&table, None, None).await, Ok(vec![]));
    let mut snapshots = Vec::new();
    for n in 0..3 {
        snapshots.push(lake.append(&table, &samples(&[("h", DAY, n)])).await);
    }
    let base = lake.load(&table).await;
    let remove = base.data_files(None).await.unwrap().into_iter().map(|file| file.location).collect();
    let add = write(&base, &samples(&[("h", DAY, 0), ("h", DAY, 1), ("h", DAY, 2)])).await;
    let rewrite = Operation::Rewrite { remove, add, base_snapshot_id: snapshots[2] };
    let outcome = lake.commit(vec![operation(&table, rewrite)]).await.unwrap();
    let compacted = outcome.snapshots[table.ident()];
    lake.append(&table, &samples(&[("h", DAY, 3)])).await;

    let table = lake.load(&table).await;
    assert_eq!(values(&table, None, None).await, Ok(vec![0, 1, 2, 3]));
    assert_eq!(values(&table, Some(snapshots[0]), None).await, Ok(vec![1, 2, 3]));
    assert_eq!(values(&table, Some(snapshots[0]), Some(snapshots[1])).await, Ok(vec![1]));
    assert_eq!(values(&table, Some(snapshots[2]), Some(compacted)).await, Ok(vec![]));
    assert_eq!(values(&table, Some(compacted), None).await, Ok(vec![3]));
}

#[tokio::test]
async fn overwrites_and_expired_starts_need_a_full_read_and_say_why() {
    let lake = Lake::start().await;
    let table = lake.samples("rebuilt", &[]).await;
    let first = lake.append(&table, &samples(&[("h", DAY, 0)])).await;
    let second = lake.append(&table, &samples(&[("h", DAY, 1)])).await;
    let add = write(&table, &samples(&[("h", DAY, 7)])).await;
    let overwrite = Operation::Overwrite { remove: None, add, base_snapshot_id: Some(Some(second)) };
    lake.commit(vec![operation(&table, overwrite)]).await.unwrap();

    let table = lake.load(&table).await;
    let reason = values(&table, Some(first), None).await.unwrap_err();
    assert!(reason.contains("overwrite"), "{reason}");
    // Backwards is no increment either.
    let reason = values(&table, Some(second), Some(first)).await.unwrap_err();
    assert!(reason.contains("no ancestor"), "{reason}");

    let expire = Operation::ExpireSnapshots { older_than_ms: i64::MAX, keep_last: 1 };
    lake.commit(vec![operation(&table, expire)]).await.unwrap();
    let table = lake.load(&table).await;
    let reason = values(&table, Some(first), None).await.unwrap_err();
    assert!(reason.contains("expired"), "{reason}");
    assert_eq!(values(&table, None, None).await, Ok(vec![7]));
}
