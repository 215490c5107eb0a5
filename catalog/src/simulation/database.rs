//! A database in memory that does what [`Store`] promises, and keeps a journal of every reference's moves.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use firn_runtime::clock::Clock;

use super::ledger::{Count, Sequence};
use crate::store::{
    DocumentPut, DocumentRow, DocumentSelection, EventRow, Hash, Heads, IdempotencyRow, ObjectAge,
    ReferenceMove, ReferenceRow, Refusal, Store, StoreError, Sweep, Write, Written,
};

/// A reference that moved, in a transaction that is durable.
#[derive(Clone, Debug)]
pub(super) struct Moved {
    pub(super) at: Count,
    pub(super) reference: String,
    pub(super) to: Option<Hash>,
}

/// Open database. Clones share it, and are closed together.
#[derive(Clone)]
pub(super) struct Database {
    data: Arc<Mutex<Data>>,
    clock: Arc<dyn Clock>,
    sequence: Sequence,
    is_open: Arc<AtomicBool>,
}

#[derive(Default)]
struct Data {
    repositories: BTreeMap<String, Rows>,
    documents: BTreeMap<(String, String, String), Document>,
    journal: Vec<Moved>,
    /// References that a transaction holds which hasn't ended.
    held: HashSet<String>,
}

#[derive(Default)]
struct Rows {
    exists: bool,
    access_epoch: i64,
    last_event: i64,
    references: BTreeMap<String, (bool, Hash)>,
    objects: BTreeMap<Hash, (Bytes, i64)>,
    idempotency: BTreeMap<String, IdempotencyRow>,
    events: Vec<EventRow>,
}

struct Document {
    version: i64,
    body: Bytes,
    updated_at_us: i64,
}

impl Database {
    pub(super) fn new(clock: Arc<dyn Clock>, sequence: &Sequence) -> Self {
        let is_open = Arc::new(AtomicBool::new(true));
        Self { data: Arc::default(), clock, sequence: sequence.clone(), is_open }
    }

    /// The same data, opened once more.
    pub(super) fn reopened(&self) -> Self {
        Self { is_open: Arc::new(AtomicBool::new(true)), ..self.clone() }
    }

    /// All moves so far, in order.
    pub(super) fn journal(&self) -> Vec<Moved> {
        self.data().journal.clone()
    }

    /// A transaction is at these references, which others wait for.
    pub(super) fn hold(&self, write: &Write) {
        self.data().held.extend(write.references.iter().map(|moved| moved.name.clone()));
    }

    /// It has ended.
    pub(super) fn release(&self, write: &Write) {
        let mut data = self.data();
        for moved in &write.references {
            data.held.remove(&moved.name);
        }
    }

    /// Whether a write has to wait for another one.
    pub(super) fn is_held(&self, write: &Write) -> bool {
        let data = self.data();
        write.references.iter().any(|moved| data.held.contains(&moved.name))
    }

    fn open(&self) -> Result<MutexGuard<'_, Data>, StoreError> {
        if self.is_open.load(Ordering::SeqCst) {
            return Ok(self.data());
        }
        Err(StoreError::Unavailable(sqlx::Error::PoolClosed))
    }

    fn data(&self) -> MutexGuard<'_, Data> {
        self.data.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_us(&self) -> i64 {
        self.clock.now().timestamp_micros()
    }
}

#[async_trait::async_trait]
impl Store for Database {
    async fn heads(&self, repository: &str, names: &[String]) -> Result<Option<Heads>, StoreError> {
        let data = self.open()?;
        let Some(rows) = data.repositories.get(repository).filter(|rows| rows.exists) else {
            return Ok(None);
        };
        let named = names.iter().filter_map(|name| rows.references.get_key_value(name));
        Ok(Some(Heads { access_epoch: rows.access_epoch, references: named.map(reference_row).collect() }))
    }

    async fn references(&self, repository: &str) -> Result<Vec<ReferenceRow>, StoreError> {
        let data = self.open()?;
        let rows = data.repositories.get(repository);
        Ok(rows.into_iter().flat_map(|rows| rows.references.iter().map(reference_row)).collect())
    }

    async fn objects(&self, repository: &str, hashes: &[Hash]) -> Result<Vec<(Hash, Bytes)>, StoreError> {
        let data = self.open()?;
        let Some(rows) = data.repositories.get(repository) else { return Ok(Vec::new()) };
        let found = |hash: &Hash| Some((*hash, rows.objects.get(hash)?.0.clone()));
        Ok(hashes.iter().filter_map(found).collect())
    }

    async fn write(&self, write: &Write) -> Result<Written, StoreError> {
        let now_us = self.now_us();
        let mut data = self.open()?;
        if let Some(refusal) = data.refusal(write) {
            return Ok(Written::Refused(refusal));
        }
        data.apply(write, now_us);
        for moved in write.references.iter().filter(|moved| moved.from != moved.to) {
            let at = self.sequence.next();
            data.journal.push(Moved { at, reference: moved.name.clone(), to: moved.to });
        }
        Ok(Written::Done)
    }

    async fn idempotency(&self, repository: &str, key: &str) -> Result<Option<IdempotencyRow>, StoreError> {
        let data = self.open()?;
        Ok(data.repositories.get(repository).and_then(|rows| rows.idempotency.get(key).cloned()))
    }

    async fn events(&self, repository: &str, after: i64, limit: u32) -> Result<Vec<EventRow>, StoreError> {
        let data = self.open()?;
        let events = data.repositories.get(repository).into_iter().flat_map(|rows| &rows.events);
        Ok(events.filter(|event| event.number > after).take(limit as usize).cloned().collect())
    }

    async fn last_events(&self) -> Result<Vec<(String, i64)>, StoreError> {
        let data = self.open()?;
        let existing = data.repositories.iter().filter(|(_, rows)| rows.exists);
        Ok(existing.map(|(name, rows)| (name.clone(), rows.last_event)).collect())
    }

    async fn documents(
        &self,
        kind: &str,
        selection: DocumentSelection<'_>,
    ) -> Result<Vec<DocumentRow>, StoreError> {
        let (read_at_us, data) = (self.now_us(), self.open()?);
        let wanted = |tenant: &str, key: &str| match selection {
            DocumentSelection::One { tenant: one, key: wanted } => tenant == one && key == wanted,
            DocumentSelection::Tenant(one) => tenant == one,
            DocumentSelection::All => true,
        };
        let found = data.documents.iter().filter(|((of, tenant, key), _)| of == kind && wanted(tenant, key));
        let row = |((_, tenant, key), document): (&(String, String, String), &Document)| DocumentRow {
            tenant: tenant.clone(),
            key: key.clone(),
            version: document.version,
            body: document.body.clone(),
            updated_at_us: document.updated_at_us,
            read_at_us,
        };
        Ok(found.map(row).collect())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.open().map(drop)
    }

    fn reconnect(&self, _: &str) -> Result<(), StoreError> {
        Err(StoreError::Refused("a database in memory has no URL".to_owned()))
    }

    async fn close(&self) {
        self.is_open.store(false, Ordering::SeqCst);
    }
}

#[async_trait::async_trait]
impl Sweep for Database {
    async fn object_ages(
        &self,
        repository: &str,
        after: Option<Hash>,
        limit: u32,
    ) -> Result<Vec<ObjectAge>, StoreError> {
        let (now_us, data) = (self.now_us(), self.open()?);
        let objects = data.repositories.get(repository).into_iter().flat_map(|rows| &rows.objects);
        let later = objects.filter(|(hash, _)| after.is_none_or(|after| **hash > after));
        let age = |(hash, (bytes, referenced_at_us)): (&Hash, &(Bytes, i64))| ObjectAge {
            hash: *hash,
            referenced_at_us: *referenced_at_us,
            age_us: now_us - referenced_at_us,
            bytes: i64::try_from(bytes.len()).unwrap_or(i64::MAX),
            format: bytes.first().copied().unwrap_or_default(),
        };
        Ok(later.take(limit as usize).map(age).collect())
    }

    async fn purge(&self, repository: &str) -> Result<(), StoreError> {
        let mut data = self.open()?;
        data.documents.retain(|(kind, tenant, _), _| tenant != repository || kind == "tenant");
        if let Some(rows) = data.repositories.get_mut(repository) {
            *rows = Rows {
                exists: rows.exists,
                access_epoch: rows.access_epoch,
                last_event: rows.last_event,
                ..Rows::default()
            };
        }
        Ok(())
    }

    async fn delete_objects(&self, repository: &str, objects: &[ObjectAge]) -> Result<u64, StoreError> {
        let mut data = self.open()?;
        let Some(rows) = data.repositories.get_mut(repository) else { return Ok(0) };
        let mut deleted = 0;
        for object in objects {
            if rows.objects.get(&object.hash).is_some_and(|(_, at)| *at == object.referenced_at_us) {
                rows.objects.remove(&object.hash);
                deleted += 1;
            }
        }
        Ok(deleted)
    }
}

fn reference_row((name, (tag, hash)): (&String, &(bool, Hash))) -> ReferenceRow {
    ReferenceRow { name: name.clone(), tag: *tag, hash: *hash }
}

impl Data {
    /// What is not as the write expects it.
    fn refusal(&self, write: &Write) -> Option<Refusal> {
        let none = Rows::default();
        let rows = self.repositories.get(&write.repository).unwrap_or(&none);
        let reference = write.references.iter().find_map(|moved| elsewhere(rows, moved));
        let document = write.documents.iter().find_map(|put| self.changed(put));
        let idempotency = write.idempotency.iter().find(|row| rows.idempotency.contains_key(&row.key));
        let needs_repository = write.raise_access_epoch || !write.events.is_empty();
        let absent = needs_repository && !rows.exists && !write.create_repository;
        reference
            .or(document)
            .or_else(|| idempotency.map(|row| Refusal::Idempotency { key: row.key.clone() }))
            .or_else(|| absent.then_some(Refusal::Repository))
    }

    fn changed(&self, put: &DocumentPut) -> Option<Refusal> {
        let expected = put.expected_version?;
        let key = (put.kind.clone(), put.tenant.clone(), put.key.clone());
        let found = self.documents.get(&key).map_or(0, |document| document.version);
        let refused = found != expected || (put.body.is_none() && found == 0);
        refused.then(|| Refusal::Document { kind: put.kind.clone(), key: put.key.clone() })
    }

    /// Does what was found to be as expected.
    fn apply(&mut self, write: &Write, now_us: i64) {
        for put in &write.documents {
            let key = (put.kind.clone(), put.tenant.clone(), put.key.clone());
            let version = self.documents.get(&key).map_or(0, |document| document.version) + 1;
            match &put.body {
                Some(body) => {
                    let document = Document { version, body: body.clone(), updated_at_us: now_us };
                    self.documents.insert(key, document);
                }
                None => drop(self.documents.remove(&key)),
            }
        }
        let rows = self.repositories.entry(write.repository.clone()).or_default();
        rows.exists |= write.create_repository;
        rows.access_epoch += i64::from(write.raise_access_epoch);
        for moved in &write.references {
            match (moved.from, moved.to) {
                (_, Some(to)) => drop(rows.references.insert(moved.name.clone(), (moved.tag, to))),
                (Some(_), None) => drop(rows.references.remove(&moved.name)),
                (None, None) => {}
            }
        }
        for row in &write.idempotency {
            rows.idempotency.insert(row.key.clone(), row.clone());
        }
        for (hash, data) in &write.objects {
            rows.objects.insert(*hash, (data.clone(), now_us));
        }
        for event in &write.events {
            rows.last_event += 1;
            rows.events.push(EventRow {
                number: rows.last_event,
                kind: event.kind.to_owned(),
                body: event.body.clone(),
                created_at_us: now_us,
            });
        }
    }
}

fn elsewhere(rows: &Rows, moved: &ReferenceMove) -> Option<Refusal> {
    let found = rows.references.get(&moved.name).copied();
    let fits = match moved.from {
        None => moved.to.is_none() || found.is_none(),
        Some(from) => found == Some((moved.tag, from)),
    };
    (!fits).then(|| Refusal::Reference { name: moved.name.clone(), found: found.map(|(_, hash)| hash) })
}
