//! Rows between snapshots, and where rows are.

use firn_table::{Increment, Operation, Table, increment};

use crate::harness::{DAY, Lake, operation, rows_of, samples, write};

async fn values(table: &Table, from: Option<i64>, to: Option<i64>) -> Result<Vec<i64>, String> {
    match increment(table, from, to).await.unwrap() {
        Increment::Empty => Ok(vec![]),
        Increment::Appended(scan) => Ok(rows_of(*scan).await.into_iter().map(|row| row.1.unwrap()).collect()),
        Increment::Changed { .. } => Err("rows were removed".to_owned()),
        Increment::Full(reason) => Err(reason),
    }
}

/// Values added and removed, the same ones on both sides left out.
async fn net(table: &Table, from: i64) -> (Vec<i64>, Vec<i64>) {
    let of = async |scan| rows_of(scan).await.into_iter().map(|row| row.1.unwrap()).collect::<Vec<_>>();
    let (mut added, mut removed) = match increment(table, Some(from), None).await.unwrap() {
        Increment::Changed { added, removed } => (of(*added).await, of(*removed).await),
        _ => panic!("nothing was removed"),
    };
    removed.retain(|value| match added.iter().position(|other| other == value) {
        Some(at) => {
            added.remove(at);
            false
        }
        None => true,
    });
    (added, removed)
}

/// Appends, deletes of old and of new rows, a compaction between, and a whole overwrite.
#[tokio::test]
async fn changes_are_told_row_by_row_across_compaction() {
    let lake = Lake::start().await;
    let table = lake.samples("changed", &[]).await;
    let first = lake.append(&table, &samples(&[("h", DAY, 0), ("h", DAY, 1), ("h", DAY, 2)])).await;
    let file = async |table: &Table, snapshot: i64| {
        let files = lake.load(table).await.data_files(None).await.unwrap();
        files.into_iter().find(|file| file.added_snapshot_id == snapshot).unwrap().location
    };
    let one = file(&table, first).await;
    let second = lake.append(&table, &samples(&[("h", DAY, 3), ("h", DAY, 4)])).await;
    let two = file(&table, second).await;
    let mut delete = firn_table::RowPositions::default();
    delete.insert(&one, 1);
    delete.insert(&two, 0);
    let add = write(&table, &samples(&[("h", DAY, 5)])).await;
    let delta = lake.commit(vec![operation(&table, Operation::RowDelta { delete, add })]).await.unwrap();
    let now = lake.load(&table).await;
    assert_eq!(now.current_snapshot().unwrap().operation, "overwrite");
    assert_eq!(net(&now, first).await, (vec![4, 5], vec![1]));

    let remove = now.data_files(None).await.unwrap().into_iter().map(|file| file.location).collect();
    let add = write(&now, &samples(&[("h", DAY, 0), ("h", DAY, 2), ("h", DAY, 4), ("h", DAY, 5)])).await;
    let rewrite = Operation::Rewrite { remove, add, base_snapshot_id: delta.snapshots[table.ident()] };
    let packed = lake.commit(vec![operation(&table, rewrite)]).await.unwrap().snapshots[table.ident()];
    let mut delete = firn_table::RowPositions::default();
    delete.insert(&file(&table, packed).await, 3);
    let gone = Operation::RowDelta { delete: delete.clone(), add: Vec::new() };
    lake.commit(vec![operation(&table, gone)]).await.unwrap();
    let now = lake.load(&table).await;
    assert_eq!(now.current_snapshot().unwrap().operation, "delete");
    assert_eq!(net(&now, first).await, (vec![4], vec![1]), "5 came and went in another file");
    assert_eq!(net(&now, packed).await, (vec![], vec![5]));

    let rest = firn_table::TableScan::without(&now, &delete).await.unwrap();
    assert_eq!(rows_of(rest).await.len(), 3, "what is deleted already stays so");
    let overwrite = Operation::Overwrite { remove: None, add: Vec::new(), base_snapshot_id: None };
    lake.commit(vec![operation(&table, overwrite)]).await.unwrap();
    assert_eq!(net(&lake.load(&table).await, second).await, (vec![], vec![0, 1, 2, 3, 4]));
}

/// Values with where they are, and the rows read again from there.
#[tokio::test]
async fn rows_are_found_by_position_and_read_there() {
    let lake = Lake::start().await;
    let table = lake.samples("located", &[]).await;
    lake.append(&table, &samples(&[("a", DAY, 0), ("b", DAY, 1), ("c", DAY, 2)])).await;
    lake.append(&table, &samples(&[("d", DAY, 3), ("e", DAY, 4)])).await;
    let location = lake.load(&table).await.data_files(None).await.unwrap();
    let location = &location.iter().find(|file| file.record_count == 3).unwrap().location;
    let mut delete = firn_table::RowPositions::default();
    delete.insert(location, 0);
    lake.commit(vec![operation(&table, Operation::RowDelta { delete, add: Vec::new() })]).await.unwrap();

    let (table, session) = (lake.load(&table).await, datafusion::prelude::SessionContext::new());
    let scan = firn_table::PositionScan::new(&table, &session, &["value"], &[]).await.unwrap().unwrap();
    session.register_table("t", scan.provider().unwrap()).unwrap();
    let sql = "SELECT firn_file, firn_position FROM t WHERE value IN (2, 3)";
    let mut found = firn_table::RowPositions::default();
    for batch in session.sql(sql).await.unwrap().collect().await.unwrap() {
        let column = |index: usize| {
            let column = batch.column(index).as_any();
            column.downcast_ref::<datafusion::arrow::array::Int64Array>().unwrap().clone()
        };
        for (file, position) in column(0).values().iter().zip(column(1).values()) {
            found.insert(scan.location(*file).unwrap(), u64::try_from(*position).unwrap());
        }
    }
    assert_eq!(found.len(), 2);
    let values = async |scan| rows_of(scan).await.into_iter().map(|row| row.1.unwrap()).collect::<Vec<_>>();
    assert_eq!(values(firn_table::TableScan::at(&table, &found).await.unwrap()).await, [2, 3]);
    assert_eq!(values(firn_table::TableScan::without(&table, &found).await.unwrap()).await, [1, 4]);
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
async fn expired_starts_need_a_full_read_and_say_why() {
    let lake = Lake::start().await;
    let table = lake.samples("rebuilt", &[]).await;
    let first = lake.append(&table, &samples(&[("h", DAY, 0)])).await;
    let second = lake.append(&table, &samples(&[("h", DAY, 1)])).await;
    let add = write(&table, &samples(&[("h", DAY, 7)])).await;
    let overwrite = Operation::Overwrite { remove: None, add, base_snapshot_id: Some(Some(second)) };
    lake.commit(vec![operation(&table, overwrite)]).await.unwrap();

    let table = lake.load(&table).await;
    assert_eq!(net(&table, first).await, (vec![7], vec![0]));
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
