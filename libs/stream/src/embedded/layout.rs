//! What topics there are and what each partition holds: the writer's working copy, and the published one.

use std::collections::BTreeMap;

use rusqlite::Connection;

use crate::{OffsetRange, StreamError, Topic, TopicPartition};

/// A topic.
#[derive(Clone, Debug)]
pub(super) struct TopicEntry {
    pub(super) id: String,
    pub(super) compacted: bool,
    pub(super) retention_ms: Option<i64>,
    /// By partition.
    pub(super) slots: Vec<u32>,
}

/// A partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) start: i64,
    pub(super) end: i64,
    /// Compacted below this.
    pub(super) clean: i64,
    pub(super) bytes: i64,
}

impl Slot {
    pub(super) fn range(&self) -> OffsetRange {
        OffsetRange { start: self.start, end: self.end }
    }
}

/// All topics and partitions.
#[derive(Clone, Debug, Default)]
pub(super) struct Layout {
    pub(super) topics: BTreeMap<String, TopicEntry>,
    /// By slot number: numbers are given from 0 without gaps.
    slots: Vec<Slot>,
}

impl Layout {
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let mut layout = Self::default();
        let mut topics = connection.prepare("SELECT name, id, compacted, retention_ms FROM topic")?;
        let mut rows = topics.query([])?;
        while let Some(row) = rows.next()? {
            let entry = TopicEntry {
                id: row.get(1)?,
                compacted: row.get(2)?,
                retention_ms: row.get(3)?,
                slots: Vec::new(),
            };
            layout.topics.insert(row.get(0)?, entry);
        }
        let mut slots = connection.prepare(
            "SELECT slot, topic, start_offset, end_offset, clean_offset, bytes FROM slot ORDER BY topic, partition",
        )?;
        let mut rows = slots.query([])?;
        while let Some(row) = rows.next()? {
            let number: u32 = row.get(0)?;
            let slot = Slot { start: row.get(2)?, end: row.get(3)?, clean: row.get(4)?, bytes: row.get(5)? };
            if layout.slots.len() <= number as usize {
                layout.slots.resize(number as usize + 1, Slot::default());
            }
            layout.slots[number as usize] = slot;
            if let Some(entry) = layout.topics.get_mut(&row.get::<_, String>(1)?) {
                entry.slots.push(number);
            }
        }
        Ok(layout)
    }

    pub(super) fn entry(&self, topic: &str) -> Result<&TopicEntry, StreamError> {
        self.topics.get(topic).ok_or_else(|| StreamError::no_such_topic(topic))
    }

    pub(super) fn topic(&self, name: &str) -> Option<Topic> {
        let entry = self.topics.get(name)?;
        Some(Topic { name: name.to_owned(), id: entry.id.clone(), partitions: count(&entry.slots) })
    }

    pub(super) fn slot_of(&self, partition: &TopicPartition) -> Result<u32, StreamError> {
        let slots = &self.entry(&partition.topic)?.slots;
        usize::try_from(partition.partition).ok().and_then(|index| slots.get(index)).copied().ok_or_else(
            || StreamError::no_such_partition(&partition.topic, partition.partition, count(slots)),
        )
    }

    pub(super) fn slot(&self, slot: u32) -> &Slot {
        &self.slots[slot as usize]
    }

    pub(super) fn slot_mut(&mut self, slot: u32) -> &mut Slot {
        &mut self.slots[slot as usize]
    }

    /// Gives the next slot number out.
    pub(super) fn add_slot(&mut self) -> u32 {
        self.slots.push(Slot::default());
        u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
    }

    pub(super) fn bytes(&self) -> i64 {
        self.slots.iter().map(|slot| slot.bytes).sum()
    }
}

fn count(slots: &[u32]) -> i32 {
    i32::try_from(slots.len()).unwrap_or(i32::MAX)
}
