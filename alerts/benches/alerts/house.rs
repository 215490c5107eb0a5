//! What alerts need: a catalog with a tenant, a log, and rules.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use chrono::Utc;
use firn_alerts::{Alerts, AlertsConfig};
use firn_inventory::tables::INVENTORY_TOPIC;
use firn_runtime::{StageStatus, StatusBoard};
use firn_stream::{
    EmbeddedConfig, EmbeddedLog, Event, KafkaConfig, KafkaLog, Log, Record, SubscribeOptions, TopicSpec,
};
use firn_tests::Kafka;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    fleet::{self, TENANT},
    lake::Lake,
};

pub(crate) const PARTITIONS: i32 = 8;
/// Longest that something may take that must happen.
const PATIENCE: Duration = Duration::from_secs(600);
/// Records of one append.
const BATCH: u64 = 2_000;
/// Records of one read, as the worker reads.
const READ_RECORDS: usize = 5_000;
/// A log that says nothing for so long has nothing more.
const SILENCE: Duration = Duration::from_secs(30);
/// Between two looks at what was judged.
const LOOK: Duration = Duration::from_millis(20);

/// See the module.
pub(crate) struct House {
    pub(crate) lake: Lake,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) board: StatusBoard,
    _kafka: Option<Kafka>,
}

/// Alerts that run.
pub(crate) struct Running {
    board: StatusBoard,
    stop: CancellationToken,
    task: JoinHandle<Result<(), firn_alerts::AlertsError>>,
}

impl House {
    /// Over what lies in a folder, or nothing yet; the log is Kafka's or a file.
    pub(crate) async fn open(folder: &Path, on_kafka: bool) -> Result<Self> {
        let lake = Lake::open(Some(folder)).await?;
        let kafka = if on_kafka { Some(Kafka::start().await?) } else { None };
        let log: Arc<dyn Log> = match &kafka {
            None => EmbeddedLog::open(EmbeddedConfig::new(folder.join("log.db")))?,
            Some(kafka) => {
                let config = KafkaConfig { replication: 1, ..KafkaConfig::new(kafka.bootstrap_servers()) };
                KafkaLog::connect(config).await?
            }
        };
        let spec = TopicSpec {
            name: INVENTORY_TOPIC.to_owned(),
            partitions: PARTITIONS,
            compacted: false,
            retention: None,
        };
        log.ensure_topic(&spec).await?;
        Ok(Self { lake, log, board: StatusBoard::default(), _kafka: kafka })
    }

    /// Appends records from a number on.
    pub(crate) async fn fill(&self, first: u64, count: u64, hosts: u64) -> Result<()> {
        let received_at_us = Utc::now().timestamp_micros();
        let batches = (first..first + count).step_by(usize::try_from(BATCH)?);
        let append = |begin: u64| {
            let numbers = begin..(begin + BATCH).min(first + count);
            let batch = numbers.map(|number| fleet::produced(number, hosts, received_at_us)).collect();
            async move { self.log.append(batch).await.into_iter().collect::<Result<Vec<_>, _>>() }
        };
        stream::iter(batches).map(append).buffer_unordered(4).try_for_each(|_| async { Ok(()) }).await?;
        Ok(())
    }

    /// Starts alerts.
    pub(crate) fn start(&self, config: AlertsConfig) -> Running {
        let (catalog, file_io) = (self.lake.catalog.clone(), self.lake.file_io.clone());
        let alerts = Alerts::new(config, Arc::clone(&self.log), catalog, file_io, self.board.clone());
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move { alerts.run(stopped).await });
        Running { board: self.board.clone(), stop, task }
    }

    /// Lets alerts judge so many records more, and ends them.
    pub(crate) async fn judge(&self, count: u64) -> Result<()> {
        let wanted = total(&self.board, "records") + count;
        let running = self.start(AlertsConfig::default());
        running.until_judged(wanted).await?;
        running.end().await
    }

    /// Reads the next records that a group has not read, as a worker does.
    pub(crate) async fn read(
        &self,
        group: &str,
        count: u64,
        mut take: impl FnMut(&[Record]) -> Result<()>,
    ) -> Result<()> {
        let options = SubscribeOptions {
            group: group.to_owned(),
            topics: vec![INVENTORY_TOPIC.to_owned()],
            instance_id: None,
            from_beginning: true,
        };
        let mut consumer = self.log.subscribe(options).await?;
        let (mut left, mut next) = (count, BTreeMap::new());
        while left > 0 {
            match consumer.poll(READ_RECORDS, SILENCE).await? {
                Some(Event::Records(partition, records)) => {
                    take(&records)?;
                    left = left.saturating_sub(records.len() as u64);
                    next.extend(records.last().map(|last| (partition, last.offset + 1)));
                }
                Some(_) => {}
                None => bail!("{left} records are missing in the log"),
            }
        }
        consumer.commit(&next.into_iter().collect::<Vec<_>>()).await?;
        consumer.close().await;
        Ok(())
    }
}

impl Running {
    /// Waits until so many records in all were judged; answers how long that took.
    pub(crate) async fn until_judged(&self, count: u64) -> Result<Duration> {
        let begun = Instant::now();
        while total(&self.board, "records") < count {
            ensure!(!self.task.is_finished(), "alerts ended: {:?}", self.board.all());
            ensure!(begun.elapsed() < PATIENCE, "alerts don't end: {:?}", self.board.all());
            tokio::time::sleep(LOOK).await;
        }
        Ok(begun.elapsed())
    }

    /// Ends them in order.
    pub(crate) async fn end(self) -> Result<()> {
        self.stop.cancel();
        self.task.await??;
        Ok(())
    }
}

/// A total of the tenant's alerts.
pub(crate) fn total(board: &StatusBoard, name: &str) -> u64 {
    let status: Option<StageStatus> = board.all().remove(&("alerts".to_owned(), TENANT.to_owned()));
    status.and_then(|status| status.totals.get(name).copied()).unwrap_or_default()
}
