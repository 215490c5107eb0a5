//! The claims of an access token.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A tenant's name: `[a-z0-9][a-z0-9-]{0,62}`. It cannot hold anything else once constructed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TenantName(String);

/// Why a text is no tenant name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("'{0}' is not a tenant name: 1 to 63 of a-z, 0-9 and '-', not starting with '-'")]
pub struct TenantNameError(pub String);

impl TenantName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TenantName {
    type Err = TenantNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        let fits = (1..=63).contains(&text.len()) && !text.starts_with('-') && text.bytes().all(allowed);
        if fits { Ok(Self(text.to_owned())) } else { Err(TenantNameError(text.to_owned())) }
    }
}

impl TryFrom<String> for TenantName {
    type Error = TenantNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<TenantName> for String {
    fn from(name: TenantName) -> Self {
        name.0
    }
}

impl fmt::Display for TenantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a principal may do in a tenant; each role includes those before it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reaches the tenant with nothing but the token's scopes.
    Agent,
    /// Reads tables, references and findings.
    Reader,
    /// Commits to tables and unprotected branches.
    Writer,
    /// Merges into protected branches, maintains tables, acknowledges findings.
    Maintainer,
    /// Everything within the tenant: clients, grants, policies.
    Admin,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Agent => "agent",
            Self::Reader => "reader",
            Self::Writer => "writer",
            Self::Maintainer => "maintainer",
            Self::Admin => "admin",
        })
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let all = [Self::Agent, Self::Reader, Self::Writer, Self::Maintainer, Self::Admin];
        let found = all.into_iter().find(|role| role.to_string() == text);
        found.ok_or_else(|| format!("'{text}' is no role: agent, reader, writer, maintainer or admin"))
    }
}

/// A narrow right that is not part of a role.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
pub enum Scope {
    /// Upload inventories through the gateway.
    #[serde(rename = "inventory:write")]
    InventoryWrite,
    /// Firn's own ingest worker: may write `firn.position.*` properties.
    #[serde(rename = "service:ingest")]
    ServiceIngest,
    /// Firn's own compactor: exempt from branch protection for maintenance and promotion.
    #[serde(rename = "service:maintenance")]
    ServiceMaintenance,
}

/// The claims of a Firn access token (RFC 9068 names where there is one).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Issuer.
    pub iss: String,
    /// The principal: a client id, a user, or `service:NAME`.
    pub sub: String,
    /// Audience; the built-in issuer writes `firn`.
    pub aud: String,
    /// Issued at, seconds since the epoch.
    pub iat: i64,
    /// Not valid before, seconds since the epoch.
    pub nbf: i64,
    /// Not valid after, seconds since the epoch.
    pub exp: i64,
    /// A unique id of this token.
    pub jti: String,
    /// The id of the token that this one was first exchanged for; revoking that one ends this one, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// When the caller last proved itself by more than a token, seconds since the epoch; the time of issue if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_time: Option<i64>,
    /// Role by tenant. A token reaches exactly these tenants.
    #[serde(default)]
    pub tenants: BTreeMap<TenantName, Role>,
    /// True for an operator: every tenant as admin, and the management of tenants.
    #[serde(default)]
    pub operator: bool,
    /// Scopes beside the roles.
    #[serde(default)]
    pub scopes: Vec<Scope>,
    /// The only host this token may upload inventories for, if bound to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}
