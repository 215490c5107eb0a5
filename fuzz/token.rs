//! Tokens of who has no key: none is good, and none brings the parser down.

#![no_main]

use std::{sync::LazyLock, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use firn_auth::{Issuer, IssuerConfig, SigningKey, Verifier};
use libfuzzer_sys::fuzz_target;

/// Trusts the built-in issuer and another one, whose only key is public.
static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let key_set = r#"{"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k1", "use": "sig",
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    let config = IssuerConfig {
        name: "corp".to_owned(),
        issuer: "https://id.example.org".to_owned(),
        audience: "lake".to_owned(),
        key_set: Some(key_set.to_owned()),
        tenants_claim: "firn_tenants".to_owned(),
        operators: Vec::new(),
        refresh: Duration::from_secs(300),
        refetch: Duration::from_secs(10),
    };
    let issuer = Issuer::new(config).expect("a key set that is none of ours to sign with");
    SigningKey::generate().verifier_with(vec![issuer])
});

fuzz_target!(|data: &[u8]| {
    let refused = |token: &str| assert!(VERIFIER.verify(token).is_err(), "{token}");
    refused(&String::from_utf8_lossy(data));
    // The same as the parts of a token, so that what is behind the encoding is reached, too.
    let parts: Vec<String> =
        data.split(|byte| *byte == b'\n').map(|part| URL_SAFE_NO_PAD.encode(part)).collect();
    refused(&parts.join("."));
});
