//! The versioned catalog: one repository of references, commits and content per tenant, spoken to as Iceberg REST and as
//! Nessie REST v2, with Firn's own endpoints for tenants and leases beside them.
//!
//! Layers, each knowing only those before it: `store` (rows and objects in SQLite or PostgreSQL), `version` (commits, trees,
//! references, merges), `metadata`, `manifests` and `storage` (a table's files), `scan` (which of them a query needs), then side by
//! side `iceberg`, `nessie` and `management`.

mod aws;
mod config;
mod delegation;
mod error;
mod gc;
mod iceberg;
mod management;
mod manifests;
mod metadata;
mod nessie;
mod off_thread;
mod provision;
mod recovery;
mod replay;
mod reports;
mod scan;
mod server;
pub mod simulation;
mod storage;
pub mod store;
pub mod version;

pub use config::{CatalogConfig, DelegationConfig, ProvisioningConfig, S3Config};
pub use error::CatalogError;
pub use management::ENDPOINTS;
pub use recovery::{Exported, Rebuilt, Skipped};
pub use server::Catalog;
