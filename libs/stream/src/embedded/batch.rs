//! What a job sees of the writer's transaction, and the changes that make up the log.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rusqlite::{Transaction, params};
use uuid::Uuid;

use super::{
    EmbeddedConfig,
    groups::{Groups, Member},
    headers,
    layout::{Layout, TopicEntry},
    readers, retention, schema,
    writer::Outcome,
};
use crate::{
    Assigned, MAX_RECORD_BYTES, ProduceRecord, StreamError, StreamErrorKind, Topic, TopicPartition,
    TopicSpec, partition_for_key,
};

/// What a record costs beside its payload, for the log's size.
pub(super) const RECORD_OVERHEAD: i64 = 32;

/// A group and a member of it.
#[derive(Clone, Debug)]
pub(super) struct Membership {
    pub(super) group: String,
    pub(super) member: Member,
}

/// A partition number that a member got, and where it starts in each topic.
pub(super) struct Claimed {
    pub(super) number: i32,
    pub(super) starts: Vec<Assigned>,
}

/// The writer's transaction.
pub(super) struct Batch<'a> {
    pub(super) transaction: &'a Transaction<'a>,
    pub(super) layout: &'a mut Layout,
    pub(super) config: &'a EmbeddedConfig,
    pub(super) now_ms: i64,
    groups: &'a Mutex<Groups>,
    changed: Changed,
}

/// What a transaction changed in the layout.
#[derive(Default)]
pub(super) struct Changed {
    slots: BTreeSet<u32>,
    topics: bool,
}

impl Changed {
    /// Carries the changes over to the published layout.
    pub(super) fn publish(&self, from: &Layout, to: &mut Layout) {
        if self.topics {
            *to = from.clone();
            return;
        }
        for slot in &self.slots {
            *to.slot_mut(*slot) = *from.slot(*slot);
        }
    }
}

impl<'a> Batch<'a> {
    pub(super) fn new(
        transaction: &'a Transaction<'a>,
        layout: &'a mut Layout,
        groups: &'a Mutex<Groups>,
        config: &'a EmbeddedConfig,
        now_ms: i64,
    ) -> Self {
        Self { transaction, layout, config, now_ms, groups, changed: Changed::default() }
    }

    /// Writes what the partitions hold now; the last thing before the commit.
    pub(super) fn finish(self) -> rusqlite::Result<Changed> {
        let mut update = self.transaction.prepare_cached(
            "UPDATE slot SET start_offset = ?2, end_offset = ?3, clean_offset = ?4, bytes = ?5 WHERE slot = ?1",
        )?;
        for number in &self.changed.slots {
            let slot = self.layout.slot(*number);
            update.execute(params![number, slot.start, slot.end, slot.clean, slot.bytes])?;
        }
        Ok(self.changed)
    }

    /// Says that a partition's bounds changed.
    pub(super) fn touch(&mut self, slot: u32) {
        self.changed.slots.insert(slot);
    }

    fn groups(&self) -> MutexGuard<'a, Groups> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn ensure_topic(&mut self, spec: &TopicSpec) -> rusqlite::Result<Topic> {
        if !self.layout.topics.contains_key(&spec.name) {
            let entry = TopicEntry {
                id: Uuid::new_v4().to_string(),
                compacted: spec.compacted,
                retention_ms: spec.retention.map(|age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX)),
                slots: Vec::new(),
            };
            self.transaction.execute(
                "INSERT INTO topic (name, id, compacted, retention_ms) VALUES (?1, ?2, ?3, ?4)",
                params![spec.name, entry.id, entry.compacted, entry.retention_ms],
            )?;
            self.layout.topics.insert(spec.name.clone(), entry);
            self.changed.topics = true;
        }
        let mut slots =
            self.layout.topics.get(&spec.name).map(|entry| entry.slots.clone()).unwrap_or_default();
        let present = slots.len();
        for partition in present..usize::try_from(spec.partitions).unwrap_or(0) {
            let slot = self.layout.add_slot();
            self.transaction.execute(
                "INSERT INTO slot (slot, topic, partition, start_offset, end_offset, clean_offset, bytes)
                 VALUES (?1, ?2, ?3, 0, 0, 0, 0)",
                params![slot, spec.name, i64::try_from(partition).unwrap_or(i64::MAX)],
            )?;
            slots.push(slot);
        }
        let partitions = slots.len();
        let id = self.layout.topics.get_mut(&spec.name).map(|entry| {
            entry.slots = slots;
            entry.id.clone()
        });
        if partitions > present {
            self.changed.topics = true;
            self.groups().grow(&spec.name, partitions);
        }
        Ok(Topic {
            name: spec.name.clone(),
            id: id.unwrap_or_default(),
            partitions: i32::try_from(partitions).unwrap_or(i32::MAX),
        })
    }

    /// Appends what can be appended; a refused record does not hold up the others.
    pub(super) fn append(
        &mut self,
        records: &[ProduceRecord],
    ) -> rusqlite::Result<Vec<Result<(TopicPartition, i64), StreamError>>> {
        let bytes = records.iter().map(cost).sum();
        if let Err(error) = retention::make_room(self, bytes, self.max_bytes())? {
            return Ok(vec![Err(error); records.len()]);
        }
        let mut results = Vec::with_capacity(records.len());
        for record in records {
            results.push(match self.route(record) {
                Ok(to) => Ok(self.insert(to, record)?),
                Err(error) => Err(error),
            });
        }
        Ok(results)
    }

    /// Records and positions, both or neither.
    pub(super) fn commit_transaction(
        &mut self,
        producer: (&str, i64),
        records: &[ProduceRecord],
        membership: Option<&Membership>,
        offsets: &[(TopicPartition, i64)],
    ) -> Outcome<()> {
        let (transactional_id, epoch) = producer;
        let current: i64 = self
            .transaction
            .prepare_cached("SELECT epoch FROM producer WHERE transactional_id = ?1")?
            .query_row([transactional_id], |row| row.get(0))?;
        if current != epoch {
            let message = format!("a newer producer {transactional_id} took over: stop this one");
            return Ok(Err(StreamError::new(StreamErrorKind::Fenced, message)));
        }
        // Outputs may go over the limit a little: they are what lets the positions move and records go.
        let headroom = self.max_bytes().saturating_add(self.max_bytes() / 4);
        if let Err(error) = retention::make_room(self, records.iter().map(cost).sum(), headroom)? {
            return Ok(Err(error));
        }
        let routes = match records.iter().map(|record| self.route(record)).collect::<Result<Vec<_>, _>>() {
            Ok(routes) => routes,
            Err(error) => return Ok(Err(error)),
        };
        if let Some(membership) = membership
            && let Err(error) = self.commit_offsets(membership, offsets)?
        {
            return Ok(Err(error));
        }
        for (to, record) in routes.into_iter().zip(records) {
            self.insert(to, record)?;
        }
        Ok(Ok(()))
    }

    /// Moves a group's positions, if the member still has the partitions. Order in the writer makes this safe: a claim
    /// by another member comes either before (and this is refused) or after (and starts from here).
    pub(super) fn commit_offsets(
        &mut self,
        by: &Membership,
        offsets: &[(TopicPartition, i64)],
    ) -> Outcome<()> {
        let mut resolved = Vec::with_capacity(offsets.len());
        for (partition, offset) in offsets {
            if !self.groups().owns(&by.group, by.member, partition.partition) {
                return Ok(Err(StreamError::not_owner(&by.group, &partition.topic, partition.partition)));
            }
            match self.layout.slot_of(partition) {
                Ok(slot) => resolved.push((slot, *offset)),
                Err(error) => return Ok(Err(error)),
            }
        }
        let mut upsert = self.transaction.prepare_cached(
            "INSERT INTO group_offset (group_name, slot, next_offset, floor_offset) VALUES (?1, ?2, ?3, ?3)
             ON CONFLICT (group_name, slot) DO UPDATE SET next_offset = ?3, floor_offset = ?3",
        )?;
        for (slot, offset) in resolved {
            upsert.execute(params![by.group, slot, offset])?;
        }
        Ok(Ok(()))
    }

    /// Gives a member what is free of the partitions it shall have, and the offsets to start at.
    pub(super) fn claim(
        &mut self,
        by: &Membership,
        topics: &[String],
        numbers: &[i32],
        from_beginning: bool,
    ) -> rusqlite::Result<Vec<Claimed>> {
        let granted = self.groups().claim(&by.group, by.member, numbers);
        let mut claimed = Vec::with_capacity(granted.len());
        for number in granted {
            let mut starts = Vec::new();
            for topic in topics {
                let partition = TopicPartition { topic: topic.clone(), partition: number };
                // The topics of a group may have different counts: the smaller ones lack this partition.
                let Ok(slot) = self.layout.slot_of(&partition) else { continue };
                let offset = self.start_of(&by.group, slot, from_beginning)?;
                let range = self.layout.slot(slot).range();
                let topic_id = self.layout.topic(topic).map(|topic| topic.id).unwrap_or_default();
                starts.push(Assigned { partition, topic_id, offset, range });
            }
            claimed.push(Claimed { number, starts });
        }
        Ok(claimed)
    }

    fn start_of(&self, group: &str, slot: u32, from_beginning: bool) -> rusqlite::Result<i64> {
        if let Some(offset) = readers::committed_offset(self.transaction, group, slot)? {
            return Ok(offset);
        }
        let range = self.layout.slot(slot).range();
        let start = if from_beginning { range.start } else { range.end };
        self.transaction
            .prepare_cached(
                "INSERT INTO group_offset (group_name, slot, next_offset, floor_offset) VALUES (?1, ?2, NULL, ?3)
                 ON CONFLICT (group_name, slot) DO UPDATE SET floor_offset = ?3",
            )?
            .execute(params![group, slot, start])?;
        Ok(start)
    }

    /// A new epoch for a transactional id: older producers are fenced by it.
    pub(super) fn open_producer(&mut self, transactional_id: &str) -> rusqlite::Result<i64> {
        self.transaction
            .prepare_cached(
                "INSERT INTO producer (transactional_id, epoch) VALUES (?1, 1)
                 ON CONFLICT (transactional_id) DO UPDATE SET epoch = epoch + 1 RETURNING epoch",
            )?
            .query_row([transactional_id], |row| row.get(0))
    }

    fn route(&self, record: &ProduceRecord) -> Result<(TopicPartition, u32), StreamError> {
        let bytes = record.payload_bytes();
        if bytes > MAX_RECORD_BYTES {
            return Err(StreamError::too_large(&record.topic, bytes, MAX_RECORD_BYTES));
        }
        let entry = self.layout.entry(&record.topic)?;
        if entry.compacted && record.key.is_none() {
            let message = format!("a record for the compacted topic {} needs a key", record.topic);
            return Err(StreamError::new(StreamErrorKind::Config, message));
        }
        let partitions = i32::try_from(entry.slots.len()).unwrap_or(i32::MAX);
        let number = match (record.partition, &record.key) {
            (Some(number), _) => number,
            (None, Some(key)) => partition_for_key(key, partitions),
            (None, None) => rand::random_range(0..partitions),
        };
        let partition = TopicPartition { topic: record.topic.clone(), partition: number };
        let slot = self.layout.slot_of(&partition)?;
        Ok((partition, slot))
    }

    fn insert(
        &mut self,
        (partition, slot): (TopicPartition, u32),
        record: &ProduceRecord,
    ) -> rusqlite::Result<(TopicPartition, i64)> {
        let bounds = self.layout.slot_mut(slot);
        let offset = bounds.end;
        bounds.end += 1;
        bounds.bytes += cost(record);
        self.touch(slot);
        self.transaction
            .prepare_cached(
                "INSERT INTO record (position, timestamp_ms, key, value, headers) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![
                schema::position(slot, offset),
                self.now_ms,
                record.key.as_deref(),
                record.value.as_deref(),
                headers::encode(&record.headers)
            ])?;
        Ok((partition, offset))
    }

    pub(super) fn max_bytes(&self) -> i64 {
        i64::try_from(self.config.max_bytes).unwrap_or(i64::MAX)
    }
}

/// What a record adds to the log's size; retention subtracts the same by `COST` in SQL.
fn cost(record: &ProduceRecord) -> i64 {
    let framing: usize = 8 * record.headers.len();
    RECORD_OVERHEAD + i64::try_from(record.payload_bytes() + framing).unwrap_or(i64::MAX)
}
