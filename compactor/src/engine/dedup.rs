//! Finding repeats: rows that agree with an earlier, kept row in the key and lie within a time of it.
//!
//! "Earlier" is the order in which rows came in, which only grows from run to run, so that a row is judged by the same
//! predecessors in an increment as in a full rebuild. Nearly all rows are alone with their key, so what may be a repeat is
//! found by hashes first ([`Slots`]); only those rows are sorted by the engine (spilling if need be) and looked at closely. Only
//! the repeats themselves are held in memory.

mod slots;

use std::{collections::HashSet, sync::Arc};

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray},
        compute::{cast, filter_record_batch, max, max_string, min, min_string},
        datatypes::{DataType, TimeUnit},
        error::ArrowError,
    },
    catalog::TableProvider,
    dataframe::DataFrame,
    error::Result,
    logical_expr::{Expr, lit},
    prelude::SessionContext,
    scalar::ScalarValue,
};
use futures::StreamExt;

use super::{
    columns::{integers, micros},
    locate::named,
};
use crate::Dedup;
use slots::{Slots, hash_keys};

/// Column that tells candidates (1) from rows that were kept before (0).
const NEW: &str = "firn_new";

/// Which rows to leave out.
#[derive(Debug, Default)]
pub(crate) struct Repeats {
    rows: HashSet<RowId>,
    /// Hashes of their keys: a row with another one is none of them.
    hashes: HashSet<u64>,
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

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, ArrowError> {
    batch.column_by_name(name).ok_or_else(|| ArrowError::SchemaError(format!("dedup: no column '{name}'")))
}

fn texts(batch: &RecordBatch, names: &[String]) -> Result<Vec<StringArray>, ArrowError> {
    let text = |name: &String| Ok(cast(column(batch, name)?, &DataType::Utf8)?.as_string::<i32>().clone());
    names.iter().map(text).collect()
}

impl Columns {
    fn of(dedup: &Dedup, batch: &RecordBatch) -> Result<Self, ArrowError> {
        let order = dedup.order.iter().map(|name| integers(column(batch, name)?));
        Ok(Self {
            key: texts(batch, &dedup.key)?,
            time: micros(column(batch, &dedup.time)?)?,
            order: order.collect::<Result<_, _>>()?,
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
        let hashes = hash_keys(&texts(batch, &dedup.key)?, batch.num_rows())?;
        if !hashes.iter().any(|hash| self.hashes.contains(hash)) {
            return Ok(batch.clone());
        }
        let columns = Columns::of(dedup, batch)?;
        let is_repeat = |row: usize| columns.id(row).is_some_and(|id| self.rows.contains(&id));
        let keep =
            hashes.iter().enumerate().map(|(row, hash)| !(self.hashes.contains(hash) && is_repeat(row)));
        filter_record_batch(batch, &BooleanArray::from(keep.collect::<Vec<_>>()))
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
        self.turn_to(row);
        let repeats = self.times_us.iter().any(|kept| (row.time_us - kept).abs() < within_us);
        if !repeats {
            self.times_us.push(row.time_us);
        }
        repeats
    }

    /// A row that was kept in an earlier run.
    fn keep(&mut self, row: &RowId) {
        self.turn_to(row);
        self.times_us.push(row.time_us);
    }

    fn turn_to(&mut self, row: &RowId) {
        if self.key != row.key {
            self.key.clone_from(&row.key);
            self.times_us.clear();
        }
    }
}

/// Repeats among `increment`'s rows, about `rows` of them, given the rows that were kept before. Both have the columns of
/// `dedup`.
pub(crate) async fn find_repeats(
    session: &SessionContext,
    dedup: &Dedup,
    (increment, rows): (Arc<dyn TableProvider>, u64),
    kept: Option<Arc<dyn TableProvider>>,
) -> Result<Repeats> {
    let candidates = session.read_table(increment)?;
    let (slots, reach) = occupied(dedup, candidates.clone(), Slots::for_rows(rows)).await?;
    let Some(reach) = reach else { return Ok(Repeats::default()) };
    let suspects = match kept {
        // Only rows that share their slot can have the same key.
        None => only(dedup, candidates, Some(slots.shared(&dedup.key)), 1)?,
        Some(kept) => {
            let near = reach.holds(session, dedup, &kept)?.and(slots.taken(&dedup.key));
            let kept = only(dedup, session.read_table(kept)?, Some(near), 0)?;
            only(dedup, candidates, None, 1)?.union(kept)?
        }
    };
    look_closely(dedup, suspects).await
}

/// The columns that a dedup looks at, of the rows for which `filter` is true.
fn only(dedup: &Dedup, rows: DataFrame, filter: Option<Expr>, new: i64) -> Result<DataFrame> {
    let present = dedup.key.iter().map(|name| named(name).is_not_null());
    let rows = present.chain(filter).try_fold(rows, DataFrame::filter)?;
    let mut columns: Vec<_> = dedup.key.iter().map(|name| text(name)).collect();
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    columns.push(datafusion::logical_expr::cast(named(&dedup.time), utc).alias(&dedup.time));
    let integer = |name: &String| datafusion::logical_expr::cast(named(name), DataType::Int64).alias(name);
    columns.extend(dedup.order.iter().map(integer));
    columns.push(lit(new).alias(NEW));
    rows.select(columns)
}

fn text(name: &str) -> Expr {
    datafusion::logical_expr::cast(named(name), DataType::Utf8).alias(name)
}

/// Repeats among rows in the order of their keys, kept ones first.
async fn look_closely(dedup: &Dedup, suspects: DataFrame) -> Result<Repeats> {
    let order =
        dedup.key.iter().map(String::as_str).chain([NEW]).chain(dedup.order.iter().map(String::as_str));
    let sorted = suspects.sort(order.map(|name| named(name).sort(true, true)).collect())?;
    let mut stream = sorted.execute_stream().await?;
    let within_us = within_us(dedup);
    let (mut repeats, mut kept) = (Repeats::default(), KeptTimes::default());
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        let columns = Columns::of(dedup, &batch)?;
        let hashes = hash_keys(&columns.key, batch.num_rows())?;
        let is_new = integers(batch.column(batch.num_columns() - 1))?;
        for (row, hash) in hashes.into_iter().enumerate() {
            let Some(id) = columns.id(row) else { continue };
            if is_new.value(row) == 0 {
                kept.keep(&id);
            } else if kept.repeats(&id, within_us) {
                repeats.hashes.insert(hash);
                repeats.rows.insert(id);
            }
        }
    }
    Ok(repeats)
}

fn within_us(dedup: &Dedup) -> i64 {
    i64::try_from(dedup.within.as_micros()).unwrap_or(i64::MAX)
}

/// Within which bounds some rows are.
struct Reach {
    /// The first and the last time, microseconds since the epoch.
    times_us: (i64, i64),
    /// The least and the greatest value of each column of the key.
    keys: Vec<(String, String)>,
}

impl Reach {
    /// Of rows with their key and their times; none if no row has all of them.
    fn of(key: &[StringArray], times: &Int64Array) -> Option<Self> {
        let ends =
            |column: &StringArray| Some((min_string(column)?.to_owned(), max_string(column)?.to_owned()));
        Some(Self {
            times_us: (min(times)?, max(times)?),
            keys: key.iter().map(ends).collect::<Option<_>>()?,
        })
    }

    fn and(mut self, other: Self) -> Self {
        self.times_us = (self.times_us.0.min(other.times_us.0), self.times_us.1.max(other.times_us.1));
        for (known, more) in self.keys.iter_mut().zip(other.keys) {
            *known = (std::mem::take(&mut known.0).min(more.0), std::mem::take(&mut known.1).max(more.1));
        }
        self
    }

    /// True for kept rows that can matter to the candidates. Files and row groups without any need not be read: those that are
    /// older than the dedup reaches, and nearly all where keys grow with time.
    fn holds(&self, session: &SessionContext, dedup: &Dedup, kept: &Arc<dyn TableProvider>) -> Result<Expr> {
        let within_us = within_us(dedup);
        let kept = session.read_table(Arc::clone(kept))?;
        let type_of = |name: &str| -> Result<DataType> {
            Ok(kept.schema().field_with_unqualified_name(name)?.data_type().clone())
        };
        let time = type_of(&dedup.time)?;
        let instant = |us: i64| -> Result<Expr> {
            let exact = ScalarValue::TimestampMicrosecond(Some(us), Some("UTC".into()));
            Ok(lit(exact.cast_to(&time)?))
        };
        let low = named(&dedup.time).gt(instant(self.times_us.0.saturating_sub(within_us))?);
        let mut near = low.and(named(&dedup.time).lt(instant(self.times_us.1.saturating_add(within_us))?));
        for (name, (least, greatest)) in dedup.key.iter().zip(&self.keys) {
            // Other types have another order than their texts.
            if type_of(name)? == DataType::Utf8 {
                near = near.and(named(name).between(lit(least), lit(greatest)));
            }
        }
        Ok(near)
    }
}

/// The slots of the rows' keys, and their bounds; none if no row has a key.
async fn occupied(dedup: &Dedup, rows: DataFrame, mut slots: Slots) -> Result<(Slots, Option<Reach>)> {
    let columns: Vec<_> = dedup.key.iter().map(|name| text(name)).chain([named(&dedup.time)]).collect();
    let mut stream = rows.select(columns)?.execute_stream().await?;
    let mut reach: Option<Reach> = None;
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        let key = texts(&batch, &dedup.key)?;
        slots.take(&key, batch.num_rows())?;
        if let Some(more) = Reach::of(&key, &micros(column(&batch, &dedup.time)?)?) {
            reach = Some(match reach {
                Some(known) => known.and(more),
                None => more,
            });
        }
    }
    Ok((slots, reach))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use datafusion::{
        arrow::{array::TimestampMicrosecondArray, compute::concat_batches},
        catalog::MemTable,
    };
    use proptest::prelude::{ProptestConfig, prop_assert_eq, proptest};

    use super::*;

    const DAY: i64 = 86_400_000_000;

    fn dedup() -> Dedup {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Dedup {
            key: names(&["host_id", "event_id"]),
            within: Duration::from_secs(7 * 86_400),
            time: "received_at".to_owned(),
            order: names(&["log_offset"]),
        }
    }

    /// Rows of offset, event (none: 0) and day.
    fn batch(rows: &[(i64, u8, i64)]) -> RecordBatch {
        let hosts: StringArray = rows.iter().map(|_| Some("h")).collect();
        let events: StringArray = rows.iter().map(|row| (row.1 > 0).then(|| row.1.to_string())).collect();
        let times = TimestampMicrosecondArray::from_iter_values(rows.iter().map(|row| row.2 * DAY));
        let columns: [(&str, ArrayRef); 4] = [
            ("host_id", Arc::new(hosts)),
            ("event_id", Arc::new(events)),
            ("received_at", Arc::new(times.with_timezone("UTC"))),
            ("log_offset", Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.0)))),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
    }

    fn table(batch: &RecordBatch) -> Arc<dyn TableProvider> {
        Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch.clone()]]).unwrap())
    }

    async fn kept(increment: &RecordBatch, before: &RecordBatch) -> RecordBatch {
        let kept = (before.num_rows() > 0).then(|| table(before));
        let increment_rows = increment.num_rows() as u64;
        let session = SessionContext::new();
        let repeats =
            find_repeats(&session, &dedup(), (table(increment), increment_rows), kept).await.unwrap();
        let added = repeats.remove_from(&dedup(), increment).unwrap();
        concat_batches(&before.schema(), [before, &added]).unwrap()
    }

    fn offsets(batch: &RecordBatch) -> Vec<i64> {
        integers(batch.column(3)).unwrap().values().to_vec()
    }

    #[tokio::test]
    async fn the_first_within_the_time_stays_and_rows_without_a_key_repeat_nothing() {
        let rows = [(0, 1, 0), (1, 1, 3), (2, 1, 6), (3, 1, 7), (4, 1, 9), (5, 2, 0), (6, 0, 0), (7, 0, 0)];
        assert_eq!(offsets(&kept(&batch(&rows), &batch(&[])).await), [0, 3, 5, 6, 7]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn increments_equal_full_recomputation(
            rows in proptest::collection::vec((0_u8..3, 0_i64..20), 0..30), cut in 0_usize..30,
        ) {
            let rows: Vec<_> = (0_i64..).zip(rows).map(|(offset, (event, day))| (offset, event, day)).collect();
            let cut = cut.min(rows.len());
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (full, incremental) = runtime.block_on(async {
                let first = kept(&batch(&rows[..cut]), &batch(&[])).await;
                (kept(&batch(&rows), &batch(&[])).await, kept(&batch(&rows[cut..]), &first).await)
            });
            prop_assert_eq!(offsets(&full), offsets(&incremental));
        }
    }
}
