//! Rules over windows of event time, host by host.
//!
//! A sample belongs to each window that its event time lies in, unless it was received later than the window's end plus the
//! allowed lateness: whether it counts follows from the record alone, not from what else a partition holds or from when it
//! is computed. Once a partition's time has passed that instant the window closes and is judged, at its own end.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, new_null_array},
    compute::{cast, concat},
    datatypes::{DataType, Field, Int64Type, SchemaRef},
    temporal_conversions::timestamp_us_to_datetime,
};
use datafusion::physical_plan::PhysicalExpr;
use serde_json::{Map, Value, json};

use crate::{CompiledRule, Verdict, WindowSpec};

/// What an aggregate computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    Avg,
    Sum,
    Min,
    Max,
    Count,
}

impl Function {
    pub(crate) fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "avg" | "mean" => Self::Avg,
            "sum" => Self::Sum,
            "min" => Self::Min,
            "max" => Self::Max,
            "count" => Self::Count,
            _ => return None,
        })
    }
}

/// One aggregate of a rule.
#[derive(Clone, Debug)]
pub(crate) struct Aggregate {
    /// As written in the rule.
    pub(crate) name: String,
    pub(crate) function: Function,
    /// What it reads; none counts every record.
    pub(crate) argument: Option<Arc<dyn PhysicalExpr>>,
}

impl Aggregate {
    pub(crate) fn field(&self) -> Field {
        let data_type = if self.function == Function::Avg { DataType::Float64 } else { DataType::Int64 };
        Field::new(&self.name, data_type, true)
    }

    fn total(&self, tally: &Tally) -> ArrayRef {
        let some = tally.count > 0;
        let whole = |value: i64| -> ArrayRef { Arc::new(Int64Array::from(vec![some.then_some(value)])) };
        match self.function {
            // Exact below 2^53, and the same everywhere beyond.
            Function::Avg => {
                Arc::new(Float64Array::from(vec![some.then(|| tally.sum as f64 / tally.count as f64)]))
            }
            Function::Sum => whole(tally.sum),
            Function::Min => whole(tally.min),
            Function::Max => whole(tally.max),
            Function::Count => Arc::new(Int64Array::from(vec![tally.count.cast_signed()])),
        }
    }
}

/// What an aggregate has seen in a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Samples.
    pub count: u64,
    /// Their sum; it stays at the ends of the range rather than to wrap.
    pub sum: i64,
    /// The least.
    pub min: i64,
    /// The largest.
    pub max: i64,
}

impl Tally {
    fn add(&mut self, value: i64) {
        (self.min, self.max) =
            if self.count == 0 { (value, value) } else { (self.min.min(value), self.max.max(value)) };
        self.sum = self.sum.saturating_add(value);
        self.count += 1;
    }
}

/// What is kept per host and window rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WindowState {
    /// Of the revision that it was gathered for; another one starts anew.
    pub revision: u64,
    /// Windows in a row that were in breach, up to the last one that closed.
    pub in_breach: u32,
    /// Start of the last window that closed, microseconds since the epoch.
    pub closed_us: Option<i64>,
    /// Windows that may still get samples, by their start; a tally per aggregate.
    pub open: BTreeMap<i64, Vec<Tally>>,
}

/// A window that is over, with what it says.
#[derive(Clone, Debug, PartialEq)]
pub struct ClosedWindow {
    /// Its end, microseconds since the epoch: the instant that it says something about.
    pub end_us: i64,
    /// The rule's verdict after it: a breach only once enough windows in a row were.
    pub verdict: Verdict,
    /// Its bounds and totals.
    pub evidence: Value,
}

/// What a batch of records brings to a window rule.
#[derive(Clone, Debug)]
pub struct WindowSamples {
    /// By aggregate, then by row.
    columns: Vec<Int64Array>,
}

impl WindowSamples {
    fn has_any(&self, row: usize) -> bool {
        self.columns.iter().any(|column| column.is_valid(row))
    }
}

/// A compiled rule over windows.
#[derive(Clone, Debug)]
pub struct WindowRule {
    size_us: i64,
    slide_us: i64,
    lateness_us: i64,
    in_a_row: u32,
    revision: u64,
    aggregates: Vec<Aggregate>,
    /// Invariant: the fields are the aggregates, in order.
    totals: SchemaRef,
    verdict: Arc<dyn PhysicalExpr>,
}

fn micros(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000)
}

impl WindowRule {
    pub(crate) fn new(
        spec: &WindowSpec,
        revision: &str,
        aggregates: Vec<Aggregate>,
        totals: SchemaRef,
        verdict: Arc<dyn PhysicalExpr>,
    ) -> Self {
        Self {
            size_us: micros(spec.size_s),
            slide_us: micros(spec.slide_s.unwrap_or(spec.size_s)).max(1),
            lateness_us: micros(spec.lateness_s),
            in_a_row: spec.in_a_row.max(1),
            revision: u64::from_str_radix(revision, 16).unwrap_or_default(),
            aggregates,
            totals,
            verdict,
        }
    }

    /// How long after its end a window still takes samples, microseconds.
    #[must_use]
    pub fn lateness_us(&self) -> i64 {
        self.lateness_us
    }

    /// An empty state.
    #[must_use]
    pub fn start(&self) -> WindowState {
        WindowState { revision: self.revision, ..WindowState::default() }
    }

    /// Whether a state was gathered for this revision of the rule.
    #[must_use]
    pub fn fits(&self, state: &WindowState) -> bool {
        state.revision == self.revision
    }

    /// Adds a record's samples to the windows that its event time lies in. Answers whether it came too late for all.
    pub fn add(
        &self,
        state: &mut WindowState,
        event_time_us: i64,
        received_at_us: i64,
        samples: &WindowSamples,
        row: usize,
    ) -> bool {
        if !samples.has_any(row) {
            return false;
        }
        let mut taken = false;
        let mut start_us = event_time_us - event_time_us.rem_euclid(self.slide_us);
        while start_us + self.size_us > event_time_us {
            let closed = state.closed_us.is_some_and(|closed_us| start_us <= closed_us);
            if !closed && self.closes_us(start_us) > received_at_us {
                let tallies = state.open.entry(start_us).or_default();
                tallies.resize(self.aggregates.len(), Tally::default());
                for (tally, column) in tallies.iter_mut().zip(&samples.columns) {
                    if column.is_valid(row) {
                        tally.add(column.value(row));
                    }
                }
                taken = true;
            }
            start_us -= self.slide_us;
        }
        !taken
    }

    /// Closes the windows that are over at a partition's time, in order.
    pub fn close(&self, state: &mut WindowState, time_us: i64) -> Vec<ClosedWindow> {
        let mut closed = Vec::new();
        while let Some(entry) = state.open.first_entry() {
            let start_us = *entry.key();
            if self.closes_us(start_us) > time_us {
                break;
            }
            let tallies = entry.remove();
            let follows = state.closed_us == Some(start_us - self.slide_us);
            let verdict = self.judge(&tallies);
            state.in_breach = match verdict {
                Verdict::Fail if follows => state.in_breach.saturating_add(1),
                Verdict::Fail => 1,
                Verdict::Pass | Verdict::NoResult => 0,
            };
            state.closed_us = Some(start_us);
            let waits = verdict == Verdict::Fail && state.in_breach < self.in_a_row;
            closed.push(ClosedWindow {
                end_us: start_us + self.size_us,
                verdict: if waits { Verdict::NoResult } else { verdict },
                evidence: self.evidence(start_us, &tallies, state.in_breach),
            });
        }
        closed
    }

    /// When time alone should close windows next. `live` says whether the rule's finding is in breach: if it isn't, windows
    /// that can't complete a row wait for the host's next record, which says the same of them.
    #[must_use]
    pub fn due_us(&self, state: &WindowState, live: bool) -> Option<i64> {
        let open = u32::try_from(state.open.len()).unwrap_or(u32::MAX);
        let may_tell = live || state.in_breach.saturating_add(open) >= self.in_a_row;
        let first = state.open.first_key_value().filter(|_| may_tell)?;
        Some(self.closes_us(*first.0))
    }

    fn closes_us(&self, start_us: i64) -> i64 {
        start_us.saturating_add(self.size_us).saturating_add(self.lateness_us)
    }

    fn totals(&self, tallies: &[Tally]) -> Option<RecordBatch> {
        let totals = self.aggregates.iter().zip(tallies).map(|(aggregate, tally)| aggregate.total(tally));
        RecordBatch::try_new(Arc::clone(&self.totals), totals.collect()).ok()
    }

    /// What one window says by itself; an error at run time (a division by zero) is "no result".
    fn judge(&self, tallies: &[Tally]) -> Verdict {
        let answer =
            self.totals(tallies).and_then(|totals| self.verdict.evaluate(&totals).ok()?.into_array(1).ok());
        match answer.as_ref().and_then(|answer| answer.as_boolean_opt()) {
            Some(answer) if answer.is_valid(0) && answer.value(0) => Verdict::Pass,
            Some(answer) if answer.is_valid(0) => Verdict::Fail,
            _ => Verdict::NoResult,
        }
    }

    fn evidence(&self, start_us: i64, tallies: &[Tally], in_breach: u32) -> Value {
        let mut evidence = Map::new();
        evidence.insert("window_start".to_owned(), instant(start_us));
        evidence.insert("window_end".to_owned(), instant(start_us + self.size_us));
        for (aggregate, tally) in self.aggregates.iter().zip(tallies) {
            let total = aggregate.total(tally);
            let value = match total.as_primitive_opt::<Int64Type>() {
                Some(whole) => whole.iter().next().flatten().map(Value::from),
                None if tally.count > 0 => Some(json!(tally.sum as f64 / tally.count as f64)),
                None => None,
            };
            evidence.insert(aggregate.name.clone(), value.unwrap_or_default());
        }
        evidence.insert("windows_in_breach".to_owned(), json!(in_breach));
        Value::Object(evidence)
    }
}

/// Microseconds since the epoch as RFC 3339, with a fraction only where there is one.
pub(crate) fn instant(instant_us: i64) -> Value {
    let text = timestamp_us_to_datetime(instant_us).map(|at| at.format("%Y-%m-%dT%H:%M:%S%.fZ").to_string());
    text.into()
}

impl CompiledRule {
    /// What a batch brings to a rule over windows, and the first error at run time; `None` for other rules. A row on which
    /// an aggregate's argument fails has no sample.
    #[must_use]
    pub fn samples(&self, batch: &RecordBatch) -> Option<(WindowSamples, Option<String>)> {
        let window = self.window()?;
        let (applies, rows) = (self.applies(batch), batch.num_rows());
        let mut first_error = None;
        let mut columns = Vec::with_capacity(window.aggregates.len());
        let input = match self.input(batch) {
            Ok(input) => input,
            Err(error) => {
                let none = Int64Array::new_null(rows);
                return Some((
                    WindowSamples { columns: vec![none; window.aggregates.len()] },
                    Some(error.to_string()),
                ));
            }
        };
        for aggregate in &window.aggregates {
            let values = match &aggregate.argument {
                None => Int64Array::from(vec![1; rows]),
                Some(argument) => {
                    let (values, error) = values(argument, &input);
                    first_error = first_error.or(error);
                    if aggregate.function == Function::Count {
                        (0..rows).map(|row| values.is_valid(row).then_some(1)).collect()
                    } else {
                        integers(&values)
                    }
                }
            };
            columns.push(
                (0..rows)
                    .map(|row| (applies[row] && values.is_valid(row)).then(|| values.value(row)))
                    .collect(),
            );
        }
        Some((WindowSamples { columns }, first_error))
    }
}

fn integers(values: &ArrayRef) -> Int64Array {
    let whole =
        cast(values, &DataType::Int64).unwrap_or_else(|_| new_null_array(&DataType::Int64, values.len()));
    whole.as_primitive::<Int64Type>().clone()
}

/// An argument's values; where the batch fails as a whole, row by row.
fn values(argument: &Arc<dyn PhysicalExpr>, input: &RecordBatch) -> (ArrayRef, Option<String>) {
    let run = |input: &RecordBatch| argument.evaluate(input)?.into_array(input.num_rows());
    let whole = match run(input) {
        Ok(values) => return (values, None),
        Err(error) => error.strip_backtrace(),
    };
    let data_type = argument.data_type(&input.schema()).unwrap_or(DataType::Int64);
    let each: Vec<ArrayRef> = (0..input.num_rows())
        .map(|row| run(&input.slice(row, 1)).unwrap_or_else(|_| new_null_array(&data_type, 1)))
        .collect();
    let parts: Vec<&dyn Array> = each.iter().map(AsRef::as_ref).collect();
    let values = concat(&parts).unwrap_or_else(|_| new_null_array(&data_type, input.num_rows()));
    (values, Some(whole))
}

#[cfg(test)]
mod tests;
