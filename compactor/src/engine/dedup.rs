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
        let repeats = find_repeats(&SessionContext::new(), &dedup(), table(increment), kept).await.unwrap();
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
