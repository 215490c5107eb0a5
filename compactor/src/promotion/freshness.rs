//! How long tables lack what their inputs have, and whether that is longer than they may.
//!
//! An output is behind since the oldest commit to one of its inputs that it does not hold, or since its inputs are behind
//! themselves: so gold is behind since the inventory came to bronze. The objective is the model's `freshness`, or the property
//! [`OBJECTIVE`] of its table. A source that nobody but writers from elsewhere fills may have the property, too: it is behind
//! since its newest commit.

use std::collections::{BTreeMap, BTreeSet};

use firn_catalog_client::{TenantClient, iceberg::TableIdent};
use firn_runtime::StageState;
use firn_table::{SnapshotInfo, Table};

use super::{PROMOTION, Promotion, plan::Action, state::Loaded};
use crate::{Model, compactor::now_ms, model::parse_duration};

/// Property of a table with the longest time that it may be behind, such as `10m`.
const OBJECTIVE: &str = "firn.freshness";
/// What maintenance makes: the same rows in other files.
const REWRITE: &str = "replace";

/// How far tables are behind, by name: those with an objective.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Freshness {
    pub(super) tables: BTreeMap<String, Objective>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Objective {
    /// Milliseconds since the epoch; none if nothing lacks.
    pub(super) behind_since_ms: Option<i64>,
    pub(super) longest_ms: i64,
}

impl Objective {
    fn behind_ms(&self, now_ms: i64) -> i64 {
        self.behind_since_ms.map_or(0, |since| now_ms.saturating_sub(since).max(0))
    }

    fn is_missed(&self, now_ms: i64) -> bool {
        self.behind_ms(now_ms) > self.longest_ms
    }
}

/// Gathers freshness along the graph: each model after those that it reads.
#[derive(Default)]
pub(super) struct Gathering {
    freshness: Freshness,
    behind: BTreeMap<TableIdent, i64>,
    seen: BTreeSet<TableIdent>,
}

impl Gathering {
    /// Looks at one model and at the sources that it reads.
    pub(super) fn add(&mut self, model: &Model, loaded: &Loaded, action: &Action) {
        self.seen.insert(model.table.clone());
        for (ident, table) in &loaded.inputs {
            if let (Some(table), true) = (table, self.seen.insert(ident.clone())) {
                let newest = table.current_snapshot().map(|snapshot| snapshot.timestamp_ms);
                self.objective(ident, objective_of(table), newest);
            }
        }
        let inherited = model.inputs.iter().filter_map(|input| self.behind.get(input).copied());
        let own = if matches!(action, Action::Skip(_)) { None } else { lacks_since(loaded) };
        let since = inherited.chain(own).min();
        if let Some(since) = since {
            self.behind.insert(model.table.clone(), since);
        }
        let longest = loaded.output.as_ref().and_then(objective_of).or(model.freshness.map(millis));
        self.objective(&model.table, longest, since);
    }

    fn objective(&mut self, table: &TableIdent, longest_ms: Option<i64>, behind_since_ms: Option<i64>) {
        if let Some(longest_ms) = longest_ms {
            self.freshness.tables.insert(table.to_string(), Objective { behind_since_ms, longest_ms });
        }
    }

    pub(super) fn finish(self) -> Freshness {
        self.freshness
    }
}

fn millis(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn objective_of(table: &Table) -> Option<i64> {
    let text = table.properties().get(OBJECTIVE).cloned()?;
    let parsed = parse_duration(&text);
    if parsed.is_none() {
        tracing::warn!(table = %table.ident(), property = OBJECTIVE, value = text, "table property is no duration, it is passed over");
    }
    parsed.map(millis)
}

/// Time of the oldest commit to an input whose rows the output lacks.
fn lacks_since(loaded: &Loaded) -> Option<i64> {
    let lacks = loaded.inputs.iter().filter_map(|(ident, table)| {
        let name = ident.to_string();
        // Tables that are no position of the output, such as the latest records of rules, don't count.
        loaded.positions.get(&name)?;
        let held = loaded.held.as_ref().and_then(|held| held.inputs.get(&name));
        oldest_unread(&table.as_ref()?.snapshots(), held.map(String::as_str))
    });
    lacks.min()
}

fn oldest_unread(snapshots: &[SnapshotInfo], held: Option<&str>) -> Option<i64> {
    let read = held.and_then(|held| snapshots.iter().position(|snapshot| snapshot.id.to_string() == held));
    let unread = snapshots.iter().skip(read.map_or(0, |index| index + 1));
    unread.filter(|snapshot| snapshot.operation != REWRITE).map(|snapshot| snapshot.timestamp_ms).min()
}

impl Promotion {
    /// Tells metrics and the status board how far the tables with an objective are behind now.
    pub(super) fn report_freshness(&self, client: &TenantClient, freshness: &Freshness) {
        let now_ms = now_ms();
        let mut missed = Vec::new();
        for (table, objective) in &freshness.tables {
            let behind_s = objective.behind_ms(now_ms) / 1_000;
            let is_missed = objective.is_missed(now_ms);
            gauges(client.name(), table, behind_s, is_missed);
            if is_missed {
                let longest_s = objective.longest_ms / 1_000;
                missed.push(format!("{table} is {behind_s} s behind and may be {longest_s} s"));
            }
        }
        self.board.update(PROMOTION, client.name(), |status| {
            if missed.is_empty() {
                status.totals.remove("objectives_missed");
            } else {
                status.totals.insert("objectives_missed".to_owned(), missed.len() as u64);
            }
            if !missed.is_empty() && status.state == StageState::Running {
                status.message = format!("freshness objectives are missed: {}", missed.join(", "));
            }
        });
    }

    /// Takes the place of what was known: tables that have no objective any more miss none.
    pub(super) fn replace_freshness(&self, client: &TenantClient, before: &mut Freshness, now: Freshness) {
        for table in before.tables.keys().filter(|table| !now.tables.contains_key(*table)) {
            gauges(client.name(), table, 0, false);
        }
        *before = now;
    }
}

fn gauges(tenant: &str, table: &str, behind_s: i64, is_missed: bool) {
    let (tenant, table) = (tenant.to_owned(), table.to_owned());
    let behind_s = f64::from(i32::try_from(behind_s).unwrap_or(i32::MAX));
    metrics::gauge!("firn_freshness_behind_seconds", "tenant" => tenant.clone(), "table" => table.clone())
        .set(behind_s);
    metrics::gauge!("firn_freshness_missed", "tenant" => tenant, "table" => table)
        .set(f64::from(u8::from(is_missed)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(id: i64, operation: &str) -> SnapshotInfo {
        SnapshotInfo {
            id,
            parent_id: None,
            sequence_number: id,
            timestamp_ms: id * 1_000,
            operation: operation.to_owned(),
            summary: BTreeMap::new(),
        }
    }

    #[test]
    fn behind_is_since_the_first_commit_that_lacks_and_not_since_a_rewrite() {
        let snapshots =
            [snapshot(1, "append"), snapshot(2, "replace"), snapshot(3, "append"), snapshot(4, "append")];
        assert_eq!(oldest_unread(&snapshots, Some("1")), Some(3_000));
        assert_eq!(oldest_unread(&snapshots, Some("3")), Some(4_000));
        assert_eq!(oldest_unread(&snapshots, Some("4")), None);
        assert_eq!(oldest_unread(&snapshots[..2], Some("1")), None, "the same rows in other files");
        assert_eq!(oldest_unread(&snapshots, None), Some(1_000));
        assert_eq!(oldest_unread(&snapshots, Some("77")), Some(1_000), "what it held has expired");
    }

    #[test]
    fn an_objective_is_missed_by_time_alone() {
        let objective = Objective { behind_since_ms: Some(10_000), longest_ms: 5_000 };
        assert!(!objective.is_missed(15_000) && objective.is_missed(15_001));
        assert_eq!(objective.behind_ms(9_000), 0, "another clock");
        assert!(!Objective { behind_since_ms: None, ..objective }.is_missed(i64::MAX));
    }
}
