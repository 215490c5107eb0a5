//! Tokens: what a Firn access token says, how it is minted by the built-in issuer, and how every service checks it.
//!
//! One crate for it because the catalog, the gateway and the alerts API must give the same answer for the same token,
//! and services never import each other.

mod claims;
mod key;
mod verify;

pub use claims::{Claims, Role, Scope, TenantName, TenantNameError};
pub use key::{SigningKey, SigningKeyError};
pub use verify::{AuthError, Principal, Verifier};

/// `iss` of the built-in issuer.
const ISSUER: &str = "firn";
/// `aud` that every Firn service asks for.
const AUDIENCE: &str = "firn";
