//! The inventory record: schema, validation and table names. No I/O.
//!
//! The native format is one JSON object per record whose keys are the fields of [`Inventory`]. Fields are only ever added,
//! always optional, and never renamed, retyped or reused: CHANGELOG-SCHEMA.md says what came when.

mod adapter;
mod address;
mod arrow_batch;
mod decode;
mod fields;
mod json_schema;
mod platform;
mod record;
pub mod tables;

pub use adapter::{AdaptError, AgentRequest, Format};
pub use address::{is_record_key, parse_record_key, record_key};
pub use arrow_batch::{
    BronzeBuilder, LogPosition, ORGANIZATION_COLUMNS, QuarantineBuilder, bronze_schema, quarantine_schema,
};
pub use decode::{Decoded, Rejection, RejectionKind, Row, decode, host_id, read};
pub use fields::{FieldClass, field_class};
pub use json_schema::json_schema;
pub use record::{Inventory, SCHEMA_VERSION, Software};
