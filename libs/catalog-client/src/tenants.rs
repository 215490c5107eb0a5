//! Firn's own endpoints: tenants, leases and suspensions.

use serde::{Deserialize, Serialize};

/// Body of `POST /v1/tenants`; creating a tenant that exists answers it unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantCreate {
    /// `[a-z0-9][a-z0-9-]{0,62}`.
    pub name: String,
    /// Region the tenant's data stays in; the deployment's own if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Data classifications, such as `GDPR`.
    #[serde(default)]
    pub classifications: Vec<String>,
}

/// A tenant as the catalog answers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    /// Name.
    pub name: String,
    /// Region.
    pub region: String,
    /// Data classifications.
    pub classifications: Vec<String>,
    /// `active` or `suspended`.
    pub state: String,
    /// Root of the tenant's tables: `<warehouse>/<tenant>`.
    pub location: String,
    /// RFC 3339.
    pub created_at: String,
}

/// Body of `POST /v1/tenants/{tenant}/leases/{name}`: acquire, or renew with the same holder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRequest {
    /// Who holds it; unique per process.
    pub holder: String,
    /// How long it holds without renewal, in milliseconds.
    pub ttl_ms: u64,
}

/// A held lease. `DELETE` on the same path with `?holder=` gives it back. A lease held by another is 409.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Name.
    pub name: String,
    /// Holder.
    pub holder: String,
    /// Rises with each new holder.
    pub fencing_token: i64,
    /// Milliseconds until it ends, by the database's clock.
    pub remaining_ms: u64,
}

/// What happened in a tenant's repository: a commit, or a reference that was created, assigned or deleted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Rises by commit order within the tenant.
    pub sequence: i64,
    /// `commit`, `reference-created` …
    #[serde(rename = "type")]
    pub event_type: String,
    /// RFC 3339.
    pub time: String,
    /// Details, by type.
    pub data: serde_json::Value,
}

/// Body of `POST /v1/tenants/{tenant}/suspensions/{stage}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SuspensionRequest {
    /// Why, for those who wonder later.
    #[serde(default)]
    pub reason: String,
}

/// A stage that is to stand still for a tenant, keeping its place, until `DELETE` on the same path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspension {
    /// Tenant.
    pub tenant: String,
    /// Stage: `ingest`.
    pub stage: String,
    /// Why.
    pub reason: String,
    /// Who suspended it.
    pub by: String,
    /// Since when, RFC 3339.
    pub since: String,
}
