//! Who looks at the console.

use std::{collections::BTreeMap, time::Duration};

use axum::http::{HeaderMap, header};
use firn_auth::{Claims, Guard, Role, SigningKey};
use firn_catalog::Catalog;

const COOKIE: &str = "firn_console";
/// A working day, for visitors that came by a one-time code.
const TTL: Duration = Duration::from_secs(12 * 3_600);
/// Ends a session.
pub(super) const FORGET: &str = "firn_console=; Path=/console; Max-Age=0; HttpOnly; SameSite=Strict";

/// A checked token.
#[derive(Clone, Debug)]
pub(super) struct Session {
    pub(super) token: String,
    expires_at: i64,
}

impl Session {
    /// The session of a request's cookie, while its token is valid.
    pub(super) async fn of_cookie(guard: &Guard, headers: &HeaderMap) -> Option<Self> {
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs =
            cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let (_, token) = pairs.find(|(name, _)| *name == COOKIE)?;
        Self::of_token(guard, token).await.ok()
    }

    /// A session for as long as the token lasts.
    pub(super) async fn of_token(guard: &Guard, token: &str) -> Result<Self, String> {
        let principal = guard.verify(token).await.map_err(|error| error.to_string())?;
        Ok(Self { token: token.to_owned(), expires_at: principal.claims.exp })
    }

    /// A reader of all tenants there are now.
    pub(super) async fn of_code(key: &SigningKey, catalog: &Catalog) -> Result<Self, String> {
        let tenants = catalog.tenant_names().await.map_err(|error| error.to_string())?;
        let tenants: BTreeMap<_, _> = tenants.into_iter().map(|tenant| (tenant, Role::Reader)).collect();
        let token = key.sign(&Claims { tenants, ..Claims::new("console", TTL) });
        Self::of_token(&catalog.guard(), &token).await
    }

    /// `Set-Cookie`. `Secure` where the server itself speaks TLS; a TLS proxy may add it.
    pub(super) fn cookie(&self, tls: bool) -> String {
        let max_age = self.expires_at.saturating_sub(chrono::Utc::now().timestamp()).max(0);
        let secure = if tls { "; Secure" } else { "" };
        format!(
            "{COOKIE}={}; Path=/console; Max-Age={max_age}; HttpOnly; SameSite=Strict{secure}",
            self.token
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    async fn session(key: &SigningKey, cookies: &str) -> Option<Session> {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, cookies.parse().unwrap());
        Session::of_cookie(&key.verifier().into(), &headers).await
    }

    #[tokio::test]
    async fn cookie_is_checked_like_any_token() {
        let key = SigningKey::generate();
        let token = key.sign(&Claims::new("me", Duration::from_secs(60)));
        assert_eq!(session(&key, &format!("a=b; firn_console={token}")).await.unwrap().token, token);
        assert!(session(&SigningKey::generate(), &format!("firn_console={token}")).await.is_none());
        assert!(session(&key, "firn_console=; x=y").await.is_none());
    }

    #[tokio::test]
    async fn cookie_is_for_the_console_alone_and_out_of_reach_of_scripts() {
        let key = SigningKey::generate();
        let token = key.sign(&Claims::new("me", Duration::from_secs(60)));
        let session = Session::of_token(&key.verifier().into(), &token).await.unwrap();
        let cookie = session.cookie(false);
        assert!(
            cookie.contains("; Path=/console;") && cookie.contains("; HttpOnly; SameSite=Strict"),
            "{cookie}"
        );
        assert!(!cookie.contains("Secure") && session.cookie(true).ends_with("; Secure"), "{cookie}");
    }
}
