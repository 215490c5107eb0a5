//! Settings of the compactor, already resolved.

use std::{num::NonZeroU64, path::PathBuf, sync::Arc, time::Duration};

use firn_table::SortCluster;

/// With less a data file would fall apart into row groups of few rows.
const MIN_WRITE_BYTES: usize = 4 << 20;

/// Settings of the compactor.
#[derive(Clone, Debug)]
pub struct CompactorConfig {
    /// Who holds the leases. Unique per process; a server that alone owns its data directory gives the same name at each
    /// start, so that it need not wait for the lease of a run that was killed.
    pub holder: String,
    /// How often a tenant's `main` is looked at, and so the least time between two promotions of it.
    pub interval: Duration,
    /// How long a lease holds without renewal.
    pub lease_ttl: Duration,
    /// Memory for all queries and writers together; what does not fit spills to disk, or is written out earlier.
    pub memory_bytes: usize,
    /// Folder for spilled data, the system's temporary one if absent.
    pub spill_dir: Option<PathBuf>,
    /// Most bytes of spilled data.
    pub spill_bytes: u64,
    /// Threads of the runtime that runs the queries, apart from the one that serves HTTP.
    pub threads: usize,
    /// Tenants worked on at the same time.
    pub parallel_tenants: usize,
    /// Models of one run at work at the same time, of those that don't read each other.
    pub parallel_models: usize,
    /// Outputs of fewer rows are written anew rather than changed in place: a small file is read faster than one with deletes.
    pub rewrite_below_rows: u64,
    /// Branches of failed runs that are kept for inspection, per tenant.
    pub keep_failed: usize,
    /// Longest pause between two tries of a failing promotion.
    pub max_backoff: Duration,
    /// Maintenance.
    pub maintenance: MaintenanceConfig,
    /// Erasures.
    pub erasure: ErasureConfig,
}

/// Waits of erasures.
#[derive(Clone, Debug)]
pub struct ErasureConfig {
    /// How long after a subject was listed records of it may still come into the tables.
    pub settle: Duration,
    /// How long another replica of the catalog may go by what it read before.
    pub replica_lag: Duration,
    /// Age of a file that nothing leads to after which no commit under way can lead to it.
    pub orphan_age: Duration,
    /// Pause before an erasure that waits or failed is looked at again.
    pub retry: Duration,
    /// How often it is looked whether files that erasures removed are there again, as after a restore from a backup.
    pub recheck: Duration,
}

impl CompactorConfig {
    /// Memory for queries: three quarters.
    pub(crate) fn query_bytes(&self) -> usize {
        self.memory_bytes / 4 * 3
    }

    /// Memory of one writer of data files: the rest, for as many as may be at work.
    pub(crate) fn write_bytes(&self) -> usize {
        let of_tenant = self.parallel_models.max(self.maintenance.parallel_rewrites);
        let writers = self.parallel_tenants.max(1) * of_tenant.max(1);
        (self.memory_bytes / 4 / writers).max(MIN_WRITE_BYTES)
    }
}

impl Default for ErasureConfig {
    fn default() -> Self {
        Self {
            // Lists are a second old at the most, and a commit that had one has ended or failed by then.
            settle: Duration::from_secs(30),
            replica_lag: Duration::from_millis(1_500),
            orphan_age: Duration::from_secs(3_600),
            retry: Duration::from_secs(60),
            recheck: Duration::from_secs(24 * 3_600),
        }
    }
}

/// Defaults of maintenance; a table's properties `firn.maintenance.*` win.
#[derive(Clone, Debug)]
pub struct MaintenanceConfig {
    /// How often a tenant's tables are looked at.
    pub interval: Duration,
    /// Wanted size of a data file (`firn.maintenance.target-file-bytes`). Files under a quarter of it are small.
    pub target_file_bytes: u64,
    /// Small files of one partition that are worth a rewrite (`firn.maintenance.min-small-files`).
    pub min_small_files: usize,
    /// Age after which a snapshot may go (`firn.maintenance.snapshot-age-ms`). Catalog commits still reach it.
    pub snapshot_age: Duration,
    /// Snapshots that stay whatever their age (`firn.maintenance.min-snapshots`).
    pub min_snapshots: usize,
    /// Longest time that a model which has not read a snapshot keeps it from expiring.
    pub max_model_wait: Duration,
    /// Rewrites at work at the same time, of all tenants together.
    pub parallel_rewrites: usize,
    /// Bytes a second that rewrites read and write, all of them together; as fast as it goes if absent.
    pub max_bytes_per_s: Option<NonZeroU64>,
    /// How long rewrites of one tenant begin before other duties, and promotion, have their turn again.
    pub time_slice: Duration,
    /// Where rewrites are sorted that are too large for one machine.
    pub cluster: Option<Arc<dyn SortCluster>>,
    /// Rewrites of a tenant wait while its inventories take longer than this to come to bronze.
    pub pause_behind: Duration,
    /// Longest time that they wait before they get a turn.
    pub longest_pause: Duration,
    /// Whether files and objects that no reference needs are removed by schedule.
    pub remove_orphans: bool,
    /// How long after one removal the next one is due.
    pub orphan_interval: Duration,
    /// What is younger is not looked at: it may be of a commit under way.
    pub orphan_age: Duration,
}

impl Default for CompactorConfig {
    fn default() -> Self {
        Self {
            holder: format!("compactor-{}", uuid::Uuid::new_v4().simple()),
            interval: Duration::from_secs(10),
            lease_ttl: Duration::from_secs(30),
            memory_bytes: 256 << 20,
            spill_dir: None,
            spill_bytes: 20 << 30,
            threads: 2,
            parallel_tenants: 2,
            parallel_models: 2,
            rewrite_below_rows: 2_000,
            keep_failed: 3,
            max_backoff: Duration::from_secs(300),
            maintenance: MaintenanceConfig::default(),
            erasure: ErasureConfig::default(),
        }
    }
}

impl Default for MaintenanceConfig {
    fn default() -> Self {
        const HOUR: Duration = Duration::from_secs(3600);
        Self {
            interval: Duration::from_secs(60),
            target_file_bytes: 128 << 20,
            min_small_files: 16,
            // A streaming table makes 700 snapshots an hour, each a line in a document that every commit writes again;
            // older states are reached through the catalog's commits, which keep their own metadata.
            snapshot_age: HOUR,
            min_snapshots: 50,
            max_model_wait: 7 * 24 * HOUR,
            parallel_rewrites: 1,
            max_bytes_per_s: None,
            time_slice: Duration::from_secs(60),
            cluster: None,
            pause_behind: Duration::from_secs(60),
            longest_pause: HOUR,
            remove_orphans: true,
            orphan_interval: 24 * HOUR,
            orphan_age: 7 * 24 * HOUR,
        }
    }
}
