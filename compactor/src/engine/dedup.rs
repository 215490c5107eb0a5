//! Finding repeats: rows that agree with an earlier, kept row in the key and lie within a time of it.
//!
//! "Earlier" is the order in which rows came in, which only grows from run to run, so that a row is judged by the same
//! predecessors in an increment as in a full rebuild. Keys and times are sorted by the engine (spilling if need be); only
//! the repeats themselves are held in memory.

use std::{collections::HashSet, sync::Arc};

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray},
        compute::{cast, filter_record_batch},
        datatypes::DataType,
        error::ArrowError,
    },
    catalog::TableProvider,
    error::Result,
    prelude::SessionContext,
};
use futures::StreamExt;

use super::{
    columns::{integers, micros},
    quoted,
};
use crate::Dedup;

/// Which rows to leave out.
#[derive(Debug, Default)]
pub(crate) struct Repeats {
    rows: HashSet<RowId>,
}

/// A row's key, time and order: unique among rows that have a key at all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct RowId {
    key: Vec<String>,
    time_us: i64,
    order: Vec<i64>,
}

/// The columns of a batch that a dedup looks at.
struct Columns {
    key: Vec<StringArray>,
    time: Int64Array,
    order: Vec<Int64Array>,
}

impl Columns {
    fn of(dedup: &Dedup, batch: &RecordBatch) -> Result<Self, ArrowError> {
        let column = |name: &String| -> Result<&ArrayRef, ArrowError> {
            batch
                .column_by_name(name)
                .ok_or_else(|| ArrowError::SchemaError(format!("dedup: no column '{name}'")))
        };
        let text = |name| Ok(cast(column(name)?, &DataType::Utf8)?.as_string::<i32>().clone());
        Ok(Self {
            key: dedup.key.iter().map(text).collect::<Result<_, ArrowError>>()?,
            time: micros(column(&dedup.time)?)?,
            order: dedup.order.iter().map(|name| integers(column(name)?)).collect::<Result<_, _>>()?,
        })
    }

    /// The row's id; none where key, time or order is null: such a row repeats nothing.
    fn id(&self, row: usize) -> Option<RowId> {
        let nulls = self.key.iter().any(|column| column.is_null(row))
            || self.time.is_null(row)
            || self.order.iter().any(|column| column.is_null(row));
        (!nulls).then(|| RowId {
            key: self.key.iter().map(|column| column.value(row).to_owned()).collect(),
            time_us: self.time.value(row),
            order: self.order.iter().map(|column| column.value(row)).collect(),
        })
    }
}

impl Repeats {
    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The batch without its repeats.
    pub(crate) fn remove_from(&self, dedup: &Dedup, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        if self.rows.is_empty() {
            return Ok(batch.clone());
        }
        let columns = Columns::of(dedup, batch)?;
        let keep: BooleanArray = (0..batch.num_rows())
            .map(|row| Some(columns.id(row).is_none_or(|id| !self.rows.contains(&id))))
            .collect();
        filter_record_batch(batch, &keep)
    }
}

/// Times of the kept rows of one key.
#[derive(Default)]
struct KeptTimes {
    key: Vec<String>,
    times_us: Vec<i64>,
}

impl KeptTimes {
    /// Whether the row repeats a kept one; if not it is kept itself.
    fn repeats(&mut self, row: &RowId, within_us: i64) -> bool {
        if self.key != row.key {
            self.key.clone_from(&row.key);
            self.times_us.clear();
        }
        let repeats = self.times_us.iter().any(|kept| (row.time_us - kept).abs() < within_us);
        if !repeats {
            self.times_us.push(row.time_us);
        }
        repeats
    }
}

/// Repeats among `increment`'s rows, given the rows that were kept before. Both have the columns of `dedup`.
pub(crate) async fn find_repeats(
    session: &SessionContext,
    dedup: &Dedup,
    increment: Arc<dyn TableProvider>,
    kept: Option<Arc<dyn TableProvider>>,
) -> Result<Repeats> {
    let names: Vec<_> =
        dedup.key.iter().chain([&dedup.time]).chain(&dedup.order).map(|name| quoted(name)).collect();
    let (names, time) = (names.join(", "), quoted(&dedup.time));
    session.register_table("firn_candidates", increment)?;
    let mut rows = format!("SELECT {names}, 1 AS firn_new FROM firn_candidates");
    if let Some(kept) = kept {
        session.register_table("firn_kept", kept)?;
        if let Some((low, high)) = reach(session, dedup).await? {
            rows.push_str(&format!(
                " UNION ALL SELECT {names}, 0 AS firn_new FROM firn_kept WHERE {time} > {low} AND {time} < {high}"
            ));
        }
    }
    let sort: Vec<_> = dedup
        .key
        .iter()
        .map(|name| quoted(name))
        .chain(["firn_new".to_owned()])
        .chain(dedup.order.iter().map(|name| quoted(name)))
        .collect();
    let present: Vec<_> = dedup.key.iter().map(|name| format!("{} IS NOT NULL", quoted(name))).collect();
    let sql = format!("SELECT * FROM ({rows}) WHERE {} ORDER BY {}", present.join(" AND "), sort.join(", "));
    let mut stream = session.sql(&sql).await?.execute_stream().await?;
    let within_us = i64::try_from(dedup.within.as_micros()).unwrap_or(i64::MAX);
    let (mut repeats, mut kept) = (Repeats::default(), KeptTimes::default());
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        let columns = Columns::of(dedup, &batch)?;
        let is_new = integers(batch.column(batch.num_columns() - 1))?;
        for row in 0..batch.num_rows() {
            let Some(id) = columns.id(row) else { continue };
            if is_new.value(row) == 0 {
                kept.keep(&id);
            } else if kept.repeats(&id, within_us) {
                repeats.rows.insert(id);
            }
        }
    }
    Ok(repeats)
}

impl KeptTimes {
    /// A row that was kept in an earlier run.
    fn keep(&mut self, row: &RowId) {
        if self.key != row.key {
            self.key.clone_from(&row.key);
            self.times_us.clear();
        }
        self.times_us.push(row.time_us);
    }
}

/// The times between which a kept row can matter to a candidate, as SQL literals.
async fn reach(session: &SessionContext, dedup: &Dedup) -> Result<Option<(String, String)>> {
    let time = quoted(&dedup.time);
    let sql = format!("SELECT min({time}) AS low, max({time}) AS high FROM firn_candidates");
    let found = session.sql(&sql).await?.collect().await?;
    let Some(batch) = found.iter().find(|batch| batch.num_rows() == 1) else { return Ok(None) };
    let (low, high) = (micros(batch.column(0))?, micros(batch.column(1))?);
    if low.is_null(0) {
        return Ok(None);
    }
    let within_us = i64::try_from(dedup.within.as_micros()).unwrap_or(i64::MAX);
    let literal = |us: i64| {
        chrono::DateTime::from_timestamp_micros(us)
            .map(|instant| format!("TIMESTAMP '{}'", instant.format("%Y-%m-%dT%H:%M:%S%.6fZ")))
    };
    let low = literal(low.value(0).saturating_sub(within_us));
    Ok(low.zip(literal(high.value(0).saturating_add(within_us))))
}
