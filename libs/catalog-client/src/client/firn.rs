//! Firn's own endpoints.

use serde::Deserialize;

use super::{CatalogClient, Path, TenantClient};
use crate::{ClientError, Event, Lease, LeaseRequest, Tenant, TenantCreate};

#[derive(Deserialize)]
struct Tenants {
    tenants: Vec<Tenant>,
}

#[derive(Deserialize)]
struct Events {
    events: Vec<Event>,
}

impl CatalogClient {
    /// All tenants the token reaches: `GET /v1/tenants`.
    pub async fn tenants(&self) -> Result<Vec<Tenant>, ClientError> {
        let answer: Tenants = self.transport.get(&Path::new("/v1/tenants")).await?;
        Ok(answer.tenants)
    }

    /// Creates a tenant, or answers it if it exists.
    pub async fn create_tenant(&self, request: &TenantCreate) -> Result<Tenant, ClientError> {
        self.transport.post(&Path::new("/v1/tenants"), request, None).await
    }
}

impl TenantClient {
    /// The tenant itself.
    pub async fn tenant(&self) -> Result<Tenant, ClientError> {
        self.transport.get(&self.firn_path()).await
    }

    /// Acquires or renews a lease; one held by another is a conflict.
    pub async fn lease(&self, name: &str, request: &LeaseRequest) -> Result<Lease, ClientError> {
        let path = self.firn_path().fixed("/leases").segment(name);
        self.transport.post(&path, request, None).await
    }

    /// Gives a lease back.
    pub async fn release_lease(&self, name: &str, holder: &str) -> Result<(), ClientError> {
        let path = self.firn_path().fixed("/leases").segment(name).query("holder", holder);
        self.transport.delete(&path).await
    }

    /// Events numbered above `after`, oldest first. Waits up to `wait_ms` for the first one.
    pub async fn events(&self, after: i64, limit: usize, wait_ms: u64) -> Result<Vec<Event>, ClientError> {
        let path = self.firn_path().fixed("/events").query("after", &after.to_string());
        let path = path.query("limit", &limit.to_string()).query("wait_ms", &wait_ms.to_string());
        let answer: Events = self.transport.get(&path).await?;
        Ok(answer.events)
    }

    fn firn_path(&self) -> Path {
        Path::new("/v1/tenants").segment(&self.tenant)
    }
}
