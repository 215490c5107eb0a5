//! One history: what is sent and what befalls the workers, and whether everything is where it belongs in the end.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
    time::Duration,
};

use bytes::Bytes;
use firn_catalog_client::{CatalogClient, StaticToken};
use firn_inventory::{
    record_key,
    tables::{INVENTORY_TOPIC, RECEIVED_AT_HEADER, TENANT_HEADER},
};
use firn_runtime::StatusBoard;
use firn_stream::{Record, Topic};
use firn_table::{FileIo, StorageConfig};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{
    log::{SimulatedLog, TOPIC_ID},
    outside::{Outside, Sent, Table},
};
use crate::worker::{HOUSE_TENANT, Worker, WorkerConfig, session::World};

const TENANTS: [&str; 5] = ["t0", "t1", "t2", "t3", HOUSE_TENANT];
const STEPS: u64 = 60;
const MOST_WORKERS: usize = 3;
const MOST_PARTITIONS: i32 = 8;
/// A member that is silent is put out after this time.
const SESSION: Duration = Duration::from_secs(3);
/// Calm world, one worker: long enough for every pause between tries.
const PATIENCE: Duration = Duration::from_secs(1200);

/// Asked for nothing: all requests are the lake's.
static NOBODY: LazyLock<CatalogClient> = LazyLock::new(|| {
    let token = Arc::new(StaticToken(String::new()));
    CatalogClient::new("http://127.0.0.1:1", token).expect("the URL is one")
});

/// What happened in a history, or in several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) records: u64,
    pub(super) commits: u64,
    pub(super) raced: u64,
    pub(super) faults: u64,
    pub(super) seeks: u64,
    pub(super) assignments: u64,
    pub(super) evictions: u64,
    pub(super) kills: u64,
    /// Of everything that was done, in its order.
    pub(super) print: u64,
}

impl Told {
    pub(super) fn add(&mut self, other: &Self) {
        self.records += other.records;
        self.commits += other.commits;
        self.raced += other.raced;
        self.faults += other.faults;
        self.seeks += other.seeks;
        self.assignments += other.assignments;
        self.evictions += other.evictions;
        self.kills += other.kills;
    }

    /// Whether each thing happened that can happen.
    pub(super) fn is_eventful(&self) -> bool {
        [self.raced, self.faults, self.seeks, self.evictions, self.kills].iter().all(|count| *count > 0)
            && self.records > self.commits
            && self.assignments > 0
    }
}

/// A worker's process.
struct Process {
    task: JoinHandle<()>,
    shutdown: CancellationToken,
    stopped: watch::Sender<bool>,
    member: Arc<watch::Sender<u64>>,
}

/// Runs the history of a seed; the error says what went wrong in it.
pub(super) fn run(seed: u64) -> Result<Told, String> {
    let outside = Outside::new(seed);
    let world = history(outside.clone());
    outside.time.run(world).map_err(|error| error.to_string())??;
    let mut state = outside.state();
    state.told.print = state.print();
    Ok(state.told.clone())
}

async fn history(outside: Outside) -> Result<(), String> {
    {
        let mut state = outside.state();
        state.log.resize_with(4, Vec::new);
        state.tables = TENANTS.map(|tenant| (tenant.to_owned(), Table::default())).into();
    }
    let mut processes = vec![start(&outside)];
    for _ in 0..STEPS {
        step(&outside, &mut processes).await;
        for ended in processes.extract_if(.., |process| process.task.is_finished()) {
            ended.task.await.map_err(crashed)?;
        }
    }
    outside.calm();
    outside.state().suspended.clear();
    processes.iter().for_each(|process| _ = process.stopped.send_replace(false));
    let last = start(&outside);
    for process in processes {
        process.shutdown.cancel();
        process.task.await.map_err(crashed)?;
    }
    await_all(&outside).await?;
    // Until it has the partitions of those who were killed, and has told the group that there is nothing left in them.
    outside.time.sleep(Duration::from_secs(60)).await;
    last.shutdown.cancel();
    last.task.await.map_err(crashed)?;
    judge(&outside)
}

fn crashed(error: tokio::task::JoinError) -> String {
    format!("a worker crashed: {error}")
}

async fn step(outside: &Outside, processes: &mut Vec<Process>) {
    let any = |processes: &Vec<Process>| usize::try_from(outside.below(processes.len() as u64)).unwrap_or(0);
    match outside.below(14) {
        0..=4 => send(outside, outside.below(40) + 1),
        5..=7 => outside.pause(Duration::from_secs(3)).await,
        8 if processes.len() < MOST_WORKERS => processes.push(start(outside)),
        9 if !processes.is_empty() => kill(outside, processes.remove(any(processes))),
        10 if !processes.is_empty() => processes[any(processes)].shutdown.cancel(),
        11 if !processes.is_empty() => stop_for_a_while(outside, &processes[any(processes)]),
        12 => {
            let tenant = TENANTS[usize::try_from(outside.below(4)).unwrap_or(0)].to_owned();
            let mut state = outside.state();
            if !state.suspended.remove(&tenant) {
                state.suspended.insert(tenant);
            }
        }
        13 if outside.state().partitions() < MOST_PARTITIONS => outside.state().log.push(Vec::new()),
        _ => {}
    }
}

/// Appends records; one in twenty says of no tenant, so that it is the house's.
fn send(outside: &Outside, records: u64) {
    let received_at = chrono::Utc::now();
    for _ in 0..records {
        let named = TENANTS[usize::try_from(outside.below(4)).unwrap_or(0)];
        let is_named = outside.below(20) > 0;
        let partition = outside.below(u64::try_from(outside.state().partitions()).unwrap_or(1));
        let partition = i32::try_from(partition).unwrap_or(0);
        let mut headers =
            vec![(RECEIVED_AT_HEADER.to_owned(), Bytes::from(received_at.timestamp_micros().to_string()))];
        if is_named {
            headers.push((TENANT_HEADER.to_owned(), Bytes::from(named)));
        }
        let mut state = outside.state();
        let record = Record {
            partition,
            offset: state.end(partition),
            timestamp_ms: received_at.timestamp_millis(),
            key: Some(Bytes::from(record_key(named, "host"))),
            value: Some(Bytes::from_static(b"{}")),
            headers,
        };
        let tenant = if is_named { named } else { HOUSE_TENANT }.to_owned();
        state.told.records += 1;
        state.log[usize::try_from(partition).unwrap_or(0)].push(Sent { tenant, record });
    }
}

/// Starts a worker, which is started again whenever it ends by itself.
fn start(outside: &Outside) -> Process {
    let (stopped, is_stopped) = watch::channel(false);
    let member = Arc::new(watch::Sender::new(0));
    let log = SimulatedLog { outside: outside.clone(), stopped: is_stopped, member: Arc::clone(&member) };
    let one_of =
        |choices: &[usize]| choices[usize::try_from(outside.below(choices.len() as u64)).unwrap_or(0)];
    let config = WorkerConfig {
        commit_interval: Duration::from_millis(one_of(&[50, 500, 5_000]) as u64),
        max_buffered_bytes: one_of(&[2_000, 20_000, 256 << 20]),
        max_concurrent_commits: one_of(&[1, 2, 4]),
        poll_records: one_of(&[1, 7, 500]),
        ..WorkerConfig::default()
    };
    let file_io = FileIo::new(StorageConfig::default());
    let worker = Worker::new(config, Arc::new(log), NOBODY.clone(), file_io, StatusBoard::default());
    let (shutdown, outside) = (CancellationToken::new(), outside.clone());
    let stop = shutdown.clone();
    let task = tokio::spawn(async move {
        while !stop.is_cancelled() {
            let world = World { lake: Arc::new(outside.clone()), clock: Arc::new(outside.clone()) };
            let partitions = outside.state().partitions();
            let topic = Topic { name: INVENTORY_TOPIC.to_owned(), id: TOPIC_ID.to_owned(), partitions };
            if worker.run_in(world, topic, stop.clone()).await.is_err() {
                outside.time.sleep(Duration::from_secs(1)).await;
            }
        }
    });
    Process { task, shutdown, stopped, member }
}

/// `kill -9`: the group hears of it only by its silence.
fn kill(outside: &Outside, process: Process) {
    process.task.abort();
    let (outside, member) = (outside.clone(), *process.member.borrow());
    outside.state().told.kills += 1;
    tokio::spawn(async move {
        outside.time.sleep(SESSION).await;
        outside.state().evict(member);
    });
}

/// The process stands still, perhaps for longer than the group waits for it, and goes on.
fn stop_for_a_while(outside: &Outside, process: &Process) {
    process.stopped.send_replace(true);
    let (outside, stopped) = (outside.clone(), process.stopped.clone());
    let member = *process.member.borrow();
    tokio::spawn(async move {
        let pause = Duration::from_millis(outside.below(10_000));
        outside.time.sleep(pause.min(SESSION)).await;
        if pause > SESSION {
            outside.state().evict(member);
            outside.time.sleep(pause.saturating_sub(SESSION)).await;
        }
        stopped.send_replace(false);
    });
}

/// Waits until every record is in its table.
async fn await_all(outside: &Outside) -> Result<(), String> {
    let deadline = outside.time.passed() + PATIENCE;
    loop {
        let (rows, sent) = {
            let state = outside.state();
            let rows: usize = state.tables.values().map(|table| table.rows.len()).sum();
            (rows, state.log.iter().map(Vec::len).sum::<usize>())
        };
        if rows >= sent {
            return Ok(());
        }
        if outside.time.passed() > deadline {
            return Err(format!(
                "{rows} of {sent} records are in tables, and no more come: {}",
                wrong(outside)
            ));
        }
        outside.time.sleep(Duration::from_secs(1)).await;
    }
}

fn wrong(outside: &Outside) -> String {
    outside.state().wrong.join("\n")
}

/// Every record is in its tenant's table once, positions lie behind them, and the group's offsets at the end of the log.
fn judge(outside: &Outside) -> Result<(), String> {
    let state = outside.state();
    if !state.wrong.is_empty() {
        return Err(state.wrong.join("\n"));
    }
    let mut sent: BTreeMap<&str, Vec<(i32, i64)>> = BTreeMap::new();
    for record in state.log.iter().flatten() {
        sent.entry(record.tenant.as_str()).or_default().push((record.record.partition, record.record.offset));
    }
    for (tenant, table) in &state.tables {
        let wanted = sent.remove(tenant.as_str()).unwrap_or_default();
        let mut rows = table.rows.clone();
        rows.sort_unstable();
        if rows != wanted {
            return Err(format!("{tenant}: rows {rows:?}\nrecords {wanted:?}"));
        }
        let ends: BTreeMap<i32, i64> =
            wanted.iter().map(|(partition, offset)| (*partition, offset + 1)).collect();
        if table.positions != ends {
            return Err(format!("{tenant}: positions {:?}, records end at {ends:?}", table.positions));
        }
    }
    let ends: BTreeMap<i32, i64> =
        (0..state.partitions()).map(|partition| (partition, state.end(partition))).collect();
    let committed: BTreeMap<i32, i64> = ends
        .keys()
        .map(|partition| (*partition, state.committed.get(partition).copied().unwrap_or(0)))
        .collect();
    if committed == ends {
        Ok(())
    } else {
        Err(format!("the group is at {committed:?}, the log ends at {ends:?}"))
    }
}
