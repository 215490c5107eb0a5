//! `kill -9` of a process that writes to an embedded log: what it saw acknowledged is there, transactions are whole.
//!
//! Without a test harness, since the same executable is also the process to be killed.
#![allow(clippy::unwrap_used)]

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use firn_stream::{EmbeddedConfig, EmbeddedLog, Log, ProduceRecord, Record, TopicPartition, TopicSpec};

/// How often the writer is killed, and how many acknowledgements it gives before.
const ROUNDS: usize = 5;
const ACKNOWLEDGED_PER_ROUND: usize = 40;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.as_slice() {
        [_, mode, path] if mode == "write" => runtime.block_on(write_until_killed(Path::new(path))),
        _ => runtime.block_on(killed_writers_lose_nothing_acknowledged()),
    }
}

async fn killed_writers_lose_nothing_acknowledged() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("log.db");
    let mut acknowledged: Vec<String> = Vec::new();
    for round in 0..ROUNDS {
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .arg("write")
            .arg(&path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(writer.stdout.take().unwrap());
        // A different number each round, so that the kill comes at different moments.
        for line in output.lines().take(ACKNOWLEDGED_PER_ROUND + round) {
            acknowledged.push(line.unwrap());
        }
        writer.kill().unwrap();
        writer.wait().unwrap();

        let log = EmbeddedLog::open(EmbeddedConfig::new(&path)).unwrap();
        let (appended, left, right) =
            (all(&log, "appended").await, all(&log, "left").await, all(&log, "right").await);
        let wanted: Vec<String> = (1..=appended.len()).map(|number| number.to_string()).collect();
        assert_eq!(appended, wanted, "each once, in order");
        assert_eq!(left, right, "a transaction is in both topics or in none");
        for number in &acknowledged {
            assert!(
                appended.contains(number) && left.contains(number),
                "{number} was acknowledged and is lost"
            );
        }
    }
    assert!(acknowledged.len() >= ROUNDS * ACKNOWLEDGED_PER_ROUND);
}

/// Appends numbers, one more each time also in a transaction, and prints each when both are acknowledged.
async fn write_until_killed(path: &Path) {
    let log = EmbeddedLog::open(EmbeddedConfig::new(path)).unwrap();
    for name in ["appended", "left", "right"] {
        let spec = TopicSpec { name: name.to_owned(), partitions: 1, compacted: false, retention: None };
        log.ensure_topic(&spec).await.unwrap();
    }
    let mut producer = log.transactional("writer").await.unwrap();
    let mut stdout = std::io::stdout();
    for number in log.offsets("appended").await.unwrap()[0].end + 1.. {
        log.append(vec![record("appended", number)]).await.remove(0).unwrap();
        producer.commit(vec![record("left", number), record("right", number)], &[], None).await.unwrap();
        writeln!(stdout, "{number}").unwrap();
        stdout.flush().unwrap();
    }
}

fn record(topic: &str, number: i64) -> ProduceRecord {
    ProduceRecord {
        topic: topic.to_owned(),
        key: None,
        partition: Some(0),
        value: Some(number.to_string().into()),
        headers: Vec::new(),
    }
}

async fn all(log: &EmbeddedLog, topic: &str) -> Vec<String> {
    let from = TopicPartition { topic: topic.to_owned(), partition: 0 };
    let records = log.read(&from, 0, usize::MAX, Duration::ZERO).await.unwrap();
    records
        .iter()
        .map(|Record { value, .. }| String::from_utf8_lossy(value.as_deref().unwrap()).into_owned())
        .collect()
}
