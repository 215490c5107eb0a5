//! What is rewritten first, and what waits.

use std::{num::NonZeroU64, path::PathBuf};

use datafusion::{execution::SendableRecordBatchStream, prelude::SessionContext};
use firn_table::{SortCluster, SortJob, TableError, TableErrorKind};

use super::*;
use crate::CompactorConfig;

/// A maintenance with other settings, and what it remembers.
fn with(lake: &Lake, change: impl FnOnce(&mut crate::MaintenanceConfig)) -> Maintenance {
    let maintenance = lake.compactor("one").maintenance;
    let mut config = CompactorConfig::clone(&maintenance.config);
    config.maintenance.min_small_files = 2;
    change(&mut config.maintenance);
    let Maintenance { graph, engine, file_io, board, .. } = maintenance;
    Maintenance::new(Arc::new(config), graph, engine, file_io, board)
}

async fn visit(lake: &Lake, maintenance: &Maintenance, place: &mut MaintenancePlace) -> (StageState, String) {
    maintenance.visit(&lake.client, place, &CancellationToken::new()).await;
    let status = &lake.board.all()[&(MAINTENANCE.to_owned(), "acme".to_owned())];
    (status.state, status.message.clone())
}

/// Files of bronze by the day of their rows.
async fn files_by_day(lake: &Lake) -> Vec<usize> {
    let files = lake.table(MAIN, BRONZE).await.unwrap().data_files(None).await.unwrap();
    let mut days: BTreeMap<String, usize> = BTreeMap::new();
    for file in files {
        *days.entry(serde_json::to_string(&file.partition).unwrap()).or_default() += 1;
    }
    days.into_values().collect()
}

/// Three files of one day, and four of another.
async fn two_days(lake: &Lake) {
    report_each(lake, 0..3).await;
    report_each(lake, 2_000..2_004).await;
    assert_eq!(files_by_day(lake).await, [3, 4]);
}

#[tokio::test]
async fn the_best_rewrites_come_first_and_what_is_left_goes_on_at_once() {
    let lake = Lake::start().await;
    two_days(&lake).await;
    let maintenance = with(&lake, |config| {
        config.time_slice = Duration::ZERO;
        config.interval = Duration::from_secs(3_600);
    });
    let mut place = MaintenancePlace::default();
    let told = visit(&lake, &maintenance, &mut place).await;
    assert_eq!(told, (StageState::Running, "1 more groups of files are to be rewritten".to_owned()));
    assert_eq!(files_by_day(&lake).await, [3, 1], "four files become one for little more than three do");
    // No hour passes between the two.
    let told = visit(&lake, &maintenance, &mut place).await;
    assert_eq!((told.1.as_str(), files_by_day(&lake).await), ("up to date", vec![1, 1]));
}

#[tokio::test]
async fn rewrites_wait_for_ingest_that_is_behind() {
    let lake = Lake::start().await;
    let maintenance = with(&lake, |config| config.pause_behind = Duration::from_secs(60));
    let minutes = (chrono::Utc::now().timestamp_micros() - crate::testing::START) / crate::testing::MINUTE;
    report_each(&lake, minutes - 12..minutes - 10).await;
    let mut place = MaintenancePlace::default();
    let (state, told) = visit(&lake, &maintenance, &mut place).await;
    assert!(told.starts_with("rewrites wait: bronze.inventory gets its rows 7"), "{told}");
    assert_eq!((state, files_by_day(&lake).await.iter().sum::<usize>()), (StageState::Running, 2));
    // Late rows are no pressure once they were late long ago; by hand nobody waits.
    let waits_less = with(&lake, |config| {
        config.pause_behind = Duration::from_secs(60);
        config.longest_pause = Duration::ZERO;
    });
    let told = visit(&lake, &waits_less, &mut place).await.1;
    assert_eq!(told, "up to date", "after the longest pause they have a turn");
}

#[tokio::test]
async fn ingest_that_keeps_up_makes_nobody_wait() {
    let lake = Lake::start().await;
    let maintenance = with(&lake, |config| config.pause_behind = Duration::from_secs(600));
    let minutes = (chrono::Utc::now().timestamp_micros() - crate::testing::START) / crate::testing::MINUTE;
    report_each(&lake, minutes - 1..minutes + 1).await;
    let told = visit(&lake, &maintenance, &mut MaintenancePlace::default()).await.1;
    assert_eq!(told, "up to date");
}

#[tokio::test]
async fn rewrites_keep_the_pace_that_they_are_given() {
    let lake = Lake::start().await;
    two_days(&lake).await;
    let files = lake.table(MAIN, BRONZE).await.unwrap().data_files(None).await.unwrap();
    let bytes: u64 = files.iter().map(|file| file.size_bytes).sum();
    // All files are read within a second and a half, whatever is written.
    let maintenance = with(&lake, |config| config.max_bytes_per_s = NonZeroU64::new(bytes * 2 / 3));
    let started = Instant::now();
    let told = visit(&lake, &maintenance, &mut MaintenancePlace::default()).await.1;
    assert_eq!((told.as_str(), files_by_day(&lake).await), ("up to date", vec![1, 1]));
    assert!(started.elapsed() > Duration::from_millis(1_500), "{:?}", started.elapsed());
}

#[tokio::test]
async fn groups_with_damaged_files_rest_and_the_others_are_rewritten() {
    let lake = Lake::start().await;
    two_days(&lake).await;
    let maintenance = with(&lake, |_| {});
    let files = lake.table(MAIN, BRONZE).await.unwrap().data_files(None).await.unwrap();
    let oldest = files.iter().min_by_key(|file| file.sequence_number).unwrap();
    let path = PathBuf::from(oldest.location.strip_prefix("file://").unwrap());
    let whole = std::fs::read(&path).unwrap();
    let rows = async || lake.rows(MAIN, BRONZE, "SELECT event_id FROM t ORDER BY log_offset").await;
    let before = rows().await;

    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let mut place = MaintenancePlace::default();
    let (state, told) = visit(&lake, &maintenance, &mut place).await;
    assert!(state == StageState::Failing && told.contains(&oldest.location), "{told}");
    assert_eq!(files_by_day(&lake).await, [3, 1], "the other day is no worse for it");
    let told = visit(&lake, &maintenance, &mut place).await;
    let resting = "1 groups of files could not be rewritten and are tried again later";
    assert_eq!(told, (StageState::Running, resting.to_owned()));

    std::fs::remove_file(&path).unwrap();
    let (state, told) = visit(&lake, &maintenance, &mut MaintenancePlace::default()).await;
    assert!(state == StageState::Failing && told.contains(&oldest.location), "{told}");

    std::fs::write(&path, whole).unwrap();
    let told = visit(&lake, &maintenance, &mut MaintenancePlace::default()).await.1;
    assert_eq!((told.as_str(), files_by_day(&lake).await), ("up to date", vec![1, 1]));
    assert_eq!(rows().await, before);
}

/// A cluster that is not there.
#[derive(Debug)]
struct Away;

#[async_trait::async_trait]
impl SortCluster for Away {
    fn takes(&self, _: u64) -> bool {
        true
    }

    async fn sort(&self, _: &SessionContext, job: SortJob) -> Result<SendableRecordBatchStream, TableError> {
        let context = format!("no cluster for {}", job.table);
        Err(TableError { kind: TableErrorKind::Storage, context, source: None })
    }
}

#[tokio::test]
async fn what_a_cluster_is_to_sort_stays_as_it_is_while_the_cluster_is_away() {
    let lake = Lake::start().await;
    two_days(&lake).await;
    lake.set(BRONZE, "firn.maintenance.order", "sort(host_id)").await;
    let maintenance = with(&lake, |config| config.cluster = Some(Arc::new(Away)));
    let mut place = MaintenancePlace::default();
    let (state, told) = visit(&lake, &maintenance, &mut place).await;
    assert_eq!((state, told.as_str()), (StageState::Failing, "no cluster for bronze.inventory"));
    assert_eq!((files_by_day(&lake).await, place.resting.count()), (vec![3, 4], 2));
}
