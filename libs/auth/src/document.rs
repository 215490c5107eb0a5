//! Signed documents: JSON that anybody can check with the issuer's public key, long after and elsewhere (RFC 7515, compact).
//!
//! They are no access tokens: they name neither issuer nor audience, which a token needs, and say what they are in `typ`.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, Header, Validation};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{SigningKey, jwks};

/// Why a document can't be trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DocumentError(String);

impl SigningKey {
    /// Signs a document of a kind.
    #[must_use]
    pub fn sign_document(&self, kind: &str, document: &impl Serialize) -> String {
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(kind.to_owned());
        let (id, key) = self.signing();
        header.kid = Some(id);
        jsonwebtoken::encode(&header, document, &key)
            .expect("documents are plain JSON and the key was checked when it was read")
    }

    /// The public keys as a JSON Web Key Set (RFC 7517).
    #[must_use]
    pub fn public_keys(&self) -> Value {
        let keys = self.public_parts().into_iter().map(|(id, bytes)| {
            let x = URL_SAFE_NO_PAD.encode(bytes);
            json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": id, "x": x})
        });
        json!({ "keys": keys.collect::<Vec<_>>() })
    }
}

/// Checks a document's kind and signature with a JSON Web Key Set, and reads it.
pub fn verify_document<T: DeserializeOwned + Clone>(
    kind: &str,
    text: &str,
    keys: &Value,
) -> Result<T, DocumentError> {
    let refused = |reason: String| DocumentError(reason);
    let text = text.trim();
    let header = jsonwebtoken::decode_header(text)
        .map_err(|error| refused(format!("it is no signed document: {error}")))?;
    if header.typ.as_deref() != Some(kind) {
        let typ = header.typ.unwrap_or_default();
        return Err(refused(format!("it is a '{typ}', not a '{kind}'")));
    }
    let keys = jwks::parse(keys.to_string().as_bytes()).map_err(refused)?;
    let key = keys.iter().find(|key| key.id == header.kid && key.algorithms.contains(&Algorithm::EdDSA));
    let key = key.ok_or_else(|| {
        let id = header.kid.as_deref().unwrap_or("none");
        refused(format!("it was signed with the key {id}, which is not among those given"))
    })?;
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    let decoded = jsonwebtoken::decode::<T>(text, &key.key, &validation);
    decoded
        .map(|decoded| decoded.claims)
        .map_err(|error| refused(format!("its signature doesn't fit what it says: {error}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const KIND: &str = "test+jwt";

    #[test]
    fn a_document_is_read_back_with_its_key_alone() {
        let (key, other) = (SigningKey::generate(), SigningKey::generate());
        let text = key.sign_document(KIND, &json!({"rows": 7}));
        let read: Value = verify_document(KIND, &text, &key.public_keys()).unwrap();
        assert_eq!(read, json!({"rows": 7}));
        let error = verify_document::<Value>(KIND, &text, &other.public_keys()).unwrap_err();
        assert!(error.to_string().contains("not among those given"), "{error}");
        assert!(verify_document::<Value>("other+jwt", &text, &key.public_keys()).is_err());
        assert!(key.verifier().verify(&text).is_err(), "a document is no access token");
        let token = key.service_token("x", std::time::Duration::from_secs(60));
        assert!(verify_document::<Value>(KIND, &token, &key.public_keys()).is_err());
    }

    #[test]
    fn a_changed_document_is_refused() {
        let key = SigningKey::generate();
        let text = key.sign_document(KIND, &json!({"rows": 7}));
        let forged = URL_SAFE_NO_PAD.encode(json!({"rows": 8}).to_string());
        let parts: Vec<&str> = text.split('.').collect();
        let forged = [parts[0], &forged, parts[2]].join(".");
        assert!(verify_document::<Value>(KIND, &forged, &key.public_keys()).is_err());
    }
}
