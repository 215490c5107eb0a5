//! Tokens and rights: what an access token says, how it is minted and checked, and what its holder may do.
//!
//! One crate for it because the catalog, the gateway and the alerts API must give the same answer for the same token,
//! and services never import each other. A service asks [`Guard`] and nothing else: it checks the token ([`Verifier`]), knows
//! how each tenant stands ([`Policy`], from a [`PolicySource`]), and decides.

mod claims;
mod document;
mod glob;
mod guard;
mod issuer;
mod jwks;
mod key;
mod policy;
mod refusals;
mod verify;

pub use claims::{Claims, Role, Scope, TenantName, TenantNameError};
pub use document::{DocumentError, verify_document};
pub use glob::fits as glob_fits;
pub use guard::{Access, Denied, Guard, Place, PolicySource};
pub use issuer::{Issuer, IssuerConfig, IssuerError};
pub use key::{SigningKey, SigningKeyError};
pub use policy::{Action, Grant, Limits, Policy, Protection, Revocation, RevokedWhat, Standing};
pub use refusals::{Refusals, Refused};
pub use verify::{AuthError, Principal, Verifier};

/// `iss` of the built-in issuer.
const ISSUER: &str = "firn";
/// `aud` that every Firn service asks for.
const AUDIENCE: &str = "firn";
