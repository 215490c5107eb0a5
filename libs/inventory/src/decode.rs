//! From bytes to a record, one at a time; keeps what it does not know.

use crate::Inventory;

/// A record that was understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The known fields.
    pub inventory: Inventory,
    /// Unknown fields as one JSON object, if any.
    pub extra: Option<String>,
}

/// Why a record was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RejectionKind {
    /// Not JSON, or not UTF-8.
    NotJson,
    /// JSON, but no object.
    NotAnObject,
    /// A field has another type than the schema says.
    WrongType,
    /// A required field is absent or empty.
    MissingField,
    /// A field stands twice.
    DuplicateField,
    /// A value is out of what the field may hold.
    OutOfRange,
    /// No payload at all.
    Tombstone,
}

/// A rejected record: the reason is written for a person, and names the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Rejection {
    /// Kind, for counting.
    pub kind: RejectionKind,
    /// What is wrong and where.
    pub reason: String,
}

/// Decodes one native record.
pub fn decode(_bytes: &[u8]) -> Result<Decoded, Rejection> {
    todo!()
}
