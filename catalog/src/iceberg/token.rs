//! `POST /v1/oauth/tokens`: exchanges a token that is about to expire for a fresh one with the same rights.

use std::time::Duration;

use axum::{
    Json,
    extract::{State, rejection::BytesRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use firn_auth::Claims;
use serde_json::json;

use crate::management::AppState;

/// Lifetime of tokens of this endpoint.
const TTL: Duration = Duration::from_secs(3600);
const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// Answers a token, or an error as OAuth 2 writes it.
pub(super) async fn issue(State(state): State<AppState>, body: Result<Bytes, BytesRejection>) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return rejection.into_response(),
    };
    let field = |name: &str| {
        let mut fields = url::form_urlencoded::parse(&body);
        fields.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    };
    match field("grant_type").as_deref() {
        Some(TOKEN_EXCHANGE) => match state.verifier.verify(&field("subject_token").unwrap_or_default()) {
            Ok(principal) => Json(granted(&state, principal.claims)).into_response(),
            Err(error) => refused(StatusCode::BAD_REQUEST, "invalid_grant", &error.to_string()),
        },
        Some("client_credentials") => {
            let text = "no client of this id and secret is known: use a token";
            refused(StatusCode::UNAUTHORIZED, "invalid_client", text)
        }
        _ => refused(StatusCode::BAD_REQUEST, "unsupported_grant_type", "only token exchange is supported"),
    }
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
