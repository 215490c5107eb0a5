//! From the log into each tenant's tables, exactly once: inventories into bronze, transitions of findings into
//! `gold.transitions`. What follows says it of inventories; a feed differs in names and in how a record becomes a row.
//!
//! # Why each record is in bronze or quarantine once
//!
//! A record is identified by topic id, partition and offset. Which tenant it belongs to follows from the record alone and
//! from when that tenant was created, so every worker that ever reads it decides the same (`address`, `directory`).
//!
//! A tenant's rows, its quarantined records and the positions behind them are *one* catalog transaction (`commit`): property
//! `firn.position.<topic id>.<partition>` of `bronze.inventory` is the next offset to take. The transaction asserts the
//! positions that the worker read from the very table state it filtered its records against, and sets the new ones. So:
//!
//! - *Never twice.* A record below the position is filtered out; one at or above it is committed together with a position
//!   above it. If another worker (one that took the partition over, or a zombie that lost it) committed in between, the
//!   assertion fails and nothing of the transaction is visible.
//! - *Never lost.* The group's offset is committed only up to the first record that isn't in the catalog (`book`). A
//!   worker that starts reads from there, and filters by the tenants' positions.
//! - *Never guessed.* Whatever goes wrong, the answer is the same: the tenant's records are dropped from memory, the
//!   partitions are sought back to the first of them, and the next try reads the positions again. That covers a lost race,
//!   a catalog that is away, and an unknown outcome: if the unknown commit landed, the positions say so; if it lands later
//!   still, the assertion of the next try fails, and that one starts over. A crash at any moment is the same case.
//! - *Never half.* Files are written before the transaction and mean nothing without it.
//!
//! One window remains open, for records of a tenant that does not exist yet: they go to the quarantine of the tenant `firn`,
//! and if the tenant is created within a minute of them and the worker dies before the group's offset passes them, they
//! are read again and belong to the tenant then.
//!
//! A topic that was recreated has another id. A tenant with positions in another topic's name only is stopped with an error
//! that names the way out; the other tenants go on, and the group's offset waits for the stopped one's records.
//!
//! # Memory
//!
//! Records wait as the bytes they came as and are decoded when their tenant's commit begins, off the async threads, in chunks
//! whose memory is free again once they are rows. All of them together are bounded: from a quarter of the bound on they wait
//! compressed, so that commits of many tenants stay worth their cost (`book`); beyond it the largest tenant is committed and
//! nothing is read.

mod address;
mod api;
mod book;
mod commit;
mod directory;
mod erased;
mod feed;
mod forget;
mod lake;
mod positions;
mod reference;
mod replay;
mod report;
mod rows;
mod session;
#[cfg(test)]
mod simulation;
mod standing;
mod suspensions;
mod tables;
mod traced;

use std::{sync::Arc, time::Duration};

use axum::Router;
use firn_auth::Guard;
use firn_catalog_client::CatalogClient;
use firn_inventory::tables::INVENTORY_TOPIC;
use firn_runtime::{StatusBoard, clock::SystemClock};
use firn_stream::{Log, StreamError, SubscribeOptions, Topic, TopicSpec};
use firn_table::{FileIo, WriteOptions};
use tokio_util::sync::CancellationToken;

use commit::Committer;
use erased::Erased;
use feed::Feed;
use reference::Reference;
use session::{Session, World};

pub use forget::{ForgetRequest, Forgotten};
pub use replay::{
    LeftRange, LogCursor, PartitionOffset, QuarantineCursor, ReplayFrom, ReplayRequest, ReplayStep,
};
pub use standing::{PartitionStanding, Standing};

/// Consumer group of all workers that take inventories.
const GROUP: &str = "firn-ingest";

/// Where the records of the log go.
const BRANCH: &str = "main";

/// Partitions of a topic that the worker creates.
const PARTITIONS: i32 = 8;

/// Tenant whose quarantine takes what belongs to nobody.
const HOUSE_TENANT: &str = "firn";

/// Enough for the words of a few thousand systems, models and organisations. What differs from computer to computer hardly repeats
/// within a commit: looking for it in a dictionary that grows costs more than writing it.
const DICTIONARY_BYTES: usize = 64 << 10;

/// Settings of the worker.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// Fixed name of this worker in its group, so that a restart keeps its partitions; none by default.
    pub instance_id: Option<String>,
    /// A tenant's records are committed this long after the first of them was read. Default 5 s.
    pub commit_interval: Duration,
    /// Or once they have this many bytes. Default 128 MiB.
    pub commit_bytes: usize,
    /// Bytes of all tenants' records in memory beyond which nothing is read. Default 256 MiB.
    pub max_buffered_bytes: usize,
    /// Commits per second of this worker; with more active tenants the interval grows. Default 20.
    pub max_commits_per_s: u32,
    /// Commits that run at once. Default 4.
    pub max_concurrent_commits: usize,
    /// Records taken from the log at once. Default 500.
    pub poll_records: usize,
    /// How long commits that run may go on after the worker is told to stop. Default 20 s.
    pub drain: Duration,
    /// How data files are written.
    pub write: WriteOptions,
    /// How long a change of `reference.organizations` may take to reach a tenant's commits. Default 10 s.
    pub reference_refresh: Duration,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            instance_id: None,
            commit_interval: Duration::from_secs(5),
            commit_bytes: 128 << 20,
            max_buffered_bytes: 256 << 20,
            max_commits_per_s: 20,
            max_concurrent_commits: 4,
            poll_records: 500,
            drain: Duration::from_secs(20),
            write: WriteOptions { max_dictionary_bytes: DICTIONARY_BYTES, ..WriteOptions::default() },
            reference_refresh: Duration::from_secs(10),
        }
    }
}

/// Why the worker stopped. Start it again; it goes on where the catalog says.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The log failed.
    #[error(transparent)]
    Log(#[from] StreamError),
    /// Records that were never taken are gone from the log, or the group's offset lies beyond its end.
    #[error(
        "{topic}/{partition}: group {group} is at offset {committed}, but the log holds {start} to {end}: records were \
         dropped before they were taken, or the log was replaced; restore the log, or set the group's offset to \
         {start} to accept the loss"
    )]
    OutsideOfLog {
        /// The workers' group.
        group: &'static str,
        /// Topic.
        topic: String,
        /// Partition.
        partition: i32,
        /// The group's offset.
        committed: i64,
        /// First offset held.
        start: i64,
        /// Next offset to be written.
        end: i64,
    },
    /// The topic under this name is another one now.
    #[error("topic {topic} was recreated while it was read (id {was}, now {is})")]
    Recreated {
        /// Topic.
        topic: String,
        /// Its id when the worker started.
        was: String,
        /// Its id now, or `none`.
        is: String,
    },
}

/// Takes records from the log into bronze. Cheap to clone; each running one is a member of the group.
#[derive(Clone)]
pub struct Worker {
    feed: &'static Feed,
    config: WorkerConfig,
    log: Arc<dyn Log>,
    catalog: CatalogClient,
    file_io: FileIo,
    board: StatusBoard,
    erased: Arc<Erased>,
    reference: Arc<Reference>,
}

impl Worker {
    /// A worker that takes inventories into bronze. `catalog` needs an operator's token with the ingest scope, since only it
    /// may write positions.
    #[must_use]
    pub fn new(
        config: WorkerConfig,
        log: Arc<dyn Log>,
        catalog: CatalogClient,
        file_io: FileIo,
        board: StatusBoard,
    ) -> Self {
        let erased = Arc::new(Erased::new(catalog.clone()));
        let reference = Arc::new(Reference::new(file_io.clone(), board.clone(), config.reference_refresh));
        Self { feed: &feed::INVENTORY, config, log, catalog, file_io, board, erased, reference }
    }

    /// The same for transitions of findings, from the topic `compliance` into `gold.transitions`.
    #[must_use]
    pub fn of_transitions(self) -> Self {
        Self { feed: &feed::TRANSITIONS, ..self }
    }

    /// `/v1/tenants/{tenant}/ingest/…`: positions and replays. Any worker answers for all partitions.
    pub fn router(&self, guard: impl Into<Guard>) -> Router {
        api::router(self.clone(), guard.into())
    }

    /// Runs until `shutdown`, then finishes the commits that have begun and leaves what has not to the next start.
    ///
    /// # Errors
    /// What only a person can mend, or a restart: see [`WorkerError`]. Failures of one tenant don't end the worker.
    pub async fn run(&self, shutdown: CancellationToken) -> Result<(), WorkerError> {
        let topic = self.ensure_topic().await?;
        let lake = Arc::new(Committer::new(self, BRANCH, &topic.id, shutdown.clone()));
        self.run_in(World { lake, clock: Arc::new(SystemClock) }, topic, shutdown).await
    }

    /// The same in a world, which may be a simulated one.
    async fn run_in(
        &self,
        world: World,
        topic: Topic,
        shutdown: CancellationToken,
    ) -> Result<(), WorkerError> {
        let mut consumer = self
            .log
            .subscribe(SubscribeOptions {
                group: self.feed.group.to_owned(),
                topics: vec![topic.name.clone()],
                instance_id: self.config.instance_id.clone(),
                from_beginning: true,
            })
            .await?;
        let mut session = Session::new(self.clone(), topic, world, shutdown);
        let ended = session.work(consumer.as_mut()).await;
        session.drain(consumer.as_mut()).await;
        consumer.close().await;
        ended
    }

    /// The topic `compliance` has as many partitions as `inventory`: alerts have one owner per host.
    async fn ensure_topic(&self) -> Result<Topic, StreamError> {
        let inventory = ensure_inventory_topic(self.log.as_ref()).await?;
        if self.feed.topic == inventory.name {
            return Ok(inventory);
        }
        if let Some(topic) = self.log.topic(self.feed.topic).await? {
            return Ok(topic);
        }
        let (name, partitions) = (self.feed.topic.to_owned(), inventory.partitions);
        self.log.ensure_topic(&TopicSpec { name, partitions, compacted: false, retention: None }).await
    }
}

/// Creates the topic `inventory`, or answers it if it exists. The worker does so when it starts; a gateway that may start
/// before any worker should, too.
///
/// # Errors
/// What the log answers.
pub async fn ensure_inventory_topic(log: &dyn Log) -> Result<Topic, StreamError> {
    let spec = TopicSpec {
        name: INVENTORY_TOPIC.to_owned(),
        partitions: PARTITIONS,
        compacted: false,
        retention: None,
    };
    log.ensure_topic(&spec).await
}
