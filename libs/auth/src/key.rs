//! The built-in issuer's keys: Ed25519, PKCS#8 PEM.

use std::{fmt, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::Utc;
use ed25519_dalek::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, spki::der::pem::LineEnding};
use firn_runtime::reload::Live;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};

use crate::{AUDIENCE, Claims, ISSUER, Issuer, Scope, Verifier};

/// Keys that may be good at once; each costs a token of an unknown key a check.
const MAX_KEYS: usize = 8;
const PEM_END: &str = "-----END PRIVATE KEY-----";

/// Ed25519 keys: the first signs tokens, those of all are good. All clones are one, so that keys change as a process runs.
/// `Debug` never prints them.
#[derive(Clone)]
pub struct SigningKey {
    ring: Live<Vec<Key>>,
}

#[derive(Clone)]
struct Key {
    key: ed25519_dalek::SigningKey,
    encoding: EncodingKey,
    decoding: DecodingKey,
    /// Thumbprint of the public key, so that a verifier with several keys can pick one.
    id: String,
}

/// Why a key could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the signing key is not an Ed25519 private key in PKCS#8 PEM: {0}")]
pub struct SigningKeyError(pub String);

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<String> = self.ring.get().iter().map(|key| key.id.clone()).collect();
        f.debug_struct("SigningKey").field("ids", &ids).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// A fresh random key.
    #[must_use]
    pub fn generate() -> Self {
        let key = Key::from(ed25519_dalek::SigningKey::from_bytes(&rand::random()));
        Self { ring: Live::new(vec![key]) }
    }

    /// Reads keys from PKCS#8 PEM, one after the other.
    ///
    /// # Errors
    /// None at all, too many, or one that isn't Ed25519.
    pub fn from_pem(pem: &str) -> Result<Self, SigningKeyError> {
        Ok(Self { ring: Live::new(read(pem)?) })
    }

    /// From here on the keys of `pem` sign and are good, and no others.
    ///
    /// # Errors
    /// See [`SigningKey::from_pem`]. What there was stays.
    pub fn reload(&self, pem: &str) -> Result<(), SigningKeyError> {
        self.ring.set(read(pem)?);
        Ok(())
    }

    /// The keys as PKCS#8 PEM, to be kept in a file of mode 0600.
    #[must_use]
    pub fn to_pem(&self) -> String {
        let pem = |key: &Key| {
            let pem = key.key.to_pkcs8_pem(LineEnding::LF).expect("an Ed25519 key always has a PKCS#8 form");
            pem.as_str().to_owned()
        };
        self.ring.get().iter().map(pem).collect()
    }

    /// The id of the key that signs.
    #[must_use]
    pub fn id(&self) -> String {
        self.ring.get()[0].id.clone()
    }

    /// Signs `claims` as they are.
    #[must_use]
    pub fn sign(&self, claims: &Claims) -> String {
        let ring = self.ring.get();
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(ring[0].id.clone());
        jsonwebtoken::encode(&header, claims, &ring[0].encoding)
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

    /// A verifier that trusts these keys, as they are at the time, and no other issuer.
    #[must_use]
    pub fn verifier(&self) -> Verifier {
        self.verifier_with(Vec::new())
    }

    /// A verifier that trusts these keys and other issuers.
    #[must_use]
    pub fn verifier_with(&self, issuers: Vec<Issuer>) -> Verifier {
        Verifier::new(self.clone(), issuers)
    }

    /// Whether tokens of a key are good.
    pub(crate) fn has(&self, id: &str) -> bool {
        self.ring.get().iter().any(|key| key.id == id)
    }

    /// The keys, with their ids, that a token with this key id may be of: all, if it is the id of none.
    pub(crate) fn candidates(&self, id: Option<&str>) -> Vec<(String, DecodingKey)> {
        let ring = self.ring.get();
        let known = ring.iter().any(|key| Some(key.id.as_str()) == id);
        let meant = ring.iter().filter(|key| !known || Some(key.id.as_str()) == id);
        meant.map(|key| (key.id.clone(), key.decoding.clone())).collect()
    }

    /// Id and key that sign now.
    pub(crate) fn signing(&self) -> (String, EncodingKey) {
        let ring = self.ring.get();
        (ring[0].id.clone(), ring[0].encoding.clone())
    }

    /// Public keys with their ids, the one that signs first.
    pub(crate) fn public_parts(&self) -> Vec<(String, [u8; 32])> {
        let ring = self.ring.get();
        ring.iter().map(|key| (key.id.clone(), key.key.verifying_key().to_bytes())).collect()
    }

    #[cfg(test)]
    pub(crate) fn verifying_key(&self) -> ed25519_dalek::VerifyingKey {
        self.ring.get()[0].key.verifying_key()
    }

    #[cfg(test)]
    pub(crate) fn encoding_key(&self) -> EncodingKey {
        self.ring.get()[0].encoding.clone()
    }
}

impl From<ed25519_dalek::SigningKey> for Key {
    fn from(key: ed25519_dalek::SigningKey) -> Self {
        let der = key.to_pkcs8_der().expect("an Ed25519 key always has a PKCS#8 form");
        let public = key.verifying_key();
        let decoding = DecodingKey::from_ed_components(&URL_SAFE_NO_PAD.encode(public.as_bytes()))
            .expect("base64 that was just encoded");
        Self { encoding: EncodingKey::from_ed_der(der.as_bytes()), decoding, id: thumbprint(&public), key }
    }
}

/// Never answers an empty ring.
fn read(pem: &str) -> Result<Vec<Key>, SigningKeyError> {
    let keys = pem.trim().split_inclusive(PEM_END).map(|one| {
        let key = ed25519_dalek::SigningKey::from_pkcs8_pem(one.trim());
        key.map(Key::from).map_err(|error| SigningKeyError(error.to_string()))
    });
    let keys = keys.take(MAX_KEYS + 1).collect::<Result<Vec<_>, _>>()?;
    match keys.len() {
        0 => Err(SigningKeyError("it is empty".to_owned())),
        1..=MAX_KEYS => Ok(keys),
        _ => Err(SigningKeyError(format!("it holds more than {MAX_KEYS}"))),
    }
}

/// RFC 7638 thumbprint of the public key as a JWK.
fn thumbprint(key: &ed25519_dalek::VerifyingKey) -> String {
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
    fn keys_change_with_an_overlap_and_the_old_one_ends_when_it_is_taken_away() {
        let (old, new) = (SigningKey::generate(), SigningKey::generate());
        let key = SigningKey::from_pem(&old.to_pem()).unwrap();
        let verifier = key.verifier();
        let sign = |key: &SigningKey| key.service_token("ingest", Duration::from_secs(60));
        let before = sign(&key);
        verifier.verify(&before).unwrap();
        verifier.verify(&sign(&new)).unwrap_err();
        // First everybody knows the new key, then it signs, then the old one ends.
        key.reload(&(old.to_pem() + &new.to_pem())).unwrap();
        verifier.verify(&sign(&new)).unwrap();
        old.verifier().verify(&sign(&key)).unwrap();
        key.reload(&format!("{}\n\n{}\n", new.to_pem(), old.to_pem())).unwrap();
        new.verifier().verify(&sign(&key)).unwrap();
        verifier.verify(&before).unwrap();
        key.reload(&new.to_pem()).unwrap();
        let ended = verifier.verify(&before).unwrap_err().to_string();
        assert!(ended.contains("another key"), "though it was found good before: {ended}");
        verifier.verify(&sign(&key)).unwrap();
        // What can't be read changes nothing.
        let broken = new.to_pem() + "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        for pem in ["", &broken, &new.to_pem().repeat(9)] {
            assert!(key.reload(pem).is_err(), "{pem}");
        }
        assert_eq!(key.id(), new.id());
        verifier.verify(&sign(&new)).unwrap();
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
