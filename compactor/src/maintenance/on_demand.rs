//! Maintenance of one table of `main` when somebody asks for it.

use std::{sync::Arc, time::Duration};

use firn_runtime::{StatusBoard, with_causes};
use firn_table::{DataFileEntry, FileIo, Operation, RowOrder, SnapshotInfo, Table};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{
    MAINTENANCE, Maintenance, TableHealth,
    health::health,
    millis, plan,
    plan::{Settings, bins},
    retention::{Retained, TableRetention},
    rewrites::{Rewrite, Rewritten, by_worth},
};
use crate::{CompactorConfig, CompactorError, compactor::now_ms, engine::Engine, lease::HeldLease, models};

/// How long to wait for the server's own maintenance to give the lease back.
const LEASE_PATIENCE: Duration = Duration::from_secs(60);

/// The same jobs as the service does, under the same lease.
pub struct TableMaintenance {
    inner: Maintenance,
    order: Option<RowOrder>,
}

/// Files that are rewritten together, in one commit.
#[derive(Clone, Debug)]
pub struct FileGroup {
    /// Live data files of one partition.
    pub files: Vec<DataFileEntry>,
}

/// What a compaction did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Compacted {
    /// Files that are no longer in the table.
    pub rewritten_files: usize,
    /// Those of them whose row groups were copied without being decoded.
    pub copied_files: usize,
    /// Files that came in their place.
    pub written_files: usize,
    /// Groups that other writers changed meanwhile; they are as they were.
    pub conflicting_groups: usize,
    /// Why groups could not be rewritten; those, too, are as they were.
    pub failures: Vec<String>,
    /// Groups that were not tried after too many had failed.
    pub untried_groups: usize,
}

impl Compacted {
    fn add(&mut self, files: usize, rewritten: Rewritten) {
        match rewritten {
            Rewritten::Done(packed) => {
                self.rewritten_files += files;
                self.copied_files += packed.copied;
                self.written_files += packed.written;
            }
            Rewritten::Conflict => self.conflicting_groups += 1,
            Rewritten::Failed(error) => self.failures.push(with_causes(&error)),
            Rewritten::NotBegun => self.untried_groups += 1,
        }
    }
}

impl TableMaintenance {
    /// Jobs with their own bounds of memory and threads.
    pub fn new(config: CompactorConfig, file_io: FileIo) -> Result<Self, CompactorError> {
        let engine = Engine::shared_by(&config, config.maintenance.parallel_rewrites.max(1))?;
        let graph = Arc::new(models()?);
        let inner = Maintenance::new(Arc::new(config), graph, engine, file_io, StatusBoard::default());
        Ok(Self { inner, order: None })
    }

    /// The same with another order of rewritten rows than the table says.
    #[must_use]
    pub fn in_order(self, order: RowOrder) -> Self {
        Self { order: Some(order), ..self }
    }

    /// How the table is doing.
    pub async fn health(&self, table: &Table) -> Result<TableHealth, CompactorError> {
        let settings = self.settings(table);
        let expirable = self.expirable(table, None, None).await?.len();
        Ok(health(&table.data_files(None).await?, &table.snapshots(), expirable, &settings))
    }

    /// What a compaction would rewrite: what is worth it, or every file.
    pub async fn plan(&self, table: &Table, all: bool) -> Result<Vec<FileGroup>, CompactorError> {
        let (files, settings) = (table.data_files(None).await?, self.settings(table));
        let groups = if all { plan::everything(&files, &settings) } else { bins(&files, &settings) };
        Ok(groups.into_iter().map(|files| FileGroup { files }).collect())
    }

    /// Rewrites groups that were planned from this `table`, one commit each, and goes on with the others if one fails; `done` hears of
    /// each file that was dealt with. An error means that the lease was not to be had, or was lost.
    pub async fn compact(
        &self,
        table: &Table,
        groups: &[FileGroup],
        done: impl Fn(usize),
    ) -> Result<Compacted, CompactorError> {
        let settings = Arc::new(self.settings(table));
        let rewrite = |group: &FileGroup| Rewrite {
            table: table.clone(),
            settings: Arc::clone(&settings),
            files: group.files.clone(),
        };
        let mut rewrites: Vec<Rewrite> = groups.iter().map(rewrite).collect();
        by_worth(&mut rewrites);
        self.with_lease(table, async {
            let mut compacted = Compacted::default();
            let each = |rewrite: &Rewrite, rewritten| {
                compacted.add(rewrite.files.len(), rewritten);
                done(rewrite.files.len());
            };
            self.inner.rewrite_all(rewrites, None, each).await;
            Ok(compacted)
        })
        .await
    }

    /// Snapshots that an expiry would remove: older than `age`, beyond the newest `keep`, and none that a model has still to
    /// start from. What isn't given is as the table's properties say.
    pub async fn expirable(
        &self,
        table: &Table,
        age: Option<Duration>,
        keep: Option<usize>,
    ) -> Result<Vec<SnapshotInfo>, CompactorError> {
        let (older_than_ms, keep_last) = self.bounds(table, age, keep).await?;
        Ok(table.expirable_snapshots(older_than_ms, keep_last))
    }

    /// Removes those snapshots from the table's log and answers how many. No file goes with them: commits of the catalog still
    /// reach them.
    pub async fn expire(
        &self,
        table: &Table,
        age: Option<Duration>,
        keep: Option<usize>,
    ) -> Result<usize, CompactorError> {
        self.with_lease(table, async {
            let (older_than_ms, keep_last) = self.bounds(table, age, keep).await?;
            let expired = table.expirable_snapshots(older_than_ms, keep_last).len();
            if expired > 0 {
                let operation = Operation::ExpireSnapshots { older_than_ms, keep_last };
                self.inner.commit(table, operation, MAINTENANCE).await?;
            }
            Ok(expired)
        })
        .await
    }

    /// What of whole files and rows is beyond the retention: that of `days`, or the tenant's for the table's layer. Nothing if
    /// there is neither.
    pub async fn outdated(&self, table: &Table, days: Option<u32>) -> Result<Retained, CompactorError> {
        match self.retention(table, days).await?.days {
            Some(days) => self.inner.outdated(table, days).await,
            None => Ok(Retained::default()),
        }
    }

    /// Takes it out of the table, and empties values whose class is kept for a shorter time. Earlier states can be read until they
    /// are collected.
    pub async fn retain(&self, table: &Table, days: Option<u32>) -> Result<Retained, CompactorError> {
        let retention = self.retention(table, days).await?;
        self.with_lease(table, self.inner.retain(table, &retention, true)).await
    }

    async fn retention(&self, table: &Table, days: Option<u32>) -> Result<TableRetention, CompactorError> {
        if days.is_some() {
            return Ok(TableRetention { days, ..TableRetention::default() });
        }
        Ok(TableRetention::of(&table.client().tenant().await?.retention, table))
    }

    async fn bounds(
        &self,
        table: &Table,
        age: Option<Duration>,
        keep: Option<usize>,
    ) -> Result<(i64, usize), CompactorError> {
        let mut settings = self.settings(table);
        if let Some(age) = age {
            settings.snapshot_age_ms = millis(age);
        }
        let unread_since = self.inner.unread_since(table.client(), table).await?;
        let keep_last = keep.unwrap_or(settings.min_snapshots).max(1);
        Ok((plan::expiry_time(&settings, unread_since, now_ms()), keep_last))
    }

    fn settings(&self, table: &Table) -> Settings {
        let mut settings = Settings::of_table(&self.inner.config.maintenance, table);
        settings.order = self.order.clone().unwrap_or(settings.order);
        settings
    }

    async fn with_lease<T>(
        &self,
        table: &Table,
        work: impl Future<Output = Result<T, CompactorError>>,
    ) -> Result<T, CompactorError> {
        let (config, client) = (&self.inner.config, table.client());
        let (holder, ttl) = (&config.holder, config.lease_ttl);
        let lease = HeldLease::acquire_within(LEASE_PATIENCE, client, MAINTENANCE, holder, ttl).await?;
        let done = lease.guard(&CancellationToken::new(), work).await;
        lease.release().await;
        done
    }
}
