//! What was sent and what became of it: JSON lines, appended.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufWriter, Write},
    path::Path,
};

use anyhow::{Context, Result};
use serde::Serialize;

use super::{
    malformed::{Destination, Malformation},
    script::Line,
    verdicts::Verdicts,
};

/// What the server said of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// Accepted, durably.
    Acknowledged,
    /// Not taken.
    Rejected,
    /// Nobody can tell; never sent again.
    Unknown,
}

/// Totals, and what every host should look like at the end.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Summary {
    #[serde(rename = "type")]
    kind: &'static str,
    pub(super) sent: u64,
    pub(super) acknowledged: u64,
    pub(super) rejected: u64,
    pub(super) unknown: u64,
    /// Acknowledged records that belong into `bronze.inventory`.
    pub(super) bronze: u64,
    /// Acknowledged records that belong into `bronze.quarantine`.
    pub(super) quarantine: u64,
    /// Hosts with a record in bronze.
    pub(super) hosts: u64,
    /// Hosts in breach, by rule; hosts whose last record's outcome is unknown are left out.
    pub(super) breaches: BTreeMap<&'static str, u64>,
}

/// The ledger. Without a file it only counts.
pub(super) struct Ledger {
    file: Option<BufWriter<File>>,
    summary: Summary,
    hosts: BTreeMap<String, Host>,
    /// Lines whose upload began and was not recorded: an interrupt came between.
    open: Vec<Entry>,
}

#[derive(Default)]
struct Host {
    last: Option<Verdicts>,
    /// A record with an unknown outcome came after `last`.
    unsure: bool,
}

#[derive(Clone, Serialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: &'static str,
    number: u64,
    event_id: String,
    host_id: String,
    at: String,
    malformed: Option<Malformation>,
    expected: Destination,
    outcome: Outcome,
}

#[derive(Serialize)]
struct HostEntry<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    host_id: &'a str,
    unsure: bool,
    verdicts: BTreeMap<&'static str, &'static str>,
}

/// Proof that an upload was announced.
pub(super) struct Begun(());

impl Ledger {
    pub(super) fn open(path: Option<&Path>) -> Result<Self> {
        let open = |path: &Path| {
            let file = File::options().create(true).append(true).open(path);
            file.with_context(|| format!("the ledger {} can't be written", path.display()))
        };
        let file = path.map(open).transpose()?.map(BufWriter::new);
        let summary = Summary { kind: "summary", ..Summary::default() };
        Ok(Self { file, summary, hosts: BTreeMap::new(), open: Vec::new() })
    }

    /// Before an upload: if it is never recorded, its lines are unknown.
    pub(super) fn begin(&mut self, lines: &[Line]) -> Begun {
        self.open = lines.iter().map(|line| entry(line, Outcome::Unknown)).collect();
        Begun(())
    }

    /// After an upload.
    pub(super) fn record(&mut self, _begun: Begun, lines: &[Line], outcomes: &[Outcome]) -> Result<()> {
        self.open.clear();
        for (line, outcome) in lines.iter().zip(outcomes) {
            self.write(&entry(line, *outcome))?;
            self.count(line.destination(), *outcome);
            if line.destination() == Destination::Bronze {
                let host = self.hosts.entry(line.host_id.clone()).or_default();
                match outcome {
                    Outcome::Acknowledged => *host = Host { last: line.verdicts.clone(), unsure: false },
                    Outcome::Unknown => host.unsure = true,
                    Outcome::Rejected => {}
                }
            }
        }
        self.flush()
    }

    /// Writes the hosts and the summary.
    pub(super) fn close(mut self) -> Result<Summary> {
        for open in std::mem::take(&mut self.open) {
            self.write(&open)?;
            self.count(open.expected, open.outcome);
            self.hosts.entry(open.host_id).or_default().unsure = true;
        }
        for (host_id, host) in std::mem::take(&mut self.hosts) {
            let Some(last) = &host.last else { continue };
            self.summary.hosts += 1;
            let words = |verdict: Option<bool>| match verdict {
                Some(true) => "pass",
                Some(false) => "fail",
                None => "none",
            };
            let verdicts = last.iter().map(|(rule, verdict)| (*rule, words(*verdict))).collect();
            self.write(&HostEntry { kind: "host", host_id: &host_id, unsure: host.unsure, verdicts })?;
            for (rule, _) in last.iter().filter(|(_, verdict)| **verdict == Some(false) && !host.unsure) {
                *self.summary.breaches.entry(rule).or_default() += 1;
            }
        }
        let summary = self.summary.clone();
        self.write(&summary)?;
        self.flush()?;
        Ok(summary)
    }

    fn count(&mut self, destination: Destination, outcome: Outcome) {
        self.summary.sent += 1;
        match outcome {
            Outcome::Acknowledged => self.summary.acknowledged += 1,
            Outcome::Rejected => self.summary.rejected += 1,
            Outcome::Unknown => self.summary.unknown += 1,
        }
        match (outcome, destination) {
            (Outcome::Acknowledged, Destination::Bronze) => self.summary.bronze += 1,
            (Outcome::Acknowledged, Destination::Quarantine) => self.summary.quarantine += 1,
            _ => {}
        }
    }

    fn write<T: Serialize>(&mut self, entry: &T) -> Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        serde_json::to_writer(&mut *file, entry)?;
        Ok(file.write_all(b"\n")?)
    }

    fn flush(&mut self) -> Result<()> {
        self.file.as_mut().map_or(Ok(()), |file| Ok(file.flush()?))
    }
}

fn entry(line: &Line, outcome: Outcome) -> Entry {
    Entry {
        kind: "record",
        number: line.number,
        event_id: line.event_id.clone(),
        host_id: line.host_id.clone(),
        at: line.at.to_rfc3339(),
        malformed: line.malformed,
        expected: line.destination(),
        outcome,
    }
}
