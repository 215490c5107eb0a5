//! What a partition holds at one moment: how a state that is kept in a compacted topic comes back.

use std::time::Duration;

use crate::{Log, OffsetRange, Record, StreamError, TopicPartition};

const RECORDS_PER_READ: usize = 5_000;
/// How long to wait for a record that should be there. The last offsets may hold none: transaction markers.
const READ_WAIT: Duration = Duration::from_secs(3);

/// Reads a partition from its start to what was its end.
pub struct Contents<'a> {
    log: &'a dyn Log,
    from: TopicPartition,
    left: OffsetRange,
    at_once: usize,
}

impl<'a> Contents<'a> {
    /// Of a partition that holds `range`.
    #[must_use]
    pub fn new(log: &'a dyn Log, from: TopicPartition, range: OffsetRange) -> Self {
        Self { log, from, left: range, at_once: RECORDS_PER_READ }
    }

    /// Reads no more than so many records at once: for those who read many partitions side by side.
    #[must_use]
    pub fn at_once(self, records: usize) -> Self {
        Self { at_once: records, ..self }
    }

    /// The next records, or `None` after the last.
    ///
    /// # Errors
    /// Those of [`Log::read`].
    pub async fn next(&mut self) -> Result<Option<Vec<Record>>, StreamError> {
        if self.left.start >= self.left.end {
            return Ok(None);
        }
        let records = self.log.read(&self.from, self.left.start, self.at_once, READ_WAIT).await?;
        let Some(last) = records.last() else { return Ok(None) };
        self.left.start = last.offset + 1;
        Ok(Some(records))
    }
}
