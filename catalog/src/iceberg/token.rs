//! `POST /v1/oauth/tokens`: a token for a client's id and secret, or for a token that is about to expire.

use std::time::Duration;

use axum::{
    Json,
    extract::{State, rejection::BytesRejection},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use firn_auth::{Claims, Denied};
use serde_json::json;

use super::error::ApiError;
use crate::management::{AppState, client_claims};

/// Lifetime of tokens of this endpoint.
const TTL: Duration = Duration::from_secs(3600);
/// How long tokens can be exchanged for fresh ones after the caller proved itself.
const SESSION_S: i64 = 7 * 86_400;
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
        Some(TOKEN_EXCHANGE) => exchange(&state, &field("subject_token").unwrap_or_default())
            .await
            .unwrap_or_else(|refusal| refusal),
        Some("client_credentials") => {
            let (id, secret) = basic(&headers).unwrap_or_else(|| {
                (field("client_id").unwrap_or_default(), field("client_secret").unwrap_or_default())
            });
            match client_claims(&state, &id, &secret, TTL).await {
                Ok(Some(claims)) => Json(granted(&state, &claims)).into_response(),
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

/// A fresh token for one that is about to expire. That can't be done for ever: after a while the caller must prove itself by
/// more than a token.
async fn exchange(state: &AppState, token: &str) -> Result<Response, Response> {
    let invalid = |text: &str| refused(StatusCode::BAD_REQUEST, "invalid_grant", text);
    let principal = state.guard.verify(token).await.map_err(|denied| match denied {
        Denied::Unavailable(_) => ApiError::from(denied).into_response(),
        _ => invalid(&denied.to_string()),
    })?;
    let claims = Claims::renewed(&principal.claims, TTL);
    if claims.auth_time.is_none_or(|since| claims.iat.saturating_sub(since) > SESSION_S) {
        let text = "the session is over: ask for a token with the client's id and secret, or sign in again";
        return Err(invalid(text));
    }
    Ok(Json(granted(state, &claims)).into_response())
}

fn granted(state: &AppState, claims: &Claims) -> serde_json::Value {
    json!({
        "access_token": state.config.signing_key.sign(claims),
        "token_type": "bearer",
        "expires_in": TTL.as_secs(),
        "issued_token_type": ACCESS_TOKEN,
    })
}

fn refused(status: StatusCode, error: &str, description: &str) -> Response {
    (status, Json(json!({"error": error, "error_description": description}))).into_response()
}
