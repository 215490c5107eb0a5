//! Firn's own endpoints: tenants, leases and suspensions.

use std::collections::BTreeMap;

use firn_auth::Limits;
use serde::{Deserialize, Serialize};

/// Body of `POST /v1/tenants`; creating a tenant that exists answers it unchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TenantCreate {
    /// `[a-z0-9][a-z0-9-]{0,62}`.
    pub name: String,
    /// Region the tenant's data stays in; the deployment's own if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Data classifications, such as `GDPR`.
    pub classifications: Vec<String>,
    /// Free words for those who run it, such as a cost centre.
    pub tags: BTreeMap<String, String>,
    /// Name of the storage profile; the deployment's own if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_profile: Option<String>,
    /// How long each layer keeps its rows.
    pub retention: LayerRetention,
    /// How much of the server it may take.
    pub limits: Limits,
}

/// Body of `PATCH /v1/tenants/{tenant}`: what is absent stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TenantUpdate {
    /// Replaces all classifications.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classifications: Option<Vec<String>>,
    /// Replaces all tags.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, String>>,
    /// Another storage profile, for tables that are created from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_profile: Option<String>,
    /// Replaces the retention of all layers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<LayerRetention>,
    /// Replaces all limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
}

/// Days for which rows are kept; for ever if absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LayerRetention {
    /// Of tables in `bronze`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bronze_days: Option<u32>,
    /// Of tables in `silver`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silver_days: Option<u32>,
    /// Of tables in `gold`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gold_days: Option<u32>,
    /// Of values in columns of a class, by `LAYER.CLASS`, such as `silver.personal`: the rows stay without them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub classes: BTreeMap<String, u32>,
}

/// A tenant as the catalog answers it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Tenant {
    /// Name.
    pub name: String,
    /// Region.
    pub region: String,
    /// Data classifications.
    pub classifications: Vec<String>,
    /// `active`, `suspended`, `deleted` (it can be restored) or `purged` (only its name is left).
    pub state: String,
    /// Root of the tenant's tables: `<warehouse>/<tenant>`.
    pub location: String,
    /// RFC 3339.
    pub created_at: String,
    /// Tags.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Name of the storage profile, if it isn't the deployment's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_profile: Option<String>,
    /// How long each layer keeps its rows.
    #[serde(default)]
    pub retention: LayerRetention,
    /// How much of the server it may take.
    #[serde(default)]
    pub limits: Limits,
    /// Why it is not active.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// When it was deleted, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<String>,
    /// When its data goes for good, RFC 3339; until then it can be restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purge_after: Option<String>,
}

/// Body of `POST /v1/tenants/{tenant}/suspend`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TenantSuspend {
    /// Why; those who are refused read it.
    pub reason: String,
}

/// Body of `POST /v1/tenants/{tenant}/leases/{name}`: acquire, or renew with the same holder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LeaseRequest {
    /// Who holds it; unique per process.
    pub holder: String,
    /// How long it holds without renewal, in milliseconds.
    pub ttl_ms: u64,
}

/// A held lease. `DELETE` on the same path with `?holder=` gives it back. A lease held by another is 409.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
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

/// A page of events, oldest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EventPage {
    /// Those after the cursor.
    pub events: Vec<Event>,
    /// The cursor to go on with: it also passes over events that aren't shown.
    pub next: i64,
}

/// Answer of `GET /v1/events`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LastEvents {
    /// Each tenant, by name.
    pub tenants: Vec<LastEvent>,
}

/// How far a tenant's events go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LastEvent {
    /// Tenant.
    pub tenant: String,
    /// Number of its newest event; 0 if there is none.
    pub sequence: i64,
}

/// Body of `POST /v1/tenants/{tenant}/suspensions/{stage}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SuspensionRequest {
    /// Why, for those who wonder later.
    #[serde(default)]
    pub reason: String,
}

/// A stage that is to stand still for a tenant, keeping its place, until `DELETE` on the same path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
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
