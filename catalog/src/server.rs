//! The catalog as one object: open it, take its router.

#[cfg(test)]
mod tests;

use axum::Router;
use firn_auth::{Guard, TenantName, Verifier};
use firn_catalog_client::{Tenant, TenantCreate};

use crate::{
    CatalogConfig, CatalogError, iceberg,
    management::{self, AppState},
    nessie,
    recovery::{self, Exported, Rebuilt},
    store,
    version::Actor,
};

/// An open catalog. Cheap to clone.
#[derive(Clone)]
pub struct Catalog {
    state: AppState,
}

impl Catalog {
    /// Opens the database (running migrations) and the storage. Trusts the built-in issuer alone.
    pub async fn open(config: CatalogConfig) -> Result<Self, CatalogError> {
        let verifier = config.signing_key.verifier();
        Self::open_for(config, verifier).await
    }

    /// The same for those whose tokens `verifier` finds good.
    pub async fn open_for(config: CatalogConfig, verifier: Verifier) -> Result<Self, CatalogError> {
        Ok(Self { state: AppState::open(config, verifier).await? })
    }

    /// What decides who may do what, for services of this process.
    #[must_use]
    pub fn guard(&self) -> Guard {
        self.state.guard.clone()
    }

    /// Removes the data of deleted tenants whose grace period is over; answers whose.
    pub async fn purge_due(&self) -> Result<Vec<String>, CatalogError> {
        management::purge_due(&self.state).await
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

    /// `/iceberg/…`, `/nessie/{tenant}/api/v2/…`, `/v1/…` (tenants, access, leases, events).
    pub fn router(&self) -> Router {
        iceberg::router(self.state.clone())
            .merge(nessie::router(self.state.clone()))
            .merge(management::router(self.state.clone()))
    }

    /// Creates a tenant with its `main`, or answers it if it exists.
    pub async fn ensure_tenant(&self, request: &TenantCreate) -> Result<Tenant, CatalogError> {
        management::create_tenant(&self.state, request, &Actor::default()).await
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

    /// From here on the database's new connections are made with this URL, such as one with another password.
    ///
    /// # Errors
    /// A URL that is none, and a database that is a file.
    pub fn reconnect(&self, database_url: &str) -> Result<(), CatalogError> {
        Ok(self.state.store.reconnect(database_url)?)
    }

    /// Writes what waits in memory. Nothing is asked of the catalog after that.
    pub async fn close(&self) {
        self.state.reads.write().await;
    }

    /// Puts back erasures that the object store knows of and the database doesn't, as after a restore of the latter; answers how
    /// many, by tenant. To be done before requests are taken.
    ///
    /// # Errors
    /// `Unavailable` for the database. Of a tenant whose files can't be read the log tells.
    pub async fn recover_erasures(&self) -> Result<Vec<(TenantName, usize)>, CatalogError> {
        let tenants = management::tenant_names(&self.state).await?;
        Ok(management::recover_erasures(&self.state, tenants).await)
    }

    /// Whether the database answers; the text says what is wrong.
    pub async fn health(&self) -> Result<(), String> {
        self.state.store.ping().await.map_err(|error| error.to_string())
    }

    /// Names of the tenants that are in use.
    pub async fn tenant_names(&self) -> Result<Vec<TenantName>, CatalogError> {
        management::tenant_names(&self.state).await
    }
}
