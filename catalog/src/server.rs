//! The catalog as one object: open it, take its router.

use axum::Router;
use firn_auth::TenantName;
use firn_catalog_client::{Tenant, TenantCreate};

use crate::{CatalogConfig, CatalogError};

/// An open catalog. Cheap to clone.
#[derive(Clone)]
pub struct Catalog {}

impl Catalog {
    /// Opens the database (running migrations) and the storage.
    pub async fn open(_config: CatalogConfig) -> Result<Self, CatalogError> {
        todo!()
    }

    /// `/iceberg/…`, `/nessie/{tenant}/api/v2/…`, `/v1/tenants…` (tenants, leases, events).
    #[must_use]
    pub fn router(&self) -> Router {
        todo!()
    }

    /// Creates a tenant with its `main`, or answers it if it exists.
    pub async fn ensure_tenant(&self, _request: &TenantCreate) -> Result<Tenant, CatalogError> {
        todo!()
    }

    /// Whether the database answers; the text says what is wrong.
    pub async fn health(&self) -> Result<(), String> {
        todo!()
    }

    /// Names of all tenants.
    pub async fn tenant_names(&self) -> Result<Vec<TenantName>, CatalogError> {
        todo!()
    }
}
