//! Rewrites that go wrong, or are given up: neither the table nor its folder has anything of them.

use std::{
    fmt, fs,
    path::Path,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use datafusion::{
    error::{DataFusionError, Result as DataFusionResult},
    execution::{
        disk_manager::{DiskManagerBuilder, DiskManagerMode},
        memory_pool::{MemoryPool, MemoryReservation, UnboundedMemoryPool},
        runtime_env::RuntimeEnvBuilder,
    },
    prelude::{SessionConfig, SessionContext},
};
use firn_table::{RewriteOptions, RewriteScan, RowOrder, Table, TableErrorKind, WriteOptions};
use tempfile::TempDir;

use crate::harness::{DAY, Lake, files_below, samples};

/// A value that no other bytes of a file look like.
const TOLD: i64 = 0x1122_3344_5566_7788;

/// Memory so short that the second rows to be sorted send the first ones to disk, where a value of them is lost before they are
/// merged.
#[derive(Debug)]
struct ForgetfulDisk {
    folder: TempDir,
    asked_by_sorter: AtomicUsize,
    memory: UnboundedMemoryPool,
}

impl ForgetfulDisk {
    fn session() -> SessionContext {
        let folder = tempfile::tempdir().unwrap();
        let disk = DiskManagerMode::Directories(vec![folder.path().to_owned()]);
        let pool = Self { folder, asked_by_sorter: AtomicUsize::default(), memory: Default::default() };
        let runtime = RuntimeEnvBuilder::new()
            .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(disk))
            .with_memory_pool(Arc::new(pool));
        SessionContext::new_with_config_rt(SessionConfig::new(), runtime.build_arc().unwrap())
    }
}

impl fmt::Display for ForgetfulDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl MemoryPool for ForgetfulDisk {
    fn name(&self) -> &str {
        "forgetful disk"
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.memory.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.memory.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> DataFusionResult<()> {
        let consumer = reservation.consumer().name();
        if consumer == "RewriteSorter" && self.asked_by_sorter.fetch_add(1, Ordering::Relaxed) == 1 {
            return Err(DataFusionError::ResourcesExhausted("the second rows".to_owned()));
        }
        if consumer.starts_with("ExternalSorterMerge") {
            lose_a_value(self.folder.path());
        }
        self.memory.try_grow(reservation, additional)
    }

    fn reserved(&self) -> usize {
        self.memory.reserved()
    }
}

fn lose_a_value(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            lose_a_value(&path);
            continue;
        }
        let mut bytes = fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(8).position(|bytes| bytes == TOLD.to_le_bytes()) {
            bytes[at] += 1;
            fs::write(&path, bytes).unwrap();
        }
    }
}

/// A scan of the table's files.
async fn scan_of(table: &Table) -> RewriteScan {
    let files = table.data_files(None).await.unwrap();
    let locations = files.into_iter().map(|file| file.location).collect::<Vec<_>>();
    RewriteScan::new(table, &locations).await.unwrap()
}

#[tokio::test]
async fn values_that_are_not_those_that_were_read_are_never_committed() {
    let lake = Lake::start().await;
    let table = lake.samples("forgotten", &[]).await;
    for rows in [[("c", DAY, TOLD), ("b", DAY, 7)], [("a", DAY, 1), ("d", DAY, 3)]] {
        lake.append(&table, &samples(&rows)).await;
    }
    let scan = scan_of(&lake.load(&table).await).await;
    let order = |text: &str| RewriteOptions { order: RowOrder::parse(text).unwrap(), ..Default::default() };
    let error = scan.write(&ForgetfulDisk::session(), &order("sort(host_id)")).await.unwrap_err();
    let wanted =
        "new files of table bronze.forgotten hold other values in column 'value'; nothing was rewritten";
    assert_eq!((error.kind, error.context.as_str()), (TableErrorKind::Invalid, wanted));
    assert_eq!(files_below(&table, "data").await, 2, "what was written is removed");

    let written = scan.write(&SessionContext::new(), &order("sort(host_id)")).await.unwrap();
    assert_eq!((written.files.len(), written.read_rows), (1, 4));
}

#[tokio::test]
async fn a_rewrite_that_is_given_up_leaves_no_file() {
    let lake = Lake::start().await;
    let table = lake.samples("given_up", &[]).await;
    lake.append(&table, &samples(&(0..20_000).map(|value| ("a", DAY, value)).collect::<Vec<_>>())).await;
    let scan = scan_of(&lake.load(&table).await).await;
    // Two hundred files, so that there is time to give it up.
    let session = SessionContext::new_with_config(SessionConfig::new().with_batch_size(100));
    let write = WriteOptions { target_file_bytes: 1, ..WriteOptions::default() };
    let options = RewriteOptions { write, ..RewriteOptions::default() };
    {
        let mut write = pin!(scan.write(&session, &options));
        while files_below(&table, "data").await < 4 {
            tokio::select! {
                biased;
                () = tokio::time::sleep(Duration::from_millis(1)) => {}
                _ = &mut write => panic!("it came to its end"),
            }
        }
    }
    let removed = async {
        while files_below(&table, "data").await > 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), removed).await.expect("what was written is removed");
}
