//! The console: one page, rendered on the server, that needs neither scripts nor anything from elsewhere.
//!
//! A visitor brings a token once, by link or form; it becomes a cookie that only this page sees. Everything on the page is
//! read with the visitor's own token, so that the console can show nobody more than the APIs would.

mod codes;
pub(crate) mod html;
mod load;
mod page;
mod session;

use axum::{
    Router,
    body::Bytes,
    extract::{Query, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use firn_auth::{SigningKey, TenantName};
use firn_catalog::Catalog;
use firn_runtime::StatusBoard;
use serde::Deserialize;

pub(crate) use codes::OneTimeCodes;
use session::Session;

const STYLE: &str = include_str!("console/style.css");

/// What the console needs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Console {
    key: SigningKey,
    codes: OneTimeCodes,
    catalog: Catalog,
    board: StatusBoard,
    own_url: String,
}

impl Console {
    pub(crate) fn new(
        key: SigningKey,
        codes: OneTimeCodes,
        catalog: Catalog,
        board: StatusBoard,
        own_url: String,
    ) -> Self {
        Self { key, codes, catalog, board, own_url }
    }
}

/// `/console` and what belongs to it.
pub(crate) fn router(console: Console) -> Router {
    Router::new()
        .route("/console", get(show))
        .route("/console/login", post(log_in))
        .route("/console/logout", post(log_out))
        .route(
            "/console/style.css",
            get(|| async { ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], STYLE) }),
        )
        .with_state(console)
}

#[derive(Deserialize)]
struct Arguments {
    token: Option<String>,
    tenant: Option<String>,
}

async fn show(
    State(console): State<Console>,
    Query(arguments): Query<Arguments>,
    headers: HeaderMap,
) -> Response {
    if let Some(token) = &arguments.token {
        return enter(&console, token).await;
    }
    let Some(session) = Session::of_cookie(&console.catalog.guard(), &headers).await else {
        return guarded(StatusCode::UNAUTHORIZED, page::login(None));
    };
    let tenants = load::tenants(&console.own_url, &session).await;
    let chosen = choose(arguments.tenant.as_deref(), &tenants);
    let view = load::view(&console, &session, chosen, tenants).await;
    guarded(StatusCode::OK, page::render(&view))
}

/// The tenant that was asked for, if the visitor reaches it; else the first one, Firn's own last.
fn choose(asked: Option<&str>, tenants: &[TenantName]) -> Option<TenantName> {
    let asked = tenants.iter().find(|tenant| Some(tenant.as_str()) == asked);
    let first = || tenants.iter().min_by_key(|tenant| (tenant.as_str() == "firn", tenant.as_str()));
    asked.or_else(first).cloned()
}

async fn log_in(State(console): State<Console>, body: Bytes) -> Response {
    let field = url::form_urlencoded::parse(&body).find(|(name, _)| name == "token");
    match field {
        Some((_, token)) => enter(&console, token.trim()).await,
        None => guarded(StatusCode::UNAUTHORIZED, page::login(Some("Enter a token."))),
    }
}

/// Turns a one-time code or a token into a cookie, and leads to an address that holds neither.
async fn enter(console: &Console, token: &str) -> Response {
    let session = if console.codes.redeem(token) {
        Session::of_code(&console.key, &console.catalog).await
    } else {
        Session::of_token(&console.catalog.guard(), token).await
    };
    let tls = console.own_url.starts_with("https:");
    match session {
        Ok(session) => {
            ([(header::SET_COOKIE, session.cookie(tls))], Redirect::to("/console")).into_response()
        }
        Err(reason) => guarded(StatusCode::UNAUTHORIZED, page::login(Some(&reason))),
    }
}

async fn log_out() -> Response {
    ([(header::SET_COOKIE, session::FORGET)], Redirect::to("/console")).into_response()
}

/// No script runs, nothing loads from elsewhere, nobody frames the page, no cache keeps it.
fn guarded(status: StatusCode, body: String) -> Response {
    let policy =
        "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
    let headers = [
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy)),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (status, headers, Html(body)).into_response()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_reachable_tenants_can_be_chosen() {
        let tenants: Vec<TenantName> = ["firn", "zeta"].map(|name| name.parse().unwrap()).into();
        assert_eq!(choose(Some("firn"), &tenants).unwrap().as_str(), "firn");
        assert_eq!(choose(Some("other"), &tenants).unwrap().as_str(), "zeta");
        assert_eq!(choose(None, &[]), None);
    }
}
