//! Firn's own endpoints.

use serde::Deserialize;

use super::{CatalogClient, Path, TenantClient};
use crate::{
    ClientError, Event, GcRequest, GcRun, Lease, LeaseRequest, Provisioning, Suspension, SuspensionRequest,
    Tenant, TenantCreate,
};

#[derive(Deserialize)]
struct Tenants {
    tenants: Vec<Tenant>,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
}

#[derive(Deserialize)]
struct Suspensions {
    suspensions: Vec<Suspension>,
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

    /// A token for a client's id and secret. A wrong one is `Denied`.
    pub async fn client_token(&self, id: &str, secret: &str) -> Result<String, ClientError> {
        let fields = [("grant_type", "client_credentials"), ("client_id", id), ("client_secret", secret)];
        let answer: Granted =
            self.transport.post_form(&Path::new("/iceberg/v1/oauth/tokens"), &fields).await?;
        Ok(answer.access_token)
    }

    /// All suspensions of the tenants that the token reaches.
    pub async fn suspensions(&self) -> Result<Vec<Suspension>, ClientError> {
        let answer: Suspensions = self.transport.get(&Path::new("/v1/suspensions")).await?;
        Ok(answer.suspensions)
    }
}

impl TenantClient {
    /// The tenant itself.
    pub async fn tenant(&self) -> Result<Tenant, ClientError> {
        self.transport.get(&self.firn_path()).await
    }

    /// Changes the tenant's bucket to what it should be, or only says what would change.
    pub async fn provision(&self, plan_only: bool) -> Result<Provisioning, ClientError> {
        let path = self.firn_path().fixed("/provision").query("plan", &plan_only.to_string());
        self.transport.post(&path, &serde_json::json!({}), None).await
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

    /// Suspends a stage of the tenant, or answers the suspension that is there.
    pub async fn suspend(&self, stage: &str, request: &SuspensionRequest) -> Result<Suspension, ClientError> {
        let path = self.firn_path().fixed("/suspensions").segment(stage);
        self.transport.post(&path, request, None).await
    }

    /// Lets a stage of the tenant go on.
    pub async fn resume(&self, stage: &str) -> Result<(), ClientError> {
        self.transport.delete(&self.firn_path().fixed("/suspensions").segment(stage)).await
    }

    /// Events numbered above `after`, oldest first. Waits up to `wait_ms` for the first one.
    pub async fn events(&self, after: i64, limit: usize, wait_ms: u64) -> Result<Vec<Event>, ClientError> {
        let path = self.firn_path().fixed("/events").query("after", &after.to_string());
        let path = path.query("limit", &limit.to_string()).query("wait_ms", &wait_ms.to_string());
        let answer: Events = self.transport.get(&path).await?;
        Ok(answer.events)
    }

    /// Starts a garbage collection; one that runs already is a conflict.
    pub async fn start_gc(&self, request: &GcRequest) -> Result<GcRun, ClientError> {
        self.transport.post(&self.firn_path().fixed("/gc"), request, None).await
    }

    /// The newest garbage collection.
    pub async fn last_gc(&self) -> Result<GcRun, ClientError> {
        self.transport.get(&self.firn_path().fixed("/gc")).await
    }

    fn firn_path(&self) -> Path {
        Path::new("/v1/tenants").segment(&self.tenant)
    }
}
