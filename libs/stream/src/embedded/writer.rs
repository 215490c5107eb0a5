//! The writer thread: takes the jobs that wait, runs them in one transaction, answers once it is durable.

use std::{
    fs::File,
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rusqlite::{Connection, ErrorCode, TransactionBehavior};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::{
    EmbeddedConfig, batch::Batch, groups::Groups, layout::Layout, readers::Readers, readers::stopped,
    retention, schema,
};
use crate::{StreamError, StreamErrorKind};

/// What may wait for the writer, in KiB: each job counts its payload and at least one.
const QUEUE_KIB: u32 = 16 << 10;

/// Jobs of one transaction.
const BATCH_JOBS: usize = 1024;

/// Pause between maintenance steps when there is nothing left to do, and while there is.
const MAINTENANCE_IDLE: Duration = Duration::from_secs(30);
const MAINTENANCE_BUSY: Duration = Duration::from_millis(50);

/// Outer: the file failed, so the whole transaction is rolled back. Inner: the job is refused and has changed nothing.
pub(super) type Outcome<T> = rusqlite::Result<Result<T, StreamError>>;

/// Something to be done in the writer's transaction.
trait Job: Send {
    fn apply(&mut self, batch: &mut Batch<'_>) -> rusqlite::Result<()>;
    /// Answers, after the transaction: with the failure if it did not happen.
    fn answer(self: Box<Self>, failure: Option<&StreamError>);
}

struct Submission<T, W> {
    work: Option<W>,
    outcome: Option<Result<T, StreamError>>,
    reply: oneshot::Sender<Result<T, StreamError>>,
    _room: OwnedSemaphorePermit,
}

impl<T: Send, W: FnOnce(&mut Batch<'_>) -> Outcome<T> + Send> Job for Submission<T, W> {
    fn apply(&mut self, batch: &mut Batch<'_>) -> rusqlite::Result<()> {
        if let Some(work) = self.work.take() {
            self.outcome = Some(work(batch)?);
        }
        Ok(())
    }

    fn answer(self: Box<Self>, failure: Option<&StreamError>) {
        let outcome = match failure {
            Some(error) => Err(error.clone()),
            None => self.outcome.unwrap_or_else(|| Err(stopped())),
        };
        // Who asked may have stopped waiting.
        let _ = self.reply.send(outcome);
    }
}

/// What the writer thread and everyone else share.
struct Shared {
    layout: RwLock<Layout>,
    groups: Mutex<Groups>,
    /// Counts transactions and group changes: whoever waits for either waits here.
    changes: watch::Sender<u64>,
}

/// The log behind its handles. Dropping the last one ends the writer thread after the jobs that wait.
pub(super) struct Core {
    shared: Arc<Shared>,
    pub(super) readers: Arc<Readers>,
    room: Arc<Semaphore>,
    /// As deep as there is room, so that a job with room is never kept waiting.
    jobs: Option<mpsc::SyncSender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
}

impl Core {
    pub(super) fn start(config: EmbeddedConfig) -> Result<Arc<Self>, StreamError> {
        let lock = schema::lock(&config.path)?;
        let connection = schema::open_writer(&config.path)?;
        let layout = Layout::load(&connection).map_err(|error| schema::failed(&config.path, &error))?;
        let shared = Arc::new(Shared {
            layout: RwLock::new(layout.clone()),
            groups: Mutex::default(),
            changes: watch::Sender::new(0),
        });
        let (jobs, waiting) = mpsc::sync_channel(QUEUE_KIB as usize);
        let readers = Arc::new(Readers::new(config.path.clone()));
        let writer = Writer {
            connection,
            layout,
            shared: Arc::clone(&shared),
            config,
            clock_ms: 0,
            broken: None,
            _lock: lock,
        };
        let thread = std::thread::Builder::new()
            .name("firn-log".to_owned())
            .spawn(move || writer.run(&waiting))
            .map_err(|error| {
                StreamError::new(StreamErrorKind::Broken, format!("can't start the log's thread: {error}"))
            })?;
        let room = Arc::new(Semaphore::new(QUEUE_KIB as usize));
        Ok(Arc::new(Self { shared, readers, room, jobs: Some(jobs), thread: Some(thread) }))
    }

    /// Runs work in the writer's next transaction and answers once that is durable. `bytes` is what the work carries.
    pub(super) async fn submit<T, W>(&self, bytes: usize, work: W) -> Result<T, StreamError>
    where
        T: Send + 'static,
        W: FnOnce(&mut Batch<'_>) -> Outcome<T> + Send + 'static,
    {
        let kib = u32::try_from(bytes >> 10).unwrap_or(QUEUE_KIB).saturating_add(1).min(QUEUE_KIB);
        let room = Arc::clone(&self.room).acquire_many_owned(kib).await.map_err(|_| stopped())?;
        let (reply, answer) = oneshot::channel();
        let job = Box::new(Submission { work: Some(work), outcome: None, reply, _room: room });
        let jobs = self.jobs.as_ref().ok_or_else(stopped)?;
        jobs.try_send(job).map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    /// Topics and partitions as of the last transaction.
    pub(super) fn layout(&self) -> RwLockReadGuard<'_, Layout> {
        self.shared.layout.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at or changes the groups; waiters look again after a change.
    pub(super) fn with_groups<T>(&self, change: impl FnOnce(&mut Groups) -> T) -> T {
        change(&mut self.shared.groups.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Wakes everyone who waits for records or partitions.
    pub(super) fn wake(&self) {
        self.shared.changes.send_modify(|count| *count += 1);
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the log's writer thread panicked");
        }
    }
}

struct Writer {
    connection: Connection,
    /// Ahead of the published one within a transaction only.
    layout: Layout,
    shared: Arc<Shared>,
    config: EmbeddedConfig,
    /// The last timestamp given: they never go back within a process.
    clock_ms: i64,
    /// Set once the file can't be trusted: everything is refused from then on.
    broken: Option<StreamError>,
    _lock: File,
}

impl Writer {
    fn run(mut self, waiting: &mpsc::Receiver<Box<dyn Job>>) {
        let mut maintenance_at = Instant::now() + MAINTENANCE_BUSY;
        loop {
            match waiting.recv_timeout(maintenance_at.saturating_duration_since(Instant::now())) {
                Ok(first) => {
                    let mut jobs = vec![first];
                    jobs.extend(waiting.try_iter().take(BATCH_JOBS - 1));
                    self.run_jobs(jobs);
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
            if Instant::now() >= maintenance_at {
                let more = self.maintain();
                maintenance_at = Instant::now() + if more { MAINTENANCE_BUSY } else { MAINTENANCE_IDLE };
            }
        }
    }

    fn run_jobs(&mut self, mut jobs: Vec<Box<dyn Job>>) {
        let result = self.transact(|batch| jobs.iter_mut().try_for_each(|job| job.apply(batch)));
        for job in jobs {
            job.answer(result.as_ref().err());
        }
    }

    /// One step; true if there is more to do.
    fn maintain(&mut self) -> bool {
        if self.broken.is_some() {
            return false;
        }
        self.transact(retention::step).unwrap_or_else(|error| {
            tracing::warn!(%error, "log maintenance failed");
            false
        })
    }

    fn transact<T>(
        &mut self,
        work: impl FnOnce(&mut Batch<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, StreamError> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        self.clock_ms = self.clock_ms.max(wall_clock_ms());
        let result = self.try_transact(work);
        if let Err(error) = &result {
            self.recover(error);
        }
        result
            .map_err(|error| self.broken.clone().unwrap_or_else(|| schema::failed(&self.config.path, &error)))
    }

    fn try_transact<T>(
        &mut self,
        work: impl FnOnce(&mut Batch<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut batch =
            Batch::new(&transaction, &mut self.layout, &self.shared.groups, &self.config, self.clock_ms);
        let answer = work(&mut batch)?;
        let changed = batch.finish()?;
        transaction.commit()?;
        changed
            .publish(&self.layout, &mut self.shared.layout.write().unwrap_or_else(PoisonError::into_inner));
        self.shared.changes.send_modify(|count| *count += 1);
        Ok(answer)
    }

    /// After a rolled back transaction: back to what the file says. A full disk is not the file's fault; after anything
    /// else it isn't known what an fsync left behind, and only a restart reads the truth.
    fn recover(&mut self, error: &rusqlite::Error) {
        let full = error.sqlite_error_code() == Some(ErrorCode::DiskFull);
        let reloaded = Layout::load(&self.connection);
        match reloaded {
            Ok(layout) if full => self.layout = layout,
            _ => {
                let error = schema::failed(&self.config.path, error);
                tracing::error!(%error, "the embedded log stops");
                self.broken = Some(StreamError::new(StreamErrorKind::Broken, error.message));
            }
        }
    }
}

fn wall_clock_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
