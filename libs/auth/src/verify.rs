//! Checking a bearer token.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::Utc;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, errors::ErrorKind};
use moka::sync::Cache;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::{
    AUDIENCE, Claims, ISSUER, Issuer, IssuerError, Role, Scope, SigningKey, TenantName, jwks::PublicKey,
};

/// Longest token that is looked at. A token with a hundred tenants takes about 4 KiB.
const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// How far clocks may differ.
const LEEWAY_SECONDS: i64 = 60;
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
    /// The built-in issuer's.
    keys: SigningKey,
    issuers: Vec<Issuer>,
    /// By token.
    valid: Cache<String, Known>,
}

/// A token whose signature was found good. Time is looked at again, and whether its key is still its issuer's.
#[derive(Clone)]
struct Known {
    principal: Principal,
    signed_by: SignedBy,
}

/// Whose key it was, and which.
#[derive(Clone)]
enum SignedBy {
    BuiltIn(String),
    /// Which of the other issuers, and the key's thumbprint: ids may be used again, or absent.
    Other(usize, String),
}

/// What a check found, and which issuer's keys should be fetched.
struct Checked {
    found: Result<Principal, AuthError>,
    stale: Option<usize>,
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

/// The one claim that is read before a signature was checked: it only says which keys to try.
#[derive(Deserialize)]
struct Addressed {
    iss: String,
}

impl Verifier {
    pub(crate) fn new(keys: SigningKey, issuers: Vec<Issuer>) -> Self {
        let weigh =
            |token: &String, _: &Known| u32::try_from(token.len() + PRINCIPAL_BYTES).unwrap_or(u32::MAX);
        let valid = Cache::builder().max_capacity(CACHE_BYTES).weigher(weigh).build();
        Self { trusted: Arc::new(Trusted { keys, issuers, valid }) }
    }

    /// Checks the value of an `Authorization` header, fetching an issuer's keys where that is needed.
    pub async fn authenticate(&self, authorization: Option<&str>) -> Result<Principal, AuthError> {
        let token = bearer(authorization)?;
        let now = Utc::now().timestamp();
        let Checked { found, stale } = self.check(token, now);
        let Some(issuer) = stale.and_then(|index| self.trusted.issuers.get(index)) else { return found };
        // Whoever has a key that is known needn't wait for a fetch that runs.
        if issuer.refresh(found.is_err()).await { self.check(token, now).found } else { found }
    }

    /// Checks the value of an `Authorization` header with the keys that are known.
    pub fn verify_header(&self, authorization: Option<&str>) -> Result<Principal, AuthError> {
        self.verify(bearer(authorization)?)
    }

    /// Checks a bare token with the keys that are known.
    pub fn verify(&self, token: &str) -> Result<Principal, AuthError> {
        self.verify_at(token, Utc::now().timestamp())
    }

    /// Checks a bare token as if it were `now`, in seconds since the epoch.
    pub fn verify_at(&self, token: &str, now: i64) -> Result<Principal, AuthError> {
        self.check(token, now).found
    }

    /// Replaces the configured keys of the issuer of this name, if there is one.
    ///
    /// # Errors
    /// What is no key set; the keys stay what they were.
    pub fn set_keys(&self, issuer: &str, set: &str) -> Result<(), IssuerError> {
        let mut named = self.trusted.issuers.iter().filter(|known| known.config().name == issuer);
        named.try_for_each(|known| known.set_keys(set))
    }

    fn check(&self, token: &str, now: i64) -> Checked {
        if let Some((known, stale)) = self.known(token) {
            let found = in_time(&known.principal.claims, now).map(|()| known.principal);
            return Checked { found, stale };
        }
        let (decoded, stale) = self.decode(token);
        let found = decoded.and_then(|known| {
            in_time(&known.principal.claims, now)?;
            let principal = known.principal.clone();
            self.trusted.valid.insert(token.to_owned(), known);
            Ok(principal)
        });
        Checked { found, stale }
    }

    fn known(&self, token: &str) -> Option<(Known, Option<usize>)> {
        let known = self.trusted.valid.get(token)?;
        let (is_known, stale) = match &known.signed_by {
            SignedBy::BuiltIn(id) => (self.trusted.keys.has(id), None),
            SignedBy::Other(index, thumbprint) => {
                let issuer = self.trusted.issuers.get(*index)?;
                (issuer.has(thumbprint), issuer.is_stale().then_some(*index))
            }
        };
        is_known.then_some((known, stale))
    }

    fn decode(&self, token: &str) -> (Result<Known, AuthError>, Option<usize>) {
        if token.len() > MAX_TOKEN_BYTES {
            let reason = format!("it is longer than {MAX_TOKEN_BYTES} bytes");
            return (Err(AuthError::Invalid(reason)), None);
        }
        let Some(addressed) = addressed(token) else {
            return (Err(AuthError::Invalid("it is no JSON Web Token with an issuer".to_owned())), None);
        };
        if addressed.iss == ISSUER {
            return (self.built_in(token), None);
        }
        let mut issuers = self.trusted.issuers.iter().enumerate();
        let Some((index, issuer)) = issuers.find(|(_, issuer)| issuer.config().issuer == addressed.iss)
        else {
            return (Err(AuthError::Invalid("its issuer is not trusted here".to_owned())), None);
        };
        let header = match jsonwebtoken::decode_header(token) {
            Ok(header) => header,
            Err(error) => return (Err(refusal(&error, "one of its issuer's", "")), None),
        };
        let candidates = issuer.candidates(header.kid.as_deref());
        let stale = (issuer.is_stale() || candidates.is_empty()).then_some(index);
        let found = of_issuer(issuer, &candidates, token, header.alg).map(|(claims, key)| Known {
            principal: Principal { claims: Arc::new(claims) },
            signed_by: SignedBy::Other(index, key.thumbprint.clone()),
        });
        (found, stale)
    }

    fn built_in(&self, token: &str) -> Result<Known, AuthError> {
        let id = jsonwebtoken::decode_header(token).ok().and_then(|header| header.kid);
        let mut reason = AuthError::Invalid("it was signed by another key".to_owned());
        for (id, key) in self.trusted.keys.candidates(id.as_deref()) {
            match signed::<Claims>(token, &key, Algorithm::EdDSA, ISSUER, AUDIENCE) {
                Ok(claims) => {
                    let principal = Principal { claims: Arc::new(claims) };
                    return Ok(Known { principal, signed_by: SignedBy::BuiltIn(id) });
                }
                Err(error) => reason = refusal(&error, "EdDSA", AUDIENCE),
            }
        }
        Err(reason)
    }
}

fn bearer(authorization: Option<&str>) -> Result<&str, AuthError> {
    let (scheme, token) = authorization.and_then(|value| value.split_once(' ')).ok_or(AuthError::Missing)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token.trim()) } else { Err(AuthError::Missing) }
}

fn addressed(token: &str) -> Option<Addressed> {
    let mut parts = token.split('.');
    let (_, body, _) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(body).ok()?).ok()
}

/// Checks a token of another issuer: its key says which algorithms there are, the token only which of them. Answers the key, too.
fn of_issuer<'a>(
    issuer: &Issuer,
    candidates: &'a [PublicKey],
    token: &str,
    algorithm: Algorithm,
) -> Result<(Claims, &'a PublicKey), AuthError> {
    let config = issuer.config();
    let mut reason = AuthError::Invalid("its key is not among its issuer's".to_owned());
    for candidate in candidates {
        if !candidate.algorithms.contains(&algorithm) {
            reason = AuthError::Invalid("its algorithm is not one of its key's".to_owned());
            continue;
        }
        match signed::<Map<String, Value>>(token, &candidate.key, algorithm, &config.issuer, &config.audience)
        {
            Ok(fields) => {
                let lacking = || AuthError::Invalid("it lacks a subject or its times".to_owned());
                return issuer.translate(&fields).ok_or_else(lacking).map(|claims| (claims, candidate));
            }
            Err(error) => reason = refusal(&error, "its key's", &config.audience),
        }
    }
    Err(reason)
}

/// Claims of a token whose signature, issuer and audience are right. Its time is for the caller to check, who knows it.
fn signed<T: DeserializeOwned + Clone>(
    token: &str,
    key: &DecodingKey,
    algorithm: Algorithm,
    issuer: &str,
    audience: &str,
) -> Result<T, jsonwebtoken::errors::Error> {
    // The algorithm is fixed here and never taken from the token alone.
    let mut validation = Validation::new(algorithm);
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.set_audience(&[audience]);
    validation.set_issuer(&[issuer]);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    Ok(jsonwebtoken::decode::<T>(token, key, &validation)?.claims)
}

fn in_time(claims: &Claims, now: i64) -> Result<(), AuthError> {
    if claims.exp < now.saturating_sub(LEEWAY_SECONDS) {
        return Err(AuthError::Expired("has expired: ask for a new one".to_owned()));
    }
    if claims.nbf > now.saturating_add(LEEWAY_SECONDS) {
        return Err(AuthError::Expired("is not valid yet: check this computer's clock".to_owned()));
    }
    Ok(())
}

/// Says why in words that help the holder of a token and tell a forger nothing new.
fn refusal(error: &jsonwebtoken::errors::Error, algorithm: &str, audience: &str) -> AuthError {
    AuthError::Invalid(match error.kind() {
        ErrorKind::InvalidSignature => "it was signed by another key".to_owned(),
        ErrorKind::InvalidIssuer => "its issuer is not trusted here".to_owned(),
        ErrorKind::InvalidAudience => format!("its audience is not '{audience}'"),
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName | ErrorKind::MissingAlgorithm => {
            format!("its algorithm is not {algorithm}")
        }
        ErrorKind::MissingRequiredClaim(claim) => format!("it lacks the claim '{claim}'"),
        _ => "it is no JSON Web Token with Firn's claims".to_owned(),
    })
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
mod tests;
