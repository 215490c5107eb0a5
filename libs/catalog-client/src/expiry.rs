//! When branches and tags go by themselves.

use serde::{Deserialize, Serialize};

/// Body of `PUT /v1/tenants/{tenant}/expiries/{ref}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpiryRequest {
    /// When it may go, RFC 3339.
    pub expires_at: String,
}

/// When a branch or tag goes. `DELETE` on the same path takes it back, and so does making a reference of that name anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Expiry {
    /// Branch or tag.
    pub reference: String,
    /// RFC 3339.
    pub expires_at: String,
    /// Who said so.
    pub set_by: String,
    /// When, RFC 3339.
    pub set_at: String,
}

/// Body of `POST /v1/tenants/{tenant}/expiries`, which removes what is due.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PruneRequest {
    /// Only say what would go.
    pub dry_run: bool,
}

/// A branch or tag whose time is over, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Pruned {
    /// Branch or tag.
    pub reference: String,
    /// When its time was over, RFC 3339.
    pub expires_at: String,
    /// Whether it went, or would in a dry run.
    pub removed: bool,
    /// Why it stays; empty if it doesn't.
    pub reason: String,
}
