//! Putting a host's records in the order of their receipt, in which the stream judges them.
//!
//! Within a partition that is the order of the log. A host's records lie in more than one partition if partitions were added
//! meanwhile; then those of all its partitions are merged as they were received, each partition kept in its own order: the
//! clocks of two gateways may differ.

use std::collections::BTreeMap;

use arrow::{
    array::{Array, AsArray, Int64Array, RecordBatch, StringArray, UInt32Array},
    compute::{cast, concat_batches, take_record_batch},
    datatypes::{DataType, Int64Type},
    error::ArrowError,
};

/// Reorders batches that come sorted by `host_id`, `log_partition`, `log_offset` over all of them.
#[derive(Default)]
pub struct ByReceipt {
    /// What came so far of the host that came last: more of it may follow.
    held: Vec<RecordBatch>,
}

impl ByReceipt {
    /// Takes the next batch; answers those records that are in order now.
    ///
    /// # Errors
    /// Columns that are missing, or of another type.
    pub fn push(&mut self, batch: &RecordBatch) -> Result<Vec<RecordBatch>, ArrowError> {
        let hosts = text(batch, "host_id")?;
        let Some(last) = hosts.len().checked_sub(1) else { return Ok(Vec::new()) };
        let mut ready = Vec::new();
        let known = match self.held.first() {
            Some(held) => Some(text(held, "host_id")?.value(0).to_owned()),
            None => None,
        };
        let same = |row: &usize| known.as_deref() == Some(hosts.value(*row));
        let begin = (0..=last).take_while(same).count();
        if begin > 0 {
            self.held.push(batch.slice(0, begin));
        }
        if begin <= last {
            ready.extend(self.finish()?);
            let newest = hosts.value(last);
            let others = (begin..=last).take_while(|row| hosts.value(*row) != newest).count();
            if others > 0 {
                ready.push(in_order(batch.slice(begin, others))?);
            }
            self.held.push(batch.slice(begin + others, last + 1 - begin - others));
        }
        Ok(ready)
    }

    /// What is left.
    ///
    /// # Errors
    /// As of [`ByReceipt::push`].
    pub fn finish(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        let held = std::mem::take(&mut self.held);
        let Some(first) = held.first() else { return Ok(None) };
        in_order(concat_batches(&first.schema(), &held)?).map(Some)
    }
}

/// Whole hosts in order.
fn in_order(batch: RecordBatch) -> Result<RecordBatch, ArrowError> {
    let (hosts, partitions) = (text(&batch, "host_id")?, whole(&batch, "log_partition")?);
    let rows = batch.num_rows();
    let same_host = |row: usize| hosts.value(row) == hosts.value(row - 1);
    let moves = |row: usize| same_host(row) && partitions.value(row) != partitions.value(row - 1);
    if !(1..rows).any(moves) {
        return Ok(batch);
    }
    let received = whole(&batch, "received_at")?;
    let (mut order, mut begin) = (Vec::with_capacity(rows), 0);
    for end in 1..=rows {
        if end == rows || !same_host(end) {
            order.extend(merged(begin..end, &partitions, &received));
            begin = end;
        }
    }
    take_record_batch(&batch, &UInt32Array::from(order))
}

/// A host's rows, merged as those of its partitions were received.
fn merged(rows: std::ops::Range<usize>, partitions: &Int64Array, received: &Int64Array) -> Vec<u32> {
    // When the latest so far of each partition was received: none behind it in the log counts as received before.
    let mut latest: BTreeMap<i64, i64> = BTreeMap::new();
    let mut keyed: Vec<(i64, i64, usize)> = rows
        .map(|row| {
            let latest = latest.entry(partitions.value(row)).or_insert(i64::MIN);
            *latest = received.value(row).max(*latest);
            (*latest, partitions.value(row), row)
        })
        .collect();
    keyed.sort_unstable();
    keyed.into_iter().map(|(.., row)| row as u32).collect()
}

fn column(batch: &RecordBatch, name: &str) -> Result<arrow::array::ArrayRef, ArrowError> {
    let missing = || ArrowError::SchemaError(format!("the records lack the column '{name}'"));
    Ok(batch.column_by_name(name).ok_or_else(missing)?.clone())
}

fn text(batch: &RecordBatch, name: &str) -> Result<StringArray, ArrowError> {
    Ok(cast(&column(batch, name)?, &DataType::Utf8)?.as_string::<i32>().clone())
}

fn whole(batch: &RecordBatch, name: &str) -> Result<Int64Array, ArrowError> {
    Ok(cast(&column(batch, name)?, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use arrow::datatypes::{Field, Schema};

    use super::*;

    /// Host, partition, offset, received.
    type Row = (&'static str, i64, i64, i64);

    fn batch(rows: &[Row]) -> RecordBatch {
        let names = ["log_partition", "log_offset", "received_at"];
        let fields = names.map(|name| Field::new(name, DataType::Int64, false));
        let host = Field::new("host_id", DataType::Utf8, false);
        let schema = Schema::new([host].into_iter().chain(fields).collect::<Vec<_>>());
        let whole = |of: fn(&Row) -> i64| Arc::new(rows.iter().map(of).map(Some).collect::<Int64Array>());
        let hosts = rows.iter().map(|row| Some(row.0)).collect::<StringArray>();
        let columns: Vec<arrow::array::ArrayRef> =
            vec![Arc::new(hosts), whole(|row| row.1), whole(|row| row.2), whole(|row| row.3)];
        RecordBatch::try_new(Arc::new(schema), columns).unwrap()
    }

    /// Host and time of receipt, in the order in which they come out.
    fn ordered(rows: &[Row], at_once: usize) -> Vec<(String, i64)> {
        let (all, mut by_receipt) = (batch(rows), ByReceipt::default());
        let mut ready = Vec::new();
        for first in (0..rows.len()).step_by(at_once) {
            ready.extend(by_receipt.push(&all.slice(first, at_once.min(rows.len() - first))).unwrap());
        }
        ready.extend(by_receipt.finish().unwrap());
        let rows = |batch: &RecordBatch| {
            let (hosts, received) = (text(batch, "host_id").unwrap(), whole(batch, "received_at").unwrap());
            (0..batch.num_rows())
                .map(|row| (hosts.value(row).to_owned(), received.value(row)))
                .collect::<Vec<_>>()
        };
        ready.iter().flat_map(rows).collect()
    }

    #[test]
    fn partitions_of_a_host_are_merged_as_received_and_each_keeps_the_order_of_the_log() {
        let rows = [
            ("a", 0, 1, 10),
            ("b", 0, 2, 20),
            ("b", 0, 5, 50),
            // Another gateway's clock is behind.
            ("b", 0, 6, 25),
            ("b", 3, 0, 30),
            ("b", 3, 1, 60),
            ("c", 1, 0, 40),
            ("c", 2, 0, 15),
        ];
        let expected =
            [("a", 10), ("b", 20), ("b", 30), ("b", 50), ("b", 25), ("b", 60), ("c", 15), ("c", 40)];
        let expected = expected.map(|(host, received)| (host.to_owned(), received));
        for at_once in 1..=rows.len() {
            assert_eq!(ordered(&rows, at_once), expected, "batches of {at_once}");
        }
    }
}
