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
}

impl<'a> Contents<'a> {
    /// Of a partition that holds `range`.
    #[must_use]
    pub fn new(log: &'a dyn Log, from: TopicPartition, range: OffsetRange) -> Self {
        Self { log, from, left: range }
    }

    /// The next records, or `None` after the last.
    ///
    /// # Errors
    /// Those of [`Log::read`].
    pub async fn next(&mut self) -> Result<Option<Vec<Record>>, StreamError> {
        if self.left.start >= self.left.end {
            return Ok(None);
        }
        let records = self.log.read(&self.from, self.left.start, RECORDS_PER_READ, READ_WAIT).await?;
        let Some(last) = records.last() else { return Ok(None) };
        self.left.start = last.offset + 1;
        Ok(Some(records))
    }
}
