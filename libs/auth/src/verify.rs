//! Checking a bearer token.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::Utc;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, errors::ErrorKind};
use moka::sync::Cache;

use crate::{AUDIENCE, Claims, ISSUER, Role, Scope, TenantName};

/// Longest token that is looked at. A token with a hundred tenants takes about 4 KiB.
const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// How far clocks may differ.
const LEEWAY_SECONDS: u64 = 60;
/// Memory for tokens that were found valid: checking a signature again costs more than a warm load of a table.
const CACHE_BYTES: u64 = 4 * 1024 * 1024;
/// Memory of a principal, roughly, beside its token.
const PRINCIPAL_BYTES: usize = 1024;

/// Checks tokens of the issuers it was built with. Cheap to clone.
#[derive(Clone)]
pub struct Verifier {
    trusted: Arc<Trusted>,
}

struct Trusted {
    key: DecodingKey,
    validation: Validation,
    /// By token. Only expiry can change what was found.
    valid: Cache<String, Principal>,
}

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
    pub claims: Arc<Claims>,
}

impl Verifier {
    pub(crate) fn new(key: &ed25519_dalek::VerifyingKey) -> Self {
        let key = DecodingKey::from_ed_components(&URL_SAFE_NO_PAD.encode(key.as_bytes()))
            .expect("base64 that was just encoded");
        // The algorithm is fixed here and never taken from the token.
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
        validation.set_audience(&[AUDIENCE]);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        let weigh =
            |token: &String, _: &Principal| u32::try_from(token.len() + PRINCIPAL_BYTES).unwrap_or(u32::MAX);
        let valid = Cache::builder().max_capacity(CACHE_BYTES).weigher(weigh).build();
        Self { trusted: Arc::new(Trusted { key, validation, valid }) }
    }

    /// Checks the value of an `Authorization` header.
    pub fn verify_header(&self, authorization: Option<&str>) -> Result<Principal, AuthError> {
        let (scheme, token) =
            authorization.and_then(|value| value.split_once(' ')).ok_or(AuthError::Missing)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(AuthError::Missing);
        }
        self.verify(token.trim())
    }

    /// Checks a bare token.
    pub fn verify(&self, token: &str) -> Result<Principal, AuthError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(AuthError::Invalid(format!("it is longer than {MAX_TOKEN_BYTES} bytes")));
        }
        let Trusted { key, validation, valid } = &*self.trusted;
        if let Some(principal) = valid.get(token)
            && principal.claims.exp >= Utc::now().timestamp() - LEEWAY_SECONDS as i64
        {
            return Ok(principal);
        }
        let decoded =
            jsonwebtoken::decode::<Claims>(token, key, validation).map_err(|error| refusal(&error))?;
        let principal = Principal { claims: Arc::new(decoded.claims) };
        valid.insert(token.to_owned(), principal.clone());
        Ok(principal)
    }
}

/// Says why in words that help the holder of a token and tell a forger nothing new.
fn refusal(error: &jsonwebtoken::errors::Error) -> AuthError {
    let reason = match error.kind() {
        ErrorKind::ExpiredSignature => {
            return AuthError::Expired("has expired: ask for a new one".to_owned());
        }
        ErrorKind::ImmatureSignature => {
            return AuthError::Expired("is not valid yet: check this computer's clock".to_owned());
        }
        ErrorKind::InvalidSignature => "it was signed by another key".to_owned(),
        ErrorKind::InvalidIssuer => format!("its issuer is not '{ISSUER}'"),
        ErrorKind::InvalidAudience => format!("its audience is not '{AUDIENCE}'"),
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName | ErrorKind::MissingAlgorithm => {
            "its algorithm is not EdDSA".to_owned()
        }
        ErrorKind::MissingRequiredClaim(claim) => format!("it lacks the claim '{claim}'"),
        _ => "it is no JSON Web Token with Firn's claims".to_owned(),
    };
    AuthError::Invalid(reason)
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use jsonwebtoken::{EncodingKey, Header};
    use serde_json::json;

    use super::*;
    use crate::SigningKey;

    fn claims() -> Claims {
        let mut claims = Claims::new("alice", Duration::from_secs(300));
        claims.tenants.insert("acme".parse().unwrap(), Role::Writer);
        claims
    }

    fn refused(key: &SigningKey, token: &str) -> String {
        key.verifier().verify(token).unwrap_err().to_string()
    }

    #[test]
    fn a_token_reaches_its_tenant_and_nothing_else() {
        let key = SigningKey::generate();
        let header = format!("bearer {}", key.sign(&claims()));
        let principal = key.verifier().verify_header(Some(&header)).unwrap();
        let (acme, other): (TenantName, TenantName) = ("acme".parse().unwrap(), "other".parse().unwrap());
        assert!(principal.may(&acme, Role::Writer) && principal.may_upload(&acme));
        assert!(!principal.may(&acme, Role::Maintainer));
        assert_eq!(principal.role(&other), None);
        assert!(!principal.may_upload(&other));
    }

    #[test]
    fn a_header_without_a_bearer_token_is_missing() {
        let verifier = SigningKey::generate().verifier();
        for header in [None, Some(""), Some("Bearer"), Some("Basic YTpi")] {
            assert_eq!(verifier.verify_header(header).unwrap_err(), AuthError::Missing);
        }
    }

    #[test]
    fn time_is_checked_with_a_minute_of_leeway() {
        let key = SigningKey::generate();
        let now = Utc::now().timestamp();
        let at = |nbf, exp| key.sign(&Claims { nbf, exp, ..claims() });
        assert!(key.verifier().verify(&at(now, now - 50)).is_ok());
        assert!(key.verifier().verify(&at(now + 50, now + 300)).is_ok());
        assert!(refused(&key, &at(now, now - 70)).contains("expired"));
        assert!(refused(&key, &at(now + 70, now + 300)).contains("not valid yet"));
    }

    #[test]
    fn a_token_that_was_valid_once_still_expires() {
        let key = SigningKey::generate();
        let verifier = key.verifier();
        let token = key.sign(&Claims { exp: Utc::now().timestamp() - 59, ..claims() });
        assert!(verifier.verify(&token).is_ok());
        std::thread::sleep(Duration::from_millis(2100));
        assert!(matches!(verifier.verify(&token), Err(AuthError::Expired(_))));
    }

    #[test]
    fn another_key_issuer_or_audience_is_refused() {
        let key = SigningKey::generate();
        assert!(refused(&key, &SigningKey::generate().sign(&claims())).contains("another key"));
        let issuer = key.sign(&Claims { iss: "evil".to_owned(), ..claims() });
        assert!(refused(&key, &issuer).contains("issuer"));
        let audience = key.sign(&Claims { aud: "elsewhere".to_owned(), ..claims() });
        assert!(refused(&key, &audience).contains("audience"));
    }

    #[test]
    fn the_algorithm_is_not_the_tokens_choice() {
        let key = SigningKey::generate();
        let body = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&claims()).unwrap());
        for alg in ["none", "None", "NONE"] {
            let header = URL_SAFE_NO_PAD.encode(json!({"alg": alg, "typ": "JWT"}).to_string());
            assert!(matches!(
                key.verifier().verify(&format!("{header}.{body}.")),
                Err(AuthError::Invalid(_))
            ));
        }
        // HS256 keyed with what anyone may know: the public key.
        let public = SigningKey::from_pem(&key.to_pem()).unwrap().public_bytes();
        let forged =
            jsonwebtoken::encode(&Header::default(), &claims(), &EncodingKey::from_secret(&public)).unwrap();
        assert!(refused(&key, &forged).contains("algorithm"));
    }

    #[test]
    fn a_changed_claim_breaks_the_signature() {
        let key = SigningKey::generate();
        let token = key.sign(&claims());
        let forged =
            URL_SAFE_NO_PAD.encode(serde_json::to_vec(&Claims { operator: true, ..claims() }).unwrap());
        let mut parts: Vec<&str> = token.split('.').collect();
        parts[1] = &forged;
        assert!(refused(&key, &parts.join(".")).contains("another key"));
    }

    #[test]
    fn huge_empty_and_broken_tokens_are_refused() {
        let key = SigningKey::generate();
        assert!(refused(&key, &"a".repeat(MAX_TOKEN_BYTES + 1)).contains("longer than"));
        for token in ["", ".", "..", "a.b.c", "e30.e30.e30"] {
            assert!(matches!(key.verifier().verify(token), Err(AuthError::Invalid(_))), "{token}");
        }
        let mut bad_tenant = serde_json::to_value(claims()).unwrap();
        bad_tenant["tenants"] = json!({"../other": "admin"});
        assert!(refused(&key, &key.sign_value(&bad_tenant)).contains("Firn's claims"));
    }

    impl SigningKey {
        fn public_bytes(&self) -> [u8; 32] {
            *self.verifying_key().as_bytes()
        }

        fn sign_value(&self, claims: &serde_json::Value) -> String {
            jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), claims, self.encoding_key()).unwrap()
        }
    }
}
