//! Who may do what: clients, tokens, grants, and the audit log.

use firn_auth::{Grant, Protection, Revocation, Role, Scope};
use serde::{Deserialize, Serialize};

/// Body of `POST /v1/tenants/{tenant}/clients`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientCreate {
    /// Its name within the tenant: `[a-z0-9][a-z0-9-]{0,62}`.
    pub name: String,
    /// Its role in the tenant.
    pub role: Role,
    /// Scopes beside the role.
    #[serde(default)]
    pub scopes: Vec<Scope>,
    /// The only host it may upload for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// A client with its secret, which is shown this once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ClientSecret {
    /// `TENANT/NAME`.
    pub client_id: String,
    /// 256 random bits as text.
    pub client_secret: String,
    /// Until when the former secret is good, too; RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former_until: Option<String>,
}

/// A client without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Client {
    /// `TENANT/NAME`.
    pub client_id: String,
    /// Its role in the tenant.
    pub role: Role,
    /// Scopes beside the role.
    pub scopes: Vec<Scope>,
    /// The only host it may upload for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// When each secret that is good now was made, RFC 3339, oldest first.
    pub secrets: Vec<String>,
}

/// Body of `POST /v1/tenants/{tenant}/clients/{name}/rotate`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClientRotate {
    /// For how many seconds the former secret stays good; a day if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlap_s: Option<u64>,
}

/// Body of `POST /v1/tenants/{tenant}/tokens`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// Whom it is for; its principal is `TENANT/SUBJECT`.
    pub subject: String,
    /// Its role in the tenant.
    pub role: Role,
    /// Scopes beside the role.
    #[serde(default)]
    pub scopes: Vec<Scope>,
    /// The only host it may upload for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// How long it is valid; an hour if absent, a day at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_s: Option<u64>,
}

/// A token that was issued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct IssuedToken {
    /// The token.
    pub token: String,
    /// Its id, to revoke it by.
    pub id: String,
    /// RFC 3339.
    pub expires_at: String,
}

/// Body of `POST …/revocations`: a token, the id of one, or all tokens of a principal issued until now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RevocationRequest {
    /// A token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// A token's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// A principal's full name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// Why.
    pub reason: String,
}

/// Grants and protected branches of a tenant: `GET` and `PUT /v1/tenants/{tenant}/access`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AccessRules {
    /// Which version this is; a `PUT` must bring the newest.
    pub version: i64,
    /// Beside the roles.
    pub grants: Vec<Grant>,
    /// Protected branches.
    pub protections: Vec<Protection>,
    /// Tokens that are refused; a `PUT` leaves them alone.
    pub revocations: Vec<Revocation>,
}

/// An entry of the audit log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AuditEntry {
    /// Rises in the order of things within the tenant.
    pub sequence: i64,
    /// RFC 3339.
    pub time: String,
    /// Tenant.
    pub tenant: String,
    /// Who; empty for the server itself.
    pub principal: String,
    /// What: `commit`, `tenant-suspended`, or what was refused.
    pub action: String,
    /// `allowed` or `denied`.
    pub decision: String,
    /// The commit, if one was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The request's `x-request-id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// More, by action.
    pub details: serde_json::Value,
}
