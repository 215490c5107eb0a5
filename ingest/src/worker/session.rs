//! One run of the worker: the loop that owns the consumer and the book.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use firn_catalog_client::ClientError;
use firn_runtime::{
    clock::{Clock, within},
    retry::Backoff,
};
use firn_stream::{Assigned, Consumer, Event, Record, StreamErrorKind, Topic, TopicPartition};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::{
    Worker, WorkerError,
    address::{Taken, address},
    book::{Book, Due},
    commit::{Committed, Failure},
    directory::Directory,
    lake::Lake,
    report::Report,
    suspensions::Suspensions,
    traced::commit_span,
};

/// Longest wait for records: also how late the loop notices a finished commit or the end.
const POLL_WAIT: Duration = Duration::from_millis(100);

/// How often group offsets are committed and lags measured.
const TICK: Duration = Duration::from_secs(1);

/// Between tries of what may work soon.
const SOON: Backoff =
    Backoff { initial: Duration::from_millis(200), max: Duration::from_secs(30), attempts: u32::MAX };

/// Between looks at a tenant that a person must mend.
const STOPPED: Backoff =
    Backoff { initial: Duration::from_secs(5), max: Duration::from_secs(60), attempts: u32::MAX };

/// Records are packed once they fill this part of the memory they may have.
const PACK_BELOW_BOUND: usize = 4;

type Finished = (String, Result<Committed, Failure>);

/// What a run goes by beside the log.
pub(super) struct World {
    pub(super) lake: Arc<dyn Lake>,
    pub(super) clock: Arc<dyn Clock>,
}

/// State of a run.
pub(super) struct Session {
    worker: Worker,
    topic: Topic,
    shutdown: CancellationToken,
    lake: Arc<dyn Lake>,
    clock: Arc<dyn Clock>,
    commits: JoinSet<Finished>,
    book: Book,
    directory: Directory,
    suspensions: Suspensions,
    report: Report,
    ticked_at: Instant,
    troubles: u32,
}

impl Session {
    pub(super) fn new(worker: Worker, topic: Topic, world: World, shutdown: CancellationToken) -> Self {
        let World { lake, clock } = world;
        let ticked_at = clock.instant();
        let report = Report::new(worker.feed, worker.board.clone());
        let suspensions = Suspensions::of(worker.feed.stage);
        let book = Book::packing_above(worker.config.max_buffered_bytes / PACK_BELOW_BOUND);
        Self {
            worker,
            topic,
            shutdown,
            lake,
            clock,
            commits: JoinSet::new(),
            book,
            directory: Directory::default(),
            suspensions,
            report,
            ticked_at,
            troubles: 0,
        }
    }

    fn now(&self) -> Instant {
        self.clock.instant()
    }

    /// Reads and commits until shutdown.
    pub(super) async fn work(&mut self, consumer: &mut dyn Consumer) -> Result<(), WorkerError> {
        while !self.shutdown.is_cancelled() {
            while let Some(finished) = self.commits.try_join_next() {
                self.finish(finished);
            }
            self.release(consumer).await?;
            self.start_due();
            if self.now().saturating_duration_since(self.ticked_at) >= TICK {
                self.ticked_at = self.now();
                self.tick(consumer).await?;
            }
            if self.book.is_full(self.due()) {
                self.await_commit(POLL_WAIT).await;
                continue;
            }
            match consumer.poll(self.worker.config.poll_records, POLL_WAIT).await {
                Ok(None) => {}
                Ok(Some(Event::Assigned(assigned))) => self.assigned(assigned)?,
                Ok(Some(Event::Revoked(partitions))) => self.revoked(&partitions),
                Ok(Some(Event::Records(partition, records))) => {
                    self.take(consumer, &partition, records).await?;
                }
                Err(error) if error.kind == StreamErrorKind::Unavailable => {
                    self.trouble("the log can't be read", &error).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Lets running commits end, commits what they made possible, and forgets the rest.
    pub(super) async fn drain(&mut self, consumer: &mut dyn Consumer) {
        let deadline = self.now() + self.worker.config.drain;
        loop {
            let left = deadline.saturating_duration_since(self.now());
            let next = within(self.clock.as_ref(), left, self.commits.join_next()).await;
            let Some(Some(finished)) = next else { break };
            self.finish(finished);
        }
        // What still runs may or may not land; the positions will tell the next start.
        self.commits.abort_all();
        if let Err(error) = self.commit_group(consumer).await {
            tracing::warn!(%error, "group offsets not committed at the end; the next start reads a little again");
        }
    }

    fn due(&self) -> Due {
        let active = u32::try_from(self.book.active().count()).unwrap_or(u32::MAX);
        let spread = Duration::from_secs(1) * active / self.worker.config.max_commits_per_s.max(1);
        Due {
            interval: self.worker.config.commit_interval.max(spread),
            bytes: self.worker.config.commit_bytes,
            max_buffered_bytes: self.worker.config.max_buffered_bytes,
        }
    }

    fn start_due(&mut self) {
        let due = self.due();
        while self.commits.len() < self.worker.config.max_concurrent_commits.max(1) {
            let Some(tenant) = self.book.due(due, self.now()) else { return };
            let pending = self.book.start(&tenant);
            let lake = Arc::clone(&self.lake);
            self.commits.spawn(async move {
                let records = pending.into_records().await;
                let span = commit_span(&tenant, &records);
                let result = lake.commit(&tenant, records).instrument(span).await;
                (tenant, result)
            });
        }
    }

    async fn await_commit(&mut self, at_most: Duration) {
        if let Some(Some(finished)) = within(self.clock.as_ref(), at_most, self.commits.join_next()).await {
            self.finish(finished);
        }
    }

    fn finish(&mut self, finished: Result<Finished, tokio::task::JoinError>) {
        let (tenant, result) = match finished {
            Ok(finished) => finished,
            Err(crashed) => std::panic::resume_unwind(crashed.into_panic()),
        };
        match result {
            Ok(committed) => {
                self.book.committed(&tenant, &committed.positions);
                self.report.committed(&tenant, &committed);
            }
            Err(failure) => {
                let failures = self.book.next_failure(&tenant);
                let backoff = if matches!(failure, Failure::Stopped(_)) { STOPPED } else { SOON };
                let delay = backoff.delay_by(failures, self.clock.jitter());
                self.book.hold(&tenant, self.now() + delay);
                self.report.failed(&tenant, &failure, delay);
            }
        }
    }

    /// Seeks back for tenants whose wait is over.
    async fn release(&mut self, consumer: &mut dyn Consumer) -> Result<(), WorkerError> {
        for (partition, offset) in self.book.release(self.now()) {
            self.seek(consumer, partition, offset).await?;
        }
        Ok(())
    }

    async fn seek(
        &self,
        consumer: &mut dyn Consumer,
        partition: i32,
        offset: i64,
    ) -> Result<(), WorkerError> {
        match consumer.seek(&self.topic_partition(partition), offset).await {
            // Lost meanwhile; its revocation is on the way.
            Err(error) if error.kind == StreamErrorKind::Fenced => Ok(()),
            result => Ok(result?),
        }
    }

    fn assigned(&mut self, assigned: Vec<Assigned>) -> Result<(), WorkerError> {
        for Assigned { partition, topic_id, offset, range } in assigned {
            self.check_topic(Some(topic_id))?;
            if offset < range.start || offset > range.end {
                return Err(WorkerError::OutsideOfLog {
                    group: self.worker.feed.group,
                    topic: self.topic.name.clone(),
                    partition: partition.partition,
                    committed: offset,
                    start: range.start,
                    end: range.end,
                });
            }
            self.book.assign(partition.partition, offset);
            tracing::info!(topic = %self.topic.name, partition = partition.partition, offset, "partition taken");
        }
        Ok(())
    }

    fn revoked(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.book.revoke(partition.partition);
            tracing::info!(topic = %self.topic.name, partition = partition.partition, "partition given up");
        }
    }

    async fn take(
        &mut self,
        consumer: &mut dyn Consumer,
        partition: &TopicPartition,
        records: Vec<Record>,
    ) -> Result<(), WorkerError> {
        let Some(first) = records.first().map(|record| record.offset) else { return Ok(()) };
        if !self.book.owns(partition.partition) {
            return Ok(());
        }
        let addressed: Vec<_> = records.into_iter().map(address).collect();
        if let Err(error) = self.know(&addressed).await {
            self.seek(consumer, partition.partition, first).await?;
            self.trouble("the catalog can't be asked for its tenants", &error).await;
            return Ok(());
        }
        self.troubles = 0;
        self.report.recovered();
        let now = self.now();
        for (tenant, taken) in addressed {
            let (tenant, taken) = self.directory.owner(tenant, taken);
            self.book.take(&tenant, taken, now);
        }
        Ok(())
    }

    /// Nothing is taken before it is known which tenants there are and which of them are suspended.
    async fn know(&mut self, addressed: &[(Option<String>, Taken)]) -> Result<(), ClientError> {
        self.directory.know(self.lake.as_ref(), addressed).await?;
        if !self.suspensions.are_known() {
            self.suspensions.refresh(self.lake.as_ref()).await?;
            self.suspend_and_resume();
        }
        Ok(())
    }

    fn suspend_and_resume(&mut self) {
        let now = self.now();
        for tenant in self.suspensions.apply(&mut self.book, now) {
            self.report.resumed(&tenant);
        }
        for suspension in self.suspensions.all() {
            let ending = self.book.is_committing(&suspension.tenant);
            self.report.suspended(suspension, ending);
        }
    }

    /// An answer that doesn't come now comes a second later; until then what was known holds.
    async fn look_for_suspensions(&mut self) {
        let asked = self.suspensions.refresh(self.lake.as_ref());
        match within(self.clock.as_ref(), TICK, asked).await {
            Some(Ok(())) => {}
            Some(Err(error)) => tracing::debug!(%error, "suspensions not looked up"),
            None => tracing::debug!("suspensions not looked up in time"),
        }
        if self.suspensions.are_known() {
            self.suspend_and_resume();
        }
    }

    /// That the topic is still the one whose positions this run knows.
    fn check_topic(&self, present_id: Option<String>) -> Result<(), WorkerError> {
        if present_id.as_ref() == Some(&self.topic.id) {
            return Ok(());
        }
        Err(WorkerError::Recreated {
            topic: self.topic.name.clone(),
            was: self.topic.id.clone(),
            is: present_id.unwrap_or_else(|| "none".to_owned()),
        })
    }

    async fn tick(&mut self, consumer: &mut dyn Consumer) -> Result<(), WorkerError> {
        match self.worker.log.topic(&self.topic.name).await {
            Ok(topic) => self.check_topic(topic.map(|topic| topic.id))?,
            Err(error) => tracing::debug!(%error, "topic not looked up"),
        }
        self.look_for_suspensions().await;
        match self.commit_group(consumer).await {
            Ok(()) => {}
            // Lost meanwhile, or away: nothing depends on it but how much the next start reads again.
            Err(error) => tracing::info!(%error, "group offsets not committed now"),
        }
        if let Ok(ranges) = self.worker.log.offsets(&self.topic.name).await {
            let ends: BTreeMap<i32, i64> = (0..).zip(ranges.iter().map(|range| range.end)).collect();
            let behind = self.book.low_watermarks().into_iter().map(|(partition, low)| {
                ends.get(&partition).map_or(0, |end| u64::try_from(end - low).unwrap_or(0))
            });
            self.report.progress(&self.book, behind.sum(), self.due().interval);
        }
        Ok(())
    }

    async fn commit_group(&mut self, consumer: &mut dyn Consumer) -> Result<(), firn_stream::StreamError> {
        let offsets = self.book.committable();
        if offsets.is_empty() {
            return Ok(());
        }
        let named: Vec<_> =
            offsets.iter().map(|(partition, offset)| (self.topic_partition(*partition), *offset)).collect();
        consumer.commit(&named).await?;
        self.book.group_committed(&offsets);
        Ok(())
    }

    async fn trouble(&mut self, what: &str, error: &(dyn std::error::Error + Sync)) {
        self.troubles = self.troubles.saturating_add(1);
        self.report.troubled(what, error);
        let pause = SOON.delay_by(self.troubles, self.clock.jitter());
        tokio::select! {
            () = self.clock.sleep(pause) => {}
            () = self.shutdown.cancelled() => {}
        }
    }

    fn topic_partition(&self, partition: i32) -> TopicPartition {
        TopicPartition { topic: self.topic.name.clone(), partition }
    }
}
