//! The catalog as one object: open it, take its router.

#[cfg(test)]
mod tests;

use axum::Router;
use firn_auth::TenantName;
use firn_catalog_client::{Tenant, TenantCreate};

use crate::{
    CatalogConfig, CatalogError, iceberg,
    management::{self, AppState},
    nessie,
    recovery::{self, Exported, Rebuilt},
    store,
};

/// An open catalog. Cheap to clone.
#[derive(Clone)]
pub struct Catalog {
    state: AppState,
}

impl Catalog {
    /// Opens the database (running migrations) and the storage.
    pub async fn open(config: CatalogConfig) -> Result<Self, CatalogError> {
        Ok(Self { state: AppState::open(config).await? })
    }

    /// Brings a database's schema up to date without serving it, and answers the schema's number.
    ///
    /// # Errors
    /// A database that can't be reached, or whose schema this version doesn't know.
    pub async fn migrate(database_url: &str) -> Result<i64, CatalogError> {
        let store = store::open(database_url).await?;
        store.close().await;
        Ok(store::schema_number())
    }

    /// `/iceberg/…`, `/nessie/{tenant}/api/v2/…`, `/v1/tenants…` (tenants, leases, events).
    pub fn router(&self) -> Router {
        iceberg::router(self.state.clone())
            .merge(nessie::router(self.state.clone()))
            .merge(management::router(self.state.clone()))
    }

    /// Creates a tenant with its `main`, or answers it if it exists.
    pub async fn ensure_tenant(&self, request: &TenantCreate) -> Result<Tenant, CatalogError> {
        management::create_tenant(&self.state, request).await
    }

    /// Copies a tenant's references and commits into the object store, from where [`Catalog::rebuild`] can take them.
    ///
    /// # Errors
    /// `NotFound` for a tenant that there isn't; `Unavailable` for database or storage.
    pub async fn export(&self, tenant: &str) -> Result<Exported, CatalogError> {
        recovery::export(&self.state, tenant).await
    }

    /// Puts back what the warehouse holds of all tenants, or of `only` one, into a database that has nothing of them: the
    /// newest export, and `from_metadata` tables by their newest metadata files.
    ///
    /// # Errors
    /// `AlreadyExists` if the database has commits of one, `Invalid` for a damaged export or where there is none.
    pub async fn rebuild(
        &self,
        only: Option<&str>,
        from_metadata: bool,
    ) -> Result<Vec<Rebuilt>, CatalogError> {
        recovery::rebuild(&self.state, only, from_metadata).await
    }

    /// Whether the database answers; the text says what is wrong.
    pub async fn health(&self) -> Result<(), String> {
        self.state.store.ping().await.map_err(|error| error.to_string())
    }

    /// Names of all tenants.
    pub async fn tenant_names(&self) -> Result<Vec<TenantName>, CatalogError> {
        management::tenant_names(&self.state).await
    }
}
