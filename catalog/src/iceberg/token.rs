//! `POST /v1/oauth/tokens`: a token for a client's id and secret, or for a token that is about to expire.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{State, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use firn_auth::Claims;
use serde_json::json;

use super::error::ApiError;
use crate::management::{AppState, client_claims};

/// Lifetime of tokens of this endpoint.
const TTL: Duration = Duration::from_secs(3600);
const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// Answers a token, or an error as OAuth 2 writes it.
pub(super) async fn issue(
    State(state): State<AppState>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return ApiError::from(rejection).into_response(),
    };
    let field = |name: &str| {
        let mut fields = url::form_urlencoded::parse(&body);
        fields.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    };
    match field("grant_type").as_deref() {
        Some(TOKEN_EXCHANGE) => match state.verifier.verify(&field("subject_token").unwrap_or_default()) {
            Ok(principal) => Json(granted(&state, Arc::unwrap_or_clone(principal.claims))).into_response(),
            Err(error) => refused(StatusCode::BAD_REQUEST, "invalid_grant", &error.to_string()),
        },
        Some("client_credentials") => {
            let (id, secret) = basic(&headers).unwrap_or_else(|| {
                (field("client_id").unwrap_or_default(), field("client_secret").unwrap_or_default())
            });
            match client_claims(&state, &id, &secret, TTL).await {
                Ok(Some(claims)) => Json(granted(&state, claims)).into_response(),
                Ok(None) => refused(
                    StatusCode::UNAUTHORIZED,
                    "invalid_client",
                    "there is no client of this id and secret",
                ),
                Err(error) => ApiError::from(error).into_response(),
            }
        }
        _ => {
            let text = "the grant types are client_credentials and token exchange";
            refused(StatusCode::BAD_REQUEST, "unsupported_grant_type", text)
        }
    }
}

/// Id and secret of an `Authorization: Basic` header.
fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let decoded = String::from_utf8(STANDARD.decode(value).ok()?).ok()?;
    decoded.split_once(':').map(|(id, secret)| (id.to_owned(), secret.to_owned()))
}

fn granted(state: &AppState, old: Claims) -> serde_json::Value {
    let fresh = Claims::new(&old.sub, TTL);
    let claims = Claims { iat: fresh.iat, nbf: fresh.nbf, exp: fresh.exp, jti: fresh.jti, ..old };
    json!({
        "access_token": state.config.signing_key.sign(&claims),
        "token_type": "bearer",
        "expires_in": TTL.as_secs(),
        "issued_token_type": ACCESS_TOKEN,
    })
}

fn refused(status: StatusCode, error: &str, description: &str) -> Response {
    (status, Json(json!({"error": error, "error_description": description}))).into_response()
}
