//! What tokens are taken for, and which are refused.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;

use super::*;

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
        assert!(matches!(key.verifier().verify(&format!("{header}.{body}.")), Err(AuthError::Invalid(_))));
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
    let forged = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&Claims { operator: true, ..claims() }).unwrap());
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

fn key_set(key: &SigningKey, id: &str) -> String {
    let x = URL_SAFE_NO_PAD.encode(key.public_bytes());
    json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": id, "x": x, "use": "sig"}]}).to_string()
}

/// An issuer with one configured key, as a provider without discovery has it.
fn corp(key: &SigningKey, id: &str) -> Issuer {
    Issuer::new(crate::IssuerConfig {
        name: "corp".to_owned(),
        issuer: "https://id.example.org".to_owned(),
        audience: "lake".to_owned(),
        key_set: Some(key_set(key, id)),
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
    jsonwebtoken::encode(&header, &fields, &key.encoding_key()).unwrap()
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
fn replaced_keys_of_an_issuer_end_what_the_old_ones_signed() {
    let (own, old, new) = (SigningKey::generate(), SigningKey::generate(), SigningKey::generate());
    let verifier = own.verifier_with(vec![corp(&old, "k1")]);
    // Both ways of naming a key that don't say which it is.
    let tokens = |key| [Some("k1"), None].map(|id| corp_token(key, id, json!({})));
    for token in tokens(&old) {
        verifier.verify(&token).unwrap();
    }
    assert!(verifier.set_keys("corp", "nonsense").unwrap_err().to_string().contains("no JSON"));
    verifier.verify(&tokens(&old)[0]).unwrap();
    verifier.set_keys("corp", &key_set(&new, "k1")).unwrap();
    for (before, now) in tokens(&old).iter().zip(tokens(&new)) {
        assert!(verifier.verify(before).is_err());
        verifier.verify(&now).unwrap();
    }
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
    let name =
        prop_oneof!["alg|kid|typ|crit|iss|aud|sub|exp|nbf|iat|jti|tenants|operator|scopes|host|firn_tenants"];
    proptest::collection::vec((name, value), 0..10)
        .prop_map(|fields| Value::Object(fields.into_iter().collect()).to_string())
}

impl SigningKey {
    fn public_bytes(&self) -> [u8; 32] {
        *self.verifying_key().as_bytes()
    }

    fn sign_value(&self, claims: &serde_json::Value) -> String {
        jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), claims, &self.encoding_key()).unwrap()
    }
}
