//! Table and view metadata as lossless JSON documents: pure functions `(document, updates) -> document`.
//!
//! The documents are those of the Iceberg table and view specifications (table format versions 1 to 3). Fields that Firn
//! doesn't know are kept as they came; what it knows is checked as the specification asks. Nothing here does I/O, and the
//! time is an argument.

mod create;
mod document;
mod element;
mod encryption;
mod error;
mod fresh_ids;
mod history;
mod partition;
mod properties;
mod references;
mod requirement;
mod schema;
mod snapshot;
mod sort;
mod statistics;
mod types;
mod update;
mod view;

#[cfg(test)]
mod tests;

pub(crate) use create::{NewTable, new_table};
pub(crate) use document::Document;
pub(crate) use error::MetadataError;
pub(crate) use requirement::{check_requirements, requires_create};
pub(crate) use schema::{Field as SchemaField, fields as schema_fields};
pub(crate) use update::{ApplyContext, apply_updates};
pub(crate) use view::{NewView, apply_view_updates, check_view_requirements, new_view};
