//! Who may do what: the one place that all routers ask.

use axum::http::{HeaderMap, header};
use firn_auth::{Principal, Role, TenantName};

use super::AppState;
use crate::CatalogError;

/// Checks the bearer token of a request.
pub(crate) fn authenticate(state: &AppState, headers: &HeaderMap) -> Result<Principal, CatalogError> {
    let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    state.verifier.verify_header(header).map_err(|error| CatalogError::Unauthenticated(error.to_string()))
}

/// Checks the bearer token, and that it gives at least `role` in `tenant`.
///
/// Whoever doesn't reach a tenant gets the same answer whether it exists or not.
pub(crate) fn authorize(
    state: &AppState,
    headers: &HeaderMap,
    tenant: &str,
    role: Role,
) -> Result<Principal, CatalogError> {
    let principal = authenticate(state, headers)?;
    let have = tenant.parse::<TenantName>().ok().and_then(|tenant| principal.role(&tenant));
    match have {
        None => Err(CatalogError::Forbidden(format!("the token does not reach the tenant '{tenant}'"))),
        Some(have) if have < role => {
            let (have, role) = (name(have), name(role));
            Err(CatalogError::Forbidden(format!(
                "this needs the role {role} in '{tenant}', the token gives {have}"
            )))
        }
        Some(_) => Ok(principal),
    }
}

fn name(role: Role) -> &'static str {
    match role {
        Role::Agent => "agent",
        Role::Reader => "reader",
        Role::Writer => "writer",
        Role::Maintainer => "maintainer",
        Role::Admin => "admin",
    }
}
