//! Where partitions that a member was given start.
//!
//! librdkafka would silently jump over what is gone, and would look for the end some time later. So the cluster is asked, once
//! for all who want to know.

use std::time::Duration;

use rdkafka::{Offset, TopicPartitionList, consumer::Consumer as _};

use super::Client;
use crate::{
    Assigned, StreamError, TopicPartition,
    kafka::{
        REQUEST_TIMEOUT,
        failure::failed,
        positions::{Committed, TopicIds},
        watermarks,
    },
};

/// Offsets first: they wait for the end of a transaction that the former owner has begun to commit, so that what it wrote is
/// within the ranges. Waits for the cluster.
pub(super) fn starts(
    client: &Client,
    partitions: &[TopicPartition],
    ids: &TopicIds,
    from_beginning: bool,
) -> Result<Vec<Assigned>, StreamError> {
    let committed = client
        .committed_offsets(list_of(partitions), REQUEST_TIMEOUT)
        .map_err(|error| failed("asking for the group's offsets", &error))?;
    let mut starts = Vec::with_capacity(partitions.len());
    for element in &committed.elements() {
        let partition = TopicPartition { topic: element.topic().to_owned(), partition: element.partition() };
        let range = watermarks(client, &partition.topic, partition.partition)?;
        let topic_id = ids.get(element.topic()).cloned().unwrap_or_default();
        let offset = match Committed::of(element, &topic_id) {
            Committed::At(offset) => offset,
            Committed::Nothing if from_beginning => range.start,
            Committed::Nothing => {
                seek(client, &partition, range.end)?;
                range.end
            }
            // All of the new topic came after what was read in the old one.
            Committed::Elsewhere => {
                seek(client, &partition, range.start)?;
                range.start
            }
        };
        starts.push(Assigned { partition, topic_id, offset, range });
    }
    Ok(starts)
}

/// Waits for the cluster: right after an assignment the partition's fetcher isn't started yet, and refuses.
pub(super) fn seek(client: &Client, partition: &TopicPartition, offset: i64) -> Result<(), StreamError> {
    let deadline = std::time::Instant::now() + REQUEST_TIMEOUT;
    loop {
        match client.seek(&partition.topic, partition.partition, Offset::Offset(offset), REQUEST_TIMEOUT) {
            Ok(()) => return Ok(()),
            Err(_) if std::time::Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
            Err(error) => {
                return Err(failed(&format!("seeking {}/{}", partition.topic, partition.partition), &error));
            }
        }
    }
}

pub(super) fn list_of(partitions: &[TopicPartition]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        list.add_partition(&partition.topic, partition.partition);
    }
    list
}
