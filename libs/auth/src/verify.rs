//! Checking a bearer token.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::Utc;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, errors::ErrorKind};
use moka::sync::Cache;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::{AUDIENCE, Claims, ISSUER, Issuer, Role, Scope, TenantName};

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
    key: DecodingKey,
    issuers: Vec<Issuer>,
    /// By token.
    valid: Cache<String, Known>,
}

/// A token whose signature was found good. Time is looked at again, and whether its key is still its issuer's.
#[derive(Clone)]
struct Known {
    principal: Principal,
    /// Which of the other issuers, and the key's id.
    signed_by: Option<(usize, Option<String>)>,
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
    pub(crate) fn new(key: &ed25519_dalek::VerifyingKey, issuers: Vec<Issuer>) -> Self {
        let key = DecodingKey::from_ed_components(&URL_SAFE_NO_PAD.encode(key.as_bytes()))
            .expect("base64 that was just encoded");
        let weigh =
            |token: &String, _: &Known| u32::try_from(token.len() + PRINCIPAL_BYTES).unwrap_or(u32::MAX);
        let valid = Cache::builder().max_capacity(CACHE_BYTES).weigher(weigh).build();
        Self { trusted: Arc::new(Trusted { key, issuers, valid }) }
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
        let Some((index, key_id)) = &known.signed_by else { return Some((known, None)) };
        let (is_known, is_stale) = self.trusted.issuers.get(*index)?.knows(key_id.as_deref());
        let stale = is_stale.then_some(*index);
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
            let claims = signed::<Claims>(token, &self.trusted.key, Algorithm::EdDSA, ISSUER, AUDIENCE);
            let known = claims
                .map_err(|error| refusal(&error, "EdDSA", AUDIENCE))
                .map(|claims| Known { principal: Principal { claims: Arc::new(claims) }, signed_by: None });
            return (known, None);
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
        let (is_known, is_stale) = issuer.knows(header.kid.as_deref());
        let found = of_issuer(issuer, token, &header).map(|claims| Known {
            principal: Principal { claims: Arc::new(claims) },
            signed_by: Some((index, header.kid)),
        });
        (found, (is_stale || !is_known).then_some(index))
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

/// Checks a token of another issuer: its key says which algorithms there are, the token only which of them.
fn of_issuer(issuer: &Issuer, token: &str, header: &jsonwebtoken::Header) -> Result<Claims, AuthError> {
    let config = issuer.config();
    let mut reason = AuthError::Invalid("its key is not among its issuer's".to_owned());
    for candidate in issuer.candidates(header.kid.as_deref()) {
        if !candidate.algorithms.contains(&header.alg) {
            reason = AuthError::Invalid("its algorithm is not one of its key's".to_owned());
            continue;
        }
        match signed::<Map<String, Value>>(
            token,
            &candidate.key,
            header.alg,
            &config.issuer,
            &config.audience,
        ) {
            Ok(fields) => {
                let lacking = || AuthError::Invalid("it lacks a subject or its times".to_owned());
                return issuer.translate(&fields).ok_or_else(lacking);
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
        let verifier = key.verifier();
        let token = key.sign(&Claims { nbf: 1000, exp: 2000, ..claims() });
        assert!(verifier.verify_at(&token, 940).is_ok() && verifier.verify_at(&token, 2060).is_ok());
        let early = verifier.verify_at(&token, 939).unwrap_err();
        assert!(early.to_string().contains("not valid yet"));
        // It was valid once, and still expires.
        let late = verifier.verify_at(&token, 2061).unwrap_err();
        assert!(matches!(&late, AuthError::Expired(text) if text.contains("expired")), "{late}");
        let never = key.sign(&Claims { nbf: i64::MAX, exp: i64::MIN, ..claims() });
        assert!(verifier.verify(&never).is_err());
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
        let nested = format!("{{\"iss\":{}1{}}}", "[".repeat(4000), "]".repeat(4000));
        let nested = format!("e30.{}.e30", URL_SAFE_NO_PAD.encode(nested));
        assert!(matches!(key.verifier().verify(&nested), Err(AuthError::Invalid(_))));
        let mut bad_tenant = serde_json::to_value(claims()).unwrap();
        bad_tenant["tenants"] = json!({"../other": "admin"});
        assert!(refused(&key, &key.sign_value(&bad_tenant)).contains("Firn's claims"));
    }

    /// An issuer with one configured key, as a provider without discovery has it.
    fn corp(key: &SigningKey, id: &str) -> Issuer {
        let x = URL_SAFE_NO_PAD.encode(key.public_bytes());
        let set = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": id, "x": x, "use": "sig"}]});
        Issuer::new(crate::IssuerConfig {
            name: "corp".to_owned(),
            issuer: "https://id.example.org".to_owned(),
            audience: "lake".to_owned(),
            key_set: Some(set.to_string()),
            tenants_claim: "firn_tenants".to_owned(),
            operators: Vec::new(),
            refresh: Duration::from_secs(300),
            refetch: Duration::from_secs(10),
        })
        .unwrap()
    }

    fn corp_token(key: &SigningKey, id: Option<&str>, change: Value) -> String {
        let mut fields = json!({
            "iss": "https://id.example.org", "aud": ["lake", "else"], "sub": "ann", "exp": i64::MAX,
            "firn_tenants": {"acme": "reader"},
        });
        fields.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = id.map(str::to_owned);
        jsonwebtoken::encode(&header, &fields, key.encoding_key()).unwrap()
    }

    #[test]
    fn configured_keys_of_an_issuer_are_trusted_for_its_tokens_alone() {
        let (own, theirs) = (SigningKey::generate(), SigningKey::generate());
        let verifier = own.verifier_with(vec![corp(&theirs, "k1")]);
        for id in [Some("k1"), None] {
            let principal = verifier.verify(&corp_token(&theirs, id, json!({}))).unwrap();
            assert_eq!(principal.name(), "corp:ann");
            assert!(principal.may(&"acme".parse().unwrap(), Role::Reader) && !principal.claims.operator);
        }
        let refused = |token: String| verifier.verify(&token).unwrap_err().to_string();
        assert!(refused(corp_token(&theirs, Some("k2"), json!({}))).contains("not among its issuer's"));
        assert!(refused(corp_token(&own, Some("k1"), json!({}))).contains("another key"));
        assert!(refused(corp_token(&theirs, None, json!({"aud": "firn"}))).contains("audience"));
        assert!(refused(corp_token(&theirs, None, json!({"iss": "https://evil"}))).contains("not trusted"));
        assert!(refused(corp_token(&theirs, None, json!({"exp": 5}))).contains("expired"));
        // Their key can't speak for the built-in issuer.
        let forged = Claims { operator: true, ..claims() };
        assert!(refused(theirs.sign(&forged)).contains("another key"));
    }

    #[test]
    fn a_public_key_is_no_secret_to_sign_with() {
        let (own, theirs) = (SigningKey::generate(), SigningKey::generate());
        let verifier = own.verifier_with(vec![corp(&theirs, "k1")]);
        let fields = json!({"iss": "https://id.example.org", "aud": "lake", "sub": "ann", "exp": i64::MAX});
        let x = URL_SAFE_NO_PAD.encode(theirs.public_bytes());
        for secret in [theirs.public_bytes().as_slice(), x.as_bytes()] {
            for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
                let mut header = Header::new(algorithm);
                header.kid = Some("k1".to_owned());
                let secret = EncodingKey::from_secret(secret);
                let forged = jsonwebtoken::encode(&header, &fields, &secret).unwrap();
                assert!(verifier.verify(&forged).unwrap_err().to_string().contains("algorithm"));
            }
        }
        let header = URL_SAFE_NO_PAD.encode(json!({"alg": "none", "kid": "k1"}).to_string());
        let body = URL_SAFE_NO_PAD.encode(fields.to_string());
        assert!(matches!(verifier.verify(&format!("{header}.{body}.")), Err(AuthError::Invalid(_))));
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_a_token_by_chance(text in "\\PC{0,300}", parts in proptest::collection::vec("[A-Za-z0-9_=-]{0,80}", 0..6)) {
            let verifier = SigningKey::from_pem(PEM).unwrap().verifier();
            proptest::prop_assert!(verifier.verify(&text).is_err());
            proptest::prop_assert!(verifier.verify(&parts.join(".")).is_err());
        }

        #[test]
        fn a_changed_token_is_refused(place in 0_usize..400, with in "[A-Za-z0-9_.-]") {
            let key = SigningKey::from_pem(PEM).unwrap();
            let token = key.sign(&claims());
            let place = place % token.len();
            let mut changed = token.clone();
            changed.replace_range(place..=place, &with);
            // The last character of a part has bits that mean nothing: then the bytes are the same.
            let bytes = |token: &str| token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).ok()).collect::<Vec<_>>();
            let same = bytes(&changed) == bytes(&token);
            proptest::prop_assert_eq!(key.verifier().verify(&changed).is_ok(), same);
        }

        #[test]
        fn any_header_and_any_claims_are_judged_without_a_panic(header in json_text(), body in json_text()) {
            let key = SigningKey::from_pem(PEM).unwrap();
            let verifier = key.verifier_with(vec![corp(&key, "k1")]);
            let parts = [header, body].map(|part| URL_SAFE_NO_PAD.encode(part));
            let token = parts.join(".") + ".AAAA";
            proptest::prop_assert!(verifier.verify(&token).is_err());
        }
    }

    /// The key of the examples, so that a failing case can be repeated.
    const PEM: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g\n\
        -----END PRIVATE KEY-----\n";

    /// Objects with the names that tokens use, and odd values.
    fn json_text() -> impl proptest::strategy::Strategy<Value = String> {
        use proptest::prelude::*;
        let value = prop_oneof![
            Just(json!(null)),
            any::<i64>().prop_map(|number| json!(number)),
            any::<f64>().prop_map(|number| json!(number)),
            "\\PC{0,20}".prop_map(|text| json!(text)),
            Just(json!("EdDSA")),
            Just(json!("none")),
            Just(json!("firn")),
            Just(json!("https://id.example.org")),
            Just(json!({"acme": "admin", "..": 7})),
            Just(json!([[[["deep"]]]])),
        ];
        let name = prop_oneof![
            "alg|kid|typ|crit|iss|aud|sub|exp|nbf|iat|jti|tenants|operator|scopes|host|firn_tenants"
        ];
        proptest::collection::vec((name, value), 0..10)
            .prop_map(|fields| Value::Object(fields.into_iter().collect()).to_string())
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
