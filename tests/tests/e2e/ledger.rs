//! The simulator's ledger, read back.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::{Context, Result};
use serde_json::Value;

/// What was sent, and what should have become of it. Several runs may have been appended to one file.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Event ids that were acknowledged and belong into bronze.
    pub(crate) bronze: BTreeSet<String>,
    /// Event ids of which nobody can tell.
    pub(crate) unknown: BTreeSet<String>,
    /// Acknowledged records that belong into quarantine.
    pub(crate) quarantine: i64,
    /// Expected verdict by host and rule, of hosts about which the ledger is sure.
    pub(crate) verdicts: BTreeMap<(String, String), String>,
}

impl Ledger {
    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let mut ledger = Self::default();
        for line in text.lines() {
            ledger.take(&serde_json::from_str(line).with_context(|| format!("ledger line {line}"))?);
        }
        Ok(ledger)
    }

    fn take(&mut self, line: &Value) {
        let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        match (text("type").as_str(), text("outcome").as_str(), text("expected").as_str()) {
            ("record", "acknowledged", "bronze") => {
                self.bronze.insert(text("event_id"));
            }
            ("record", "acknowledged", "quarantine") => self.quarantine += 1,
            ("record", "unknown", _) => {
                self.unknown.insert(text("event_id"));
            }
            ("host", ..) if line["unsure"] == false => {
                let host = text("host_id");
                for (rule, verdict) in line["verdicts"].as_object().into_iter().flatten() {
                    let verdict = verdict.as_str().unwrap_or_default().to_owned();
                    self.verdicts.insert((host.clone(), rule.clone()), verdict);
                }
            }
            _ => {}
        }
    }

    /// Hosts that should be in breach, with the rule.
    pub(crate) fn breaches(&self) -> BTreeSet<(String, String)> {
        let failing = self.verdicts.iter().filter(|(_, verdict)| *verdict == "fail");
        failing.map(|(key, _)| key.clone()).collect()
    }
}
