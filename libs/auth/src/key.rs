//! The built-in issuer's key: Ed25519, PKCS#8 PEM.

use std::time::Duration;

use crate::{Claims, Verifier};

/// An Ed25519 key that signs tokens. `Debug` never prints it.
#[derive(Clone)]
pub struct SigningKey {}

/// Why a key could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the signing key is not an Ed25519 private key in PKCS#8 PEM: {0}")]
pub struct SigningKeyError(pub String);

impl SigningKey {
    /// A fresh random key.
    #[must_use]
    pub fn generate() -> Self {
        todo!()
    }

    /// Reads a key from PKCS#8 PEM.
    pub fn from_pem(_pem: &str) -> Result<Self, SigningKeyError> {
        todo!()
    }

    /// The key as PKCS#8 PEM, to be kept in a file of mode 0600.
    #[must_use]
    pub fn to_pem(&self) -> String {
        todo!()
    }

    /// Signs `claims` as they are.
    #[must_use]
    pub fn sign(&self, _claims: &Claims) -> String {
        todo!()
    }

    /// A token of the built-in issuer for a service of this process: operator, with both service scopes.
    #[must_use]
    pub fn service_token(&self, _name: &str, _ttl: Duration) -> String {
        todo!()
    }

    /// A verifier that trusts this key.
    #[must_use]
    pub fn verifier(&self) -> Verifier {
        todo!()
    }
}
