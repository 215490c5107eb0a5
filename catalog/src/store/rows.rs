//! What goes into a store and comes out of it.

use bytes::Bytes;

use super::Hash;

/// A branch or tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferenceRow {
    /// Name.
    pub name: String,
    /// True for a tag.
    pub tag: bool,
    /// Where it points.
    pub hash: Hash,
}

/// References and access epoch of a repository at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Rises with every change of what principals may do; decisions are cached under it.
    pub access_epoch: i64,
    /// Those asked for that exist.
    pub references: Vec<ReferenceRow>,
}

/// Everything one transaction does.
#[derive(Clone, Debug, Default)]
pub struct Write {
    /// Repository of the objects, references, idempotency records and events.
    pub repository: String,
    /// Creates the repository; one that exists is left alone.
    pub create_repository: bool,
    /// Raises the access epoch.
    pub raise_access_epoch: bool,
    /// Compared and swapped, first of all.
    pub references: Vec<ReferenceMove>,
    /// Compared and swapped.
    pub documents: Vec<DocumentPut>,
    /// Inserted; refused if the key is there.
    pub idempotency: Vec<IdempotencyRow>,
    /// Inserted; of one that exists the age is renewed.
    pub objects: Vec<(Hash, Bytes)>,
    /// Numbered and inserted, last of all.
    pub events: Vec<NewEvent>,
}

/// A reference's move: creation without `from`, deletion without `to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReferenceMove {
    /// Name.
    pub name: String,
    /// Whether it is a tag. One of the other kind is not where it must be.
    pub tag: bool,
    /// Where it must be.
    pub from: Option<Hash>,
    /// Where it goes.
    pub to: Option<Hash>,
}

/// A document's change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentPut {
    /// Such as `tenant` or `lease`.
    pub kind: String,
    /// Tenant, or empty.
    pub tenant: String,
    /// Key within kind and tenant.
    pub key: String,
    /// The version that must be there: 0 for none, `None` for whatever is.
    pub expected_version: Option<i64>,
    /// The new body, or `None` to delete.
    pub body: Option<Bytes>,
}

/// Which documents of a kind.
#[derive(Clone, Copy, Debug)]
pub enum DocumentSelection<'a> {
    /// One.
    One {
        /// Tenant.
        tenant: &'a str,
        /// Key.
        key: &'a str,
    },
    /// All of a tenant, by key.
    Tenant(&'a str),
    /// All, by tenant and key.
    All,
}

/// A document: bytes that move, with a version to compare and swap by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentRow {
    /// Tenant.
    pub tenant: String,
    /// Key.
    pub key: String,
    /// Rises by one with each put, from 1.
    pub version: i64,
    /// Body.
    pub body: Bytes,
    /// When it was put, in microseconds by the database's clock.
    pub updated_at_us: i64,
    /// When it was read, by the same clock.
    pub read_at_us: i64,
}

/// A request that ran, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyRow {
    /// The client's key.
    pub key: String,
    /// Principal.
    pub principal: String,
    /// Operation.
    pub operation: String,
    /// SHA-256 of the request.
    pub request_hash: Hash,
    /// The commit it made.
    pub commit_hash: Option<Hash>,
    /// Or the error it was answered with.
    pub error: Option<String>,
}

impl IdempotencyRow {
    /// Twice the advertised lifetime of a key (PT30M), so that clocks needn't agree.
    pub const KEPT_SECONDS: i64 = 3600;
}

/// An event to be numbered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// Such as `commit` or `reference-created`.
    pub kind: &'static str,
    /// JSON.
    pub body: Bytes,
}

/// An event as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRow {
    /// From 1, without gaps, in commit order.
    pub number: i64,
    /// Kind.
    pub kind: String,
    /// JSON.
    pub body: Bytes,
    /// When, in microseconds by the database's clock.
    pub created_at_us: i64,
}

/// How a write ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// All of it is durable.
    Done,
    /// None of it happened.
    Refused(Refusal),
}

/// What was not as expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A reference is elsewhere.
    Reference {
        /// Its name.
        name: String,
        /// Where it is, if it exists.
        found: Option<Hash>,
    },
    /// A document has another version.
    Document {
        /// Its kind.
        kind: String,
        /// Its key.
        key: String,
    },
    /// An idempotency key was used before.
    Idempotency {
        /// The key.
        key: String,
    },
    /// Events or an epoch for a repository that doesn't exist.
    Repository,
}

/// Rows as sqlx reads them from either backend, checked.
pub(super) mod decode {
    use super::{Bytes, DocumentRow, EventRow, Hash, IdempotencyRow, ReferenceRow};
    use crate::store::StoreError;

    pub(in crate::store) type ReferenceTuple = (String, bool, Vec<u8>);
    pub(in crate::store) type HeadTuple = (i64, Option<String>, Option<bool>, Option<Vec<u8>>);
    pub(in crate::store) type IdempotencyTuple =
        (String, String, String, Vec<u8>, Option<Vec<u8>>, Option<String>);
    pub(in crate::store) type DocumentTuple = (String, String, i64, Vec<u8>, i64, i64);
    pub(in crate::store) type EventTuple = (i64, String, Vec<u8>, i64);

    pub(in crate::store) fn hash(bytes: &[u8]) -> Result<Hash, StoreError> {
        let length = bytes.len();
        Hash::from_slice(bytes).ok_or_else(|| {
            StoreError::Broken(sqlx::Error::Decode(format!("a hash has 32 bytes, not {length}").into()))
        })
    }

    pub(in crate::store) fn reference(row: ReferenceTuple) -> Result<ReferenceRow, StoreError> {
        Ok(ReferenceRow { name: row.0, tag: row.1, hash: hash(&row.2)? })
    }

    pub(in crate::store) fn heads(rows: Vec<HeadTuple>) -> Result<Option<super::Heads>, StoreError> {
        let Some(access_epoch) = rows.first().map(|row| row.0) else { return Ok(None) };
        let mut references = Vec::with_capacity(rows.len());
        for (_, name, tag, bytes) in rows {
            if let (Some(name), Some(tag), Some(bytes)) = (name, tag, bytes) {
                references.push(ReferenceRow { name, tag, hash: hash(&bytes)? });
            }
        }
        Ok(Some(super::Heads { access_epoch, references }))
    }

    pub(in crate::store) fn idempotency(row: IdempotencyTuple) -> Result<IdempotencyRow, StoreError> {
        let (key, principal, operation, request, commit, error) = row;
        let commit_hash = commit.as_deref().map(hash).transpose()?;
        Ok(IdempotencyRow { key, principal, operation, request_hash: hash(&request)?, commit_hash, error })
    }

    pub(in crate::store) fn document(row: DocumentTuple) -> DocumentRow {
        let (tenant, key, version, body, updated_at_us, read_at_us) = row;
        DocumentRow { tenant, key, version, body: Bytes::from(body), updated_at_us, read_at_us }
    }

    pub(in crate::store) fn event(row: EventTuple) -> EventRow {
        let (number, kind, body, created_at_us) = row;
        EventRow { number, kind, body: Bytes::from(body), created_at_us }
    }
}
