//! The offset at a time.

use std::time::Duration;

use firn_stream::{Log, OffsetRange, StreamError, TopicPartition};

/// Records are there already; only transaction markers make a reader wait.
const WAIT: Duration = Duration::from_millis(200);

/// The first offset of `range` whose record was appended at `since_ms` or later; its end if there is none. Appends go by
/// one clock, so the times of a partition rise, and halving finds it in as many reads as the range has binary digits.
pub(super) async fn first_since(
    log: &dyn Log,
    partition: &TopicPartition,
    range: OffsetRange,
    since_ms: i64,
) -> Result<i64, StreamError> {
    let (mut low, mut high) = (range.start, range.end);
    while low < high {
        let middle = low + (high - low) / 2;
        let found = log.read(partition, middle, 1, WAIT).await?;
        match found.first() {
            Some(record) if record.timestamp_ms < since_ms => low = record.offset + 1,
            // It is at the middle, or nothing that can be seen lies between.
            _ => high = middle,
        }
    }
    Ok(low)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use bytes::Bytes;
    use firn_stream::{EmbeddedConfig, EmbeddedLog, ProduceRecord, TopicSpec};

    use super::*;

    #[tokio::test]
    async fn time_is_found_between_records() {
        let folder = tempfile::tempdir().unwrap();
        let log = EmbeddedLog::open(EmbeddedConfig::new(folder.path().join("log.db"))).unwrap();
        let spec = TopicSpec { name: "t".into(), partitions: 1, compacted: false, retention: None };
        log.ensure_topic(&spec).await.unwrap();
        let at = TopicPartition { topic: "t".into(), partition: 0 };
        for _ in 0..5 {
            let record = ProduceRecord {
                topic: "t".into(),
                key: None,
                partition: Some(0),
                value: Some(Bytes::from_static(b"x")),
                headers: Vec::new(),
            };
            assert!(log.append(vec![record]).await[0].is_ok());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let range = log.offsets("t").await.unwrap()[0];
        let records = log.read(&at, 0, 10, WAIT).await.unwrap();
        for record in &records {
            let found = first_since(log.as_ref(), &at, range, record.timestamp_ms).await.unwrap();
            assert_eq!(found, record.offset);
        }
        assert_eq!(first_since(log.as_ref(), &at, range, 0).await.unwrap(), range.start);
        assert_eq!(first_since(log.as_ref(), &at, range, i64::MAX).await.unwrap(), range.end);
    }
}
