//! The built-in issuer's key: Ed25519, PKCS#8 PEM.

use std::{fmt, sync::Arc, time::Duration};

use chrono::Utc;
use ed25519_dalek::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, spki::der::pem::LineEnding};
use jsonwebtoken::{Algorithm, EncodingKey, Header};

use crate::{AUDIENCE, Claims, ISSUER, Issuer, Scope, Verifier};

/// An Ed25519 key that signs tokens. `Debug` never prints it.
#[derive(Clone)]
pub struct SigningKey {
    inner: Arc<Inner>,
}

struct Inner {
    key: ed25519_dalek::SigningKey,
    encoding: EncodingKey,
    /// Thumbprint of the public key, so that a verifier with several keys can pick one.
    key_id: String,
}

/// Why a key could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the signing key is not an Ed25519 private key in PKCS#8 PEM: {0}")]
pub struct SigningKeyError(pub String);

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("key_id", &self.inner.key_id).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// A fresh random key.
    #[must_use]
    pub fn generate() -> Self {
        Self::from_key(ed25519_dalek::SigningKey::from_bytes(&rand::random()))
    }

    /// Reads a key from PKCS#8 PEM.
    pub fn from_pem(pem: &str) -> Result<Self, SigningKeyError> {
        let key = ed25519_dalek::SigningKey::from_pkcs8_pem(pem.trim());
        key.map(Self::from_key).map_err(|error| SigningKeyError(error.to_string()))
    }

    /// The key as PKCS#8 PEM, to be kept in a file of mode 0600.
    #[must_use]
    pub fn to_pem(&self) -> String {
        let pem =
            self.inner.key.to_pkcs8_pem(LineEnding::LF).expect("an Ed25519 key always has a PKCS#8 form");
        pem.as_str().to_owned()
    }

    /// Signs `claims` as they are.
    #[must_use]
    pub fn sign(&self, claims: &Claims) -> String {
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(self.inner.key_id.clone());
        jsonwebtoken::encode(&header, claims, &self.inner.encoding)
            .expect("claims are plain JSON and the key was checked when it was read")
    }

    /// A token of the built-in issuer for a service of this process: operator, with both service scopes.
    #[must_use]
    pub fn service_token(&self, name: &str, ttl: Duration) -> String {
        let claims = Claims {
            operator: true,
            scopes: vec![Scope::ServiceIngest, Scope::ServiceMaintenance],
            ..Claims::new(&format!("service:{name}"), ttl)
        };
        self.sign(&claims)
    }

    /// A verifier that trusts this key and no other issuer.
    #[must_use]
    pub fn verifier(&self) -> Verifier {
        self.verifier_with(Vec::new())
    }

    /// A verifier that trusts this key and other issuers.
    #[must_use]
    pub fn verifier_with(&self, issuers: Vec<Issuer>) -> Verifier {
        Verifier::new(&self.inner.key.verifying_key(), issuers)
    }

    pub(crate) fn key_id(&self) -> &str {
        &self.inner.key_id
    }

    pub(crate) fn verifying_bytes(&self) -> [u8; 32] {
        self.inner.key.verifying_key().to_bytes()
    }

    #[cfg(test)]
    pub(crate) fn verifying_key(&self) -> ed25519_dalek::VerifyingKey {
        self.inner.key.verifying_key()
    }

    pub(crate) fn encoding_key(&self) -> &EncodingKey {
        &self.inner.encoding
    }

    fn from_key(key: ed25519_dalek::SigningKey) -> Self {
        let der = key.to_pkcs8_der().expect("an Ed25519 key always has a PKCS#8 form");
        let encoding = EncodingKey::from_ed_der(der.as_bytes());
        let key_id = thumbprint(&key.verifying_key());
        Self { inner: Arc::new(Inner { key, encoding, key_id }) }
    }
}

/// RFC 7638 thumbprint of the public key as a JWK.
fn thumbprint(key: &ed25519_dalek::VerifyingKey) -> String {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    use sha2::{Digest as _, Sha256};
    let jwk = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, URL_SAFE_NO_PAD.encode(key.as_bytes()));
    URL_SAFE_NO_PAD.encode(Sha256::digest(jwk))
}

impl Claims {
    /// Claims with all rights of `old`, valid from now for `ttl`, that a revocation of `old` ends, too.
    #[must_use]
    pub fn renewed(old: &Self, ttl: Duration) -> Self {
        let fresh = Self::new(&old.sub, ttl);
        Self {
            origin: Some(old.origin.clone().unwrap_or_else(|| old.jti.clone())),
            auth_time: Some(old.auth_time.unwrap_or(old.iat)),
            iat: fresh.iat,
            nbf: fresh.nbf,
            exp: fresh.exp,
            jti: fresh.jti,
            iss: fresh.iss,
            aud: fresh.aud,
            ..old.clone()
        }
    }

    /// Claims of the built-in issuer for `subject`, valid from now for `ttl`, reaching nothing yet.
    #[must_use]
    pub fn new(subject: &str, ttl: Duration) -> Self {
        let now = Utc::now().timestamp();
        let seconds = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
        Self {
            iss: ISSUER.to_owned(),
            sub: subject.to_owned(),
            aud: AUDIENCE.to_owned(),
            iat: now,
            nbf: now,
            exp: now.saturating_add(seconds),
            jti: uuid::Uuid::new_v4().to_string(),
            origin: None,
            auth_time: None,
            tenants: std::collections::BTreeMap::new(),
            operator: false,
            scopes: Vec::new(),
            host: None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_key_survives_its_pem_form() {
        let key = SigningKey::generate();
        let again = SigningKey::from_pem(&key.to_pem()).unwrap();
        let token = again.service_token("ingest", Duration::from_secs(60));
        let principal = key.verifier().verify(&token).unwrap();
        assert_eq!(principal.name(), "service:ingest");
        assert!(principal.claims.operator && principal.has_scope(Scope::ServiceIngest));
    }

    #[test]
    fn debug_does_not_print_the_key() {
        let key = SigningKey::generate();
        let secret = key.to_pem().lines().nth(1).unwrap().to_owned();
        assert!(!format!("{key:?}").contains(&secret));
    }

    #[test]
    fn what_is_no_ed25519_key_is_refused_with_a_reason() {
        for text in ["", "not a key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
            let error = SigningKey::from_pem(text).unwrap_err().to_string();
            assert!(
                error.starts_with("the signing key is not an Ed25519 private key in PKCS#8 PEM: "),
                "{error}"
            );
        }
    }
}
