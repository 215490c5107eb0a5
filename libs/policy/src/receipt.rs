//! Putting a host's records in the order of their receipt, in which the stream judges them.
//!
//! Within a partition that is the order of the log. A host's records lie in more than one partition if partitions were added
//! meanwhile; then those of all its partitions are merged as they were received, each partition kept in its own order: the
//! clocks of two gateways may differ. If the topic was made anew, all that the host sent to the earlier one comes first.

use std::collections::BTreeMap;

use arrow::{
    array::{Array, AsArray, Int64Array, RecordBatch, StringArray, UInt32Array},
    compute::{cast, concat_batches, take_record_batch},
    datatypes::{DataType, Int64Type},
    error::ArrowError,
};

/// Reorders batches that come sorted by `host_id`, `log_partition`, `log_offset` over all of them. Where there is no
/// `log_topic_id`, all are of one topic.
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
    let (hosts, places) = (text(&batch, "host_id")?, Places::of(&batch)?);
    let rows = batch.num_rows();
    let same_host = |row: usize| hosts.value(row) == hosts.value(row - 1);
    if !(1..rows).any(|row| same_host(row) && places.at(row) != places.at(row - 1)) {
        return Ok(batch);
    }
    let received = whole(&batch, "received_at")?;
    let (mut order, mut begin) = (Vec::with_capacity(rows), 0);
    for end in 1..=rows {
        if end == rows || !same_host(end) {
            order.extend(merged(begin..end, &places, &received));
            begin = end;
        }
    }
    take_record_batch(&batch, &UInt32Array::from(order))
}

/// Where in the log rows lie.
struct Places {
    topics: Option<StringArray>,
    partitions: Int64Array,
}

impl Places {
    fn of(batch: &RecordBatch) -> Result<Self, ArrowError> {
        let topics = batch.column_by_name("log_topic_id").map(|_| text(batch, "log_topic_id"));
        Ok(Self { topics: topics.transpose()?, partitions: whole(batch, "log_partition")? })
    }

    fn at(&self, row: usize) -> (&str, i64) {
        (self.topic(row), self.partitions.value(row))
    }

    fn topic(&self, row: usize) -> &str {
        self.topics.as_ref().map_or("", |topics| topics.value(row))
    }
}

/// A host's rows: those of the topic that got one first, merged as those of its partitions were received, then those of the next.
fn merged(rows: std::ops::Range<usize>, places: &Places, received: &Int64Array) -> Vec<u32> {
    let mut begun: BTreeMap<&str, i64> = BTreeMap::new();
    for row in rows.clone() {
        let begun = begun.entry(places.topic(row)).or_insert(i64::MAX);
        *begun = received.value(row).min(*begun);
    }
    // When the latest so far of each partition was received: none behind it in the log counts as received before.
    let mut latest: BTreeMap<(&str, i64), i64> = BTreeMap::new();
    let mut keyed: Vec<_> = rows
        .map(|row| {
            let (topic, partition) = places.at(row);
            let latest = latest.entry((topic, partition)).or_insert(i64::MIN);
            *latest = received.value(row).max(*latest);
            (begun[topic], topic, *latest, partition, row)
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

    /// Host, topic, partition, offset, received.
    type Row = (&'static str, &'static str, i64, i64, i64);

    fn batch(rows: &[Row]) -> RecordBatch {
        let names = ["log_partition", "log_offset", "received_at"];
        let fields = names.map(|name| Field::new(name, DataType::Int64, false));
        let texts = ["host_id", "log_topic_id"].map(|name| Field::new(name, DataType::Utf8, false));
        let schema = Schema::new(texts.into_iter().chain(fields).collect::<Vec<_>>());
        let whole = |of: fn(&Row) -> i64| Arc::new(rows.iter().map(of).map(Some).collect::<Int64Array>());
        let text =
            |of: fn(&Row) -> &'static str| Arc::new(rows.iter().map(of).map(Some).collect::<StringArray>());
        let columns: Vec<arrow::array::ArrayRef> = vec![
            text(|row| row.0),
            text(|row| row.1),
            whole(|row| row.2),
            whole(|row| row.3),
            whole(|row| row.4),
        ];
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
            ("a", "t", 0, 1, 10),
            ("b", "t", 0, 2, 20),
            ("b", "t", 0, 5, 50),
            // Another gateway's clock is behind.
            ("b", "t", 0, 6, 25),
            ("b", "t", 3, 0, 30),
            ("b", "t", 3, 1, 60),
            ("c", "t", 1, 0, 40),
            ("c", "t", 2, 0, 15),
        ];
        let expected =
            [("a", 10), ("b", 20), ("b", 30), ("b", 50), ("b", 25), ("b", 60), ("c", 15), ("c", 40)];
        let expected = expected.map(|(host, received)| (host.to_owned(), received));
        for at_once in 1..=rows.len() {
            assert_eq!(ordered(&rows, at_once), expected, "batches of {at_once}");
        }
    }

    #[test]
    fn records_of_a_topic_made_anew_follow_those_of_the_earlier_one_whatever_their_partitions_and_offsets() {
        let rows = [
            // Sorted by partition and offset; the earlier topic is the second by name.
            ("a", "new", 0, 0, 50),
            ("a", "old", 0, 0, 10),
            ("a", "new", 0, 1, 60),
            ("a", "old", 0, 1, 30),
            // Partitions were added to the earlier one, and another gateway's clock was ahead.
            ("a", "old", 2, 0, 20),
            ("a", "old", 2, 1, 55),
            ("b", "new", 0, 2, 70),
        ];
        let expected = [("a", 10), ("a", 20), ("a", 30), ("a", 55), ("a", 50), ("a", 60), ("b", 70)];
        let expected = expected.map(|(host, received)| (host.to_owned(), received));
        for at_once in 1..=rows.len() {
            assert_eq!(ordered(&rows, at_once), expected, "batches of {at_once}");
        }
    }
}
