//! A group's offsets, each with the id of the topic that it is a place in.
//!
//! Kafka keeps offsets by the topic's name: what is committed late to a topic that was deleted and created anew would count
//! in the new one, and its first records would be jumped over. So the id goes along as the offset's metadata. An offset
//! without one (set by a person with Kafka's own tools) counts.

use std::collections::HashMap;

use rdkafka::{Offset, TopicPartitionList, error::KafkaResult, topic_partition_list::TopicPartitionListElem};

use super::{topic_id, wire::Wire};
use crate::{StreamError, TopicPartition};

const MARK: &str = "topic-id=";

/// Ids by topic.
pub(super) type TopicIds = HashMap<String, String>;

/// The present ids of these partitions' topics.
pub(super) async fn topic_ids(wire: &Wire, partitions: &[TopicPartition]) -> Result<TopicIds, StreamError> {
    let mut ids = TopicIds::new();
    for TopicPartition { topic, .. } in partitions {
        if !ids.contains_key(topic) {
            let id = topic_id::ask(wire, topic).await?;
            ids.insert(topic.clone(), id.ok_or_else(|| StreamError::no_such_topic(topic))?);
        }
    }
    Ok(ids)
}

/// The list to commit.
pub(super) fn to_commit(
    offsets: &[(TopicPartition, i64)],
    ids: &TopicIds,
) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(offsets.len());
    for (TopicPartition { topic, partition }, offset) in offsets {
        let mut element = list.add_partition(topic, *partition);
        element.set_offset(Offset::Offset(*offset))?;
        if let Some(id) = ids.get(topic) {
            element.set_metadata(format!("{MARK}{id}"));
        }
    }
    Ok(list)
}

/// What a group has committed in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Committed {
    At(i64),
    Nothing,
    /// In an earlier topic of that name.
    Elsewhere,
}

impl Committed {
    /// Of an element that the cluster answered.
    pub(super) fn of(element: &TopicPartitionListElem<'_>, topic_id: &str) -> Self {
        let Offset::Offset(offset @ 0..) = element.offset() else { return Self::Nothing };
        match element.metadata().strip_prefix(MARK) {
            Some(id) if id != topic_id => Self::Elsewhere,
            _ => Self::At(offset),
        }
    }

    pub(super) fn offset(self) -> Option<i64> {
        match self {
            Self::At(offset) => Some(offset),
            Self::Nothing | Self::Elsewhere => None,
        }
    }
}
