use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use firn_auth::{AuthError, Issuer, IssuerConfig, Role, SigningKey, Verifier};
use firn_tests::OidcProvider;
use jsonwebtoken::{Algorithm, EncodingKey, Header};

fn config(provider: &OidcProvider) -> IssuerConfig {
    IssuerConfig {
        name: "corp".to_owned(),
        issuer: provider.issuer(),
        audience: "lake".to_owned(),
        key_set: None,
        tenants_claim: "firn_tenants".to_owned(),
        operators: vec!["root".to_owned()],
        refresh: Duration::from_secs(300),
        refetch: Duration::ZERO,
    }
}

fn trusting(config: IssuerConfig) -> Verifier {
    SigningKey::generate().verifier_with(vec![Issuer::new(config).unwrap()])
}

async fn check(verifier: &Verifier, token: &str) -> Result<firn_auth::Principal, AuthError> {
    verifier.authenticate(Some(&format!("Bearer {token}"))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_a_provider_are_trusted_for_what_they_claim() {
    let provider = OidcProvider::start("lake").await.unwrap();
    let verifier = trusting(config(&provider));
    let reader = check(&verifier, &provider.token("reader").await.unwrap()).await.unwrap();
    let acme = "acme".parse().unwrap();
    assert_eq!((reader.name(), reader.role(&acme)), ("corp:reader", Some(Role::Reader)));
    let writer = check(&verifier, &provider.token("writer").await.unwrap()).await.unwrap();
    assert_eq!(writer.role(&acme), Some(Role::Writer));
    let nobody = check(&verifier, &provider.token("nobody").await.unwrap()).await.unwrap();
    assert!(nobody.claims.tenants.is_empty() && !nobody.claims.operator);
    assert!(check(&verifier, &provider.token("root").await.unwrap()).await.unwrap().claims.operator);

    let token = provider.token("reader").await.unwrap();
    let elsewhere = trusting(IssuerConfig { audience: "other".to_owned(), ..config(&provider) });
    assert!(check(&elsewhere, &token).await.unwrap_err().to_string().contains("audience"));
    let another = format!("{}/realm", provider.issuer());
    let stranger = trusting(IssuerConfig { issuer: another, ..config(&provider) });
    assert!(check(&stranger, &token).await.unwrap_err().to_string().contains("not trusted"));
    let claims = verifier.verify(&token).unwrap().claims;
    assert!(verifier.verify_at(&token, claims.exp + 61).unwrap_err().to_string().contains("expired"));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_rotate_while_requests_run_and_a_withdrawn_one_is_refused() {
    let provider = OidcProvider::start("lake").await.unwrap();
    let verifier = trusting(IssuerConfig { refresh: Duration::ZERO, ..config(&provider) });
    let old = provider.token("reader").await.unwrap();
    check(&verifier, &old).await.unwrap();
    // Requests with the old token go on all the while, and none fails.
    let busy = tokio::spawn({
        let (verifier, old) = (verifier.clone(), old.clone());
        async move {
            for _ in 0..200 {
                check(&verifier, &old).await.unwrap();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    });
    provider.rotate().await.unwrap();
    let new = provider.token("reader").await.unwrap();
    check(&verifier, &new).await.unwrap();
    busy.await.unwrap();
    provider.withdraw_old_keys().await.unwrap();
    check(&verifier, &new).await.unwrap();
    let error = check(&verifier, &old).await.unwrap_err().to_string();
    assert!(error.contains("not among its issuer's"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_provider_is_down_known_keys_go_on_and_new_ones_fail_closed() {
    let mut provider = OidcProvider::start("lake").await.unwrap();
    let verifier = trusting(IssuerConfig { refresh: Duration::ZERO, ..config(&provider) });
    let known = provider.token("reader").await.unwrap();
    check(&verifier, &known).await.unwrap();
    // Asked again only after a minute: whatever tokens come, the provider is left alone.
    let seldom = trusting(IssuerConfig { refetch: Duration::from_secs(60), ..config(&provider) });
    check(&seldom, &known).await.unwrap();
    provider.rotate().await.unwrap();
    let unseen = provider.token("reader").await.unwrap();
    assert!(check(&seldom, &unseen).await.is_err());
    provider.process().kill().unwrap();
    check(&verifier, &known).await.unwrap();
    check(&seldom, &known).await.unwrap();
    let error = check(&verifier, &unseen).await.unwrap_err().to_string();
    assert!(error.contains("not among its issuer's"), "{error}");
    let never_asked = trusting(config(&provider));
    assert!(check(&never_asked, &known).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_providers_public_key_signs_nothing() {
    let provider = OidcProvider::start("lake").await.unwrap();
    let verifier = trusting(config(&provider));
    let token = provider.token("reader").await.unwrap();
    check(&verifier, &token).await.unwrap();
    let keys = provider.keys().await.unwrap();
    let key = &keys["keys"][0];
    let modulus = URL_SAFE_NO_PAD.decode(key["n"].as_str().unwrap()).unwrap();
    let body = token.split('.').nth(1).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(body).unwrap()).unwrap();
    for secret in [modulus, key["n"].as_str().unwrap().as_bytes().to_vec(), key.to_string().into_bytes()] {
        let mut header = Header::new(Algorithm::HS256);
        header.kid = key["kid"].as_str().map(str::to_owned);
        let forged = jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(&secret)).unwrap();
        let error = check(&verifier, &forged).await.unwrap_err().to_string();
        assert!(error.contains("algorithm"), "{error}");
    }
    let unsigned = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"none","kid":{}}}"#, key["kid"]));
    assert!(check(&verifier, &format!("{unsigned}.{body}.")).await.is_err());
    // One signature doesn't fit other claims.
    let parts: Vec<&str> = token.split('.').collect();
    let other = provider.token("writer").await.unwrap();
    let swapped = format!("{}.{}.{}", parts[0], other.split('.').nth(1).unwrap(), parts[2]);
    assert!(check(&verifier, &swapped).await.unwrap_err().to_string().contains("another key"));
}
