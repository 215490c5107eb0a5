//! Checking a bearer token.

use crate::{Claims, Role, Scope, TenantName};

/// Checks tokens of the issuers it was built with. Cheap to clone.
#[derive(Clone)]
pub struct Verifier {}

/// Why a token was refused. `Display` is safe to show to the caller.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum AuthError {
    /// No `Authorization: Bearer` header.
    #[error("no bearer token: send 'Authorization: Bearer TOKEN'")]
    Missing,
    /// The token is no JWT, or its signature, issuer or audience is not ours.
    #[error("the token is not valid: {0}")]
    Invalid(String),
    /// The token's time is over, or has not begun.
    #[error("the token {0}")]
    Expired(String),
}

/// Who is calling, after the token was checked.
#[derive(Clone, Debug)]
pub struct Principal {
    /// The claims of the token.
    pub claims: Claims,
}

impl Verifier {
    /// Checks the value of an `Authorization` header.
    pub fn verify_header(&self, _authorization: Option<&str>) -> Result<Principal, AuthError> {
        todo!()
    }

    /// Checks a bare token.
    pub fn verify(&self, _token: &str) -> Result<Principal, AuthError> {
        todo!()
    }
}

impl Principal {
    /// The principal's role in `tenant`: admin for an operator, none if the token does not reach the tenant.
    #[must_use]
    pub fn role(&self, tenant: &TenantName) -> Option<Role> {
        if self.claims.operator { Some(Role::Admin) } else { self.claims.tenants.get(tenant).copied() }
    }

    /// Whether the role in `tenant` is at least `role`.
    #[must_use]
    pub fn may(&self, tenant: &TenantName, role: Role) -> bool {
        self.role(tenant).is_some_and(|have| have >= role)
    }

    /// Whether the token carries `scope`.
    #[must_use]
    pub fn has_scope(&self, scope: Scope) -> bool {
        self.claims.scopes.contains(&scope)
    }

    /// Whether the principal may upload inventories into `tenant`: by scope, or as a writer.
    #[must_use]
    pub fn may_upload(&self, tenant: &TenantName) -> bool {
        let reaches = self.role(tenant).is_some();
        reaches && (self.has_scope(Scope::InventoryWrite) || self.may(tenant, Role::Writer))
    }

    /// The principal's name, for logs and audit.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.claims.sub
    }
}
