//! Public keys of an issuer, as a JSON Web Key Set (RFC 7517).

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse, ThumbprintHash},
};
use serde_json::Value;

/// More keys than this in a set are not looked at.
const MAX_KEYS: usize = 100;
/// Shorter RSA keys can be broken.
const MIN_RSA_BYTES: usize = 2048 / 8;

/// A key, and what may be signed with it: the token doesn't choose.
#[derive(Clone)]
pub(crate) struct PublicKey {
    pub(crate) id: Option<String>,
    /// RFC 7638's: what it is, whatever it is called.
    pub(crate) thumbprint: String,
    pub(crate) key: DecodingKey,
    pub(crate) algorithms: Vec<Algorithm>,
}

/// The usable keys of a set. Keys for encryption, symmetric ones and those of an unknown kind are left out, so that one
/// odd key doesn't lock everybody out.
pub(crate) fn parse(text: &[u8]) -> Result<Vec<PublicKey>, String> {
    let document: Value =
        serde_json::from_slice(text).map_err(|error| format!("the key set is no JSON: {error}"))?;
    let keys = document["keys"].as_array().ok_or("the key set has no 'keys'")?;
    Ok(keys.iter().take(MAX_KEYS).filter_map(public_key).collect())
}

fn public_key(value: &Value) -> Option<PublicKey> {
    let jwk: Jwk = serde_json::from_value(value.clone()).ok()?;
    if !matches!(jwk.common.public_key_use, None | Some(PublicKeyUse::Signature)) {
        return None;
    }
    let mut algorithms = match &jwk.algorithm {
        AlgorithmParameters::RSA(rsa) => {
            let bytes = URL_SAFE_NO_PAD.decode(rsa.n.trim_end_matches('=')).ok()?;
            if bytes.iter().skip_while(|byte| **byte == 0).count() < MIN_RSA_BYTES {
                return None;
            }
            use Algorithm::{PS256, PS384, PS512, RS256, RS384, RS512};
            vec![RS256, RS384, RS512, PS256, PS384, PS512]
        }
        AlgorithmParameters::EllipticCurve(curve) => match curve.curve {
            EllipticCurve::P256 => vec![Algorithm::ES256],
            EllipticCurve::P384 => vec![Algorithm::ES384],
            _ => return None,
        },
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
            vec![Algorithm::EdDSA]
        }
        _ => return None,
    };
    if let Some(only) = jwk.common.key_algorithm {
        algorithms.retain(|algorithm| is_named(*algorithm, only));
    }
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    let thumbprint = jwk.thumbprint(ThumbprintHash::SHA256).ok()?;
    (!algorithms.is_empty()).then_some(PublicKey { id: jwk.common.key_id, thumbprint, key, algorithms })
}

fn is_named(algorithm: Algorithm, name: KeyAlgorithm) -> bool {
    format!("{algorithm:?}") == format!("{name:?}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn only_keys_that_verify_signatures_are_taken() {
        let long = URL_SAFE_NO_PAD.encode([0xff; 256]);
        let short = URL_SAFE_NO_PAD.encode([0xff; 128]);
        let ed = URL_SAFE_NO_PAD
            .encode(ed25519_dalek::SigningKey::from_bytes(&[7; 32]).verifying_key().as_bytes());
        let set = json!({"keys": [
            {"kty": "RSA", "kid": "r", "n": long, "e": "AQAB", "alg": "RS256", "use": "sig"},
            {"kty": "RSA", "kid": "any", "n": long, "e": "AQAB"},
            {"kty": "RSA", "kid": "short", "n": short, "e": "AQAB"},
            {"kty": "RSA", "kid": "enc", "n": long, "e": "AQAB", "use": "enc"},
            {"kty": "oct", "kid": "secret", "k": "c2VjcmV0", "alg": "HS256"},
            {"kty": "OKP", "crv": "Ed25519", "kid": "e", "x": ed},
            {"kty": "WHAT"},
            7,
        ]});
        let keys = parse(set.to_string().as_bytes()).unwrap();
        let ids: Vec<&str> = keys.iter().filter_map(|key| key.id.as_deref()).collect();
        assert_eq!(ids, ["r", "any", "e"]);
        assert_eq!(keys[0].algorithms, [Algorithm::RS256]);
        assert_eq!(keys[1].algorithms.len(), 6);
        assert!(parse(b"{}").is_err() && parse(b"nonsense").is_err());
    }
}
