//! What rules would have told over the lake's history, with the whole life of a finding: grace, windows, silence.
//!
//! Hosts are replayed one after another, each in the order of receipt, as the stream judges them. People's commands and retirement
//! are not replayed: they belong to what happened, not to the rules.

use std::collections::{BTreeMap, BTreeSet};

use arrow::{
    array::{Array, AsArray, Int64Array, RecordBatch, StringArray},
    compute::cast,
    datatypes::{DataType, Int64Type, TimeUnit},
    error::ArrowError,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    CompiledRule, FindingStatus, Observation, Order, RECORD_COLUMNS, Standing, Told, Verdict, WindowSamples,
};

/// A finding from its opening to its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Episode {
    /// Rule.
    pub rule_id: String,
    /// Host.
    pub host_id: String,
    /// Its name at the end.
    pub hostname: Option<String>,
    /// Its organisation at the end.
    pub organization_id: Option<String>,
    /// When it opened, microseconds since the epoch.
    pub opened_us: i64,
    /// When it was over; none if it still is open.
    pub resolved_us: Option<i64>,
    /// The values that decided.
    pub evidence: Value,
}

/// All that a replay found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Findings {
    /// By host, then in the order they opened.
    pub episodes: Vec<Episode>,
    /// Records replayed.
    pub records: u64,
    /// Hosts replayed.
    pub hosts: u64,
    /// Breaches within their grace at the end, by rule.
    pub pending: BTreeMap<String, u64>,
    /// First run-time error by rule: such records had no result.
    pub errors: BTreeMap<String, String>,
}

impl Findings {
    /// Takes in what was found of other hosts.
    pub fn add(&mut self, other: Self) {
        self.episodes.extend(other.episodes);
        self.records += other.records;
        self.hosts += other.hosts;
        for (rule, count) in other.pending {
            *self.pending.entry(rule).or_default() += count;
        }
        for (rule, error) in other.errors {
            self.errors.entry(rule).or_insert(error);
        }
    }

    /// Puts episodes of hosts that were replayed beside each other in order.
    pub fn sort(&mut self) {
        // A stable one: those of a host are in the order they opened.
        self.episodes.sort_by(|a, b| a.host_id.cmp(&b.host_id));
    }
}

/// A host as a replay left it.
#[derive(Clone, Debug)]
pub struct ReplayedHost {
    /// Host.
    pub host_id: String,
    /// Its name, as last reported.
    pub hostname: Option<String>,
    /// Its organisation, as last reported.
    pub organization_id: Option<String>,
    /// Its newest record.
    pub order: Order,
    /// By rule.
    pub standings: Vec<Standing>,
}

/// A replay under way.
pub struct Backtest {
    rules: Vec<CompiledRule>,
    end_us: i64,
    host: Option<Host>,
    found: Findings,
    /// Hosts that are through, if anyone wants them.
    ended: Option<Vec<ReplayedHost>>,
}

/// The host at hand.
struct Host {
    id: String,
    hostname: Option<String>,
    organization_id: Option<String>,
    order: Option<Order>,
    /// By rule.
    standings: Vec<Standing>,
    /// Opened and not over, by rule: place in the episodes.
    open: Vec<Option<usize>>,
}

/// A batch with what every rule says of it.
struct Judged {
    batch: RecordBatch,
    texts: [StringArray; 3],
    order: [Int64Array; 4],
    verdicts: Vec<Vec<Verdict>>,
    samples: Vec<Option<WindowSamples>>,
}

impl Backtest {
    /// Nothing replayed yet; time ends at `end_us`.
    #[must_use]
    pub fn new(rules: Vec<CompiledRule>, end_us: i64) -> Self {
        Self { rules, end_us, host: None, found: Findings::default(), ended: None }
    }

    /// The same, for how hosts stand after their last record: time goes no further.
    #[must_use]
    pub fn of_hosts(rules: Vec<CompiledRule>) -> Self {
        Self { ended: Some(Vec::new()), ..Self::new(rules, i64::MIN) }
    }

    /// Hosts that are through since the last call, of a replay that was made for them.
    pub fn take_hosts(&mut self) -> Vec<ReplayedHost> {
        self.ended.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Ends the host at hand: nothing more comes of it.
    pub fn end_host(&mut self) {
        let Some(mut host) = self.host.take() else { return };
        host.pass(&self.rules, self.end_us, &mut self.found);
        for (rule, standing) in self.rules.iter().zip(&host.standings) {
            if standing.finding.as_ref().is_some_and(|finding| finding.status == FindingStatus::Pending) {
                *self.found.pending.entry(rule.policy.id.clone()).or_default() += 1;
            }
        }
        self.found.hosts += 1;
        if let (Some(ended), Some(order)) = (&mut self.ended, host.order) {
            // Nobody asks for their stories.
            self.found.episodes.clear();
            ended.push(ReplayedHost {
                host_id: host.id,
                hostname: host.hostname,
                organization_id: host.organization_id,
                order,
                standings: host.standings,
            });
        }
    }

    /// Columns to read.
    #[must_use]
    pub fn columns(&self) -> BTreeSet<String> {
        let of_rules = self.rules.iter().flat_map(|rule| rule.columns.iter().cloned());
        of_rules.chain(RECORD_COLUMNS.map(ToOwned::to_owned)).collect()
    }

    /// Replays records, which must come by host, each host's in the order that [`crate::ByReceipt`] brings them into.
    pub fn add(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        let judged = self.judge(batch)?;
        for row in 0..batch.num_rows() {
            let id = judged.texts[0].value(row);
            if self.host.as_ref().is_none_or(|host| host.id != id) {
                self.end_host();
                self.host = Some(Host::new(id, self.rules.len()));
            }
            if let Some(mut host) = self.host.take() {
                host.record(&self.rules, &judged, row, &mut self.found);
                self.host = Some(host);
            }
        }
        self.found.records += batch.num_rows() as u64;
        Ok(())
    }

    /// All that was found.
    #[must_use]
    pub fn finish(mut self) -> Findings {
        self.end_host();
        self.found
    }

    fn judge(&mut self, batch: &RecordBatch) -> Result<Judged, ArrowError> {
        let (mut verdicts, mut samples) = (Vec::new(), Vec::new());
        for rule in &self.rules {
            let (evaluation, error) = rule.evaluate(batch);
            let (sampled, failed) = rule.samples(batch).unzip();
            if let Some(error) = error.or(failed.flatten()) {
                self.found.errors.entry(rule.policy.id.clone()).or_insert(error);
            }
            verdicts.push(evaluation.verdicts);
            samples.push(sampled);
        }
        let column = |name: &str, data_type: &DataType| {
            let missing = || ArrowError::SchemaError(format!("the records lack the column '{name}'"));
            cast(batch.column_by_name(name).ok_or_else(missing)?, data_type)
        };
        let text =
            |name: &str| Ok::<_, ArrowError>(column(name, &DataType::Utf8)?.as_string::<i32>().clone());
        let whole = |name: &str| {
            Ok::<_, ArrowError>(column(name, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
        };
        let instant = |name: &str| {
            let micros = column(name, &DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())))?;
            Ok::<_, ArrowError>(cast(&micros, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
        };
        Ok(Judged {
            texts: [text("host_id")?, text("hostname")?, text("organization_id")?],
            order: [
                instant("event_time")?,
                instant("received_at")?,
                whole("log_partition")?,
                whole("log_offset")?,
            ],
            verdicts,
            samples,
            batch: batch.clone(),
        })
    }
}

impl Judged {
    fn order(&self, row: usize) -> Order {
        let [event_time, received_at, partition, offset] = &self.order;
        let partition = i32::try_from(partition.value(row)).unwrap_or(i32::MAX);
        (event_time.value(row), received_at.value(row), partition, offset.value(row))
    }

    fn text(&self, at: usize, row: usize) -> Option<String> {
        self.texts[at].is_valid(row).then(|| self.texts[at].value(row).to_owned())
    }
}

impl Host {
    fn new(id: &str, rules: usize) -> Self {
        Self {
            id: id.to_owned(),
            hostname: None,
            organization_id: None,
            order: None,
            standings: vec![Standing::default(); rules],
            open: vec![None; rules],
        }
    }

    fn record(&mut self, rules: &[CompiledRule], judged: &Judged, row: usize, found: &mut Findings) {
        let order = judged.order(row);
        self.pass(rules, order.1, found);
        let dropped = self.order.is_some_and(|newest| order <= newest);
        let after = self.order.unwrap_or((i64::MIN, i64::MIN, 0, 0));
        if !dropped {
            self.order = Some(order);
            (self.hostname, self.organization_id) = (judged.text(1, row), judged.text(2, row));
        }
        for (at, rule) in rules.iter().enumerate() {
            let (standing, mut told) = (&mut self.standings[at], Vec::new());
            standing.received_us = standing.received_us.max(Some(order.1));
            if let Some(samples) = &judged.samples[at] {
                standing.sample(rule, order, samples, row);
            }
            standing.alive(rule, order.1, &mut told);
            if !dropped && rule.policy.is_per_record() {
                let seen = Observation { verdict: judged.verdicts[at][row], order };
                let evidence = || rule.evidence(&judged.batch, row).to_string();
                standing.record(rule, seen, after, evidence, &mut told);
            }
            self.take(at, rule, told, found);
        }
    }

    fn pass(&mut self, rules: &[CompiledRule], time_us: i64, found: &mut Findings) {
        for (at, rule) in rules.iter().enumerate() {
            let mut told = Vec::new();
            self.standings[at].pass(rule, time_us, &mut told);
            self.take(at, rule, told, found);
        }
    }

    fn take(&mut self, at: usize, rule: &CompiledRule, told: Vec<Told>, found: &mut Findings) {
        for Told { transition, evidence, .. } in told {
            match transition.to {
                FindingStatus::Open => {
                    self.open[at] = Some(found.episodes.len());
                    found.episodes.push(Episode {
                        rule_id: rule.policy.id.clone(),
                        host_id: self.id.clone(),
                        hostname: self.hostname.clone(),
                        organization_id: self.organization_id.clone(),
                        opened_us: transition.at_us,
                        resolved_us: None,
                        evidence: evidence
                            .and_then(|text| serde_json::from_str(&text).ok())
                            .unwrap_or_default(),
                    });
                }
                FindingStatus::Resolved => {
                    let episode = self.open[at].take().and_then(|place| found.episodes.get_mut(place));
                    if let Some(episode) = episode {
                        episode.resolved_us = Some(transition.at_us);
                    }
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
