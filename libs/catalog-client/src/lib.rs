//! Wire types and client of the catalog's HTTP APIs. The server uses the same types, so the two can't drift apart.
//!
//! Iceberg REST is reached under `/iceberg`, Nessie REST v2 under `/nessie/{tenant}/api/v2`, Firn's own endpoints under `/v1`.

mod access;
mod client;
mod erasure;
mod error;
mod expiry;
mod gc;
pub mod iceberg;
pub mod nessie;
mod provisioning;
mod reports;
mod tenants;

pub use access::{
    AccessRules, AuditEntry, Client, ClientCreate, ClientRotate, ClientSecret, IssuedToken,
    RevocationRequest, TokenRequest,
};
pub use client::{CatalogClient, StaticToken, TenantClient, TokenSource};
pub use erasure::{
    Erasure, ErasureCounts, ErasureJob, ErasureList, ErasureRequest, ErasureState, Hold, HoldRequest,
    RECEIPT_TYPE, Subject, subject_hash,
};
pub use error::{ClientError, ClientErrorKind};
pub use expiry::{Expiry, ExpiryRequest, PruneRequest, Pruned};
pub use gc::{GcFile, GcReport, GcRequest, GcRun, GcState, GcTable, GcUnreadable};
pub use provisioning::{Provisioning, ProvisioningStep, TerraformModule};
pub use reports::{MetricsReport, MetricsReports};
pub use tenants::{
    Event, EventPage, LastEvent, LastEvents, LayerRetention, Lease, LeaseRequest, Suspension,
    SuspensionRequest, Tenant, TenantCreate, TenantSuspend, TenantUpdate,
};
