//! HTTP Basic, for agents that can't send bearer tokens: id and secret are exchanged for a token at the catalog, which alone
//! knows the clients. Only clients that may do nothing but upload are let in this way.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use firn_auth::{Guard, Principal, Role, Scope};
use firn_catalog_client::{CatalogClient, ClientErrorKind};
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use super::answer::Refusal;

/// How long a secret that was right is not asked for again: what the client may do is looked
/// at anew each time, so that a removed one is out at once.
const REMEMBERED: Duration = Duration::from_secs(60);

/// Most secrets remembered.
const MOST: usize = 10_000;

/// Questions to the catalog at once, so that wrong secrets can't drown it.
const AT_ONCE: usize = 8;

/// Id and secret.
pub(super) struct Credentials {
    id: String,
    secret: String,
}

/// Those of an `Authorization: Basic` header; `None` if it is none.
pub(super) fn credentials(header: &str) -> Option<Credentials> {
    let (scheme, value) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = STANDARD.decode(value.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    // What can't be read is no client's.
    let (id, secret) = decoded.as_deref().and_then(|text| text.split_once(':')).unwrap_or_default();
    Some(Credentials { id: id.to_owned(), secret: secret.to_owned() })
}

/// Checks credentials.
pub(super) struct BasicAuth {
    catalog: CatalogClient,
    /// By hash, so that no secret stays in memory.
    known: Mutex<HashMap<[u8; 32], Known>>,
    turns: Semaphore,
}

struct Known {
    principal: Principal,
    until: Instant,
}

impl BasicAuth {
    pub(super) fn new(catalog: CatalogClient) -> Self {
        Self { catalog, known: Mutex::default(), turns: Semaphore::new(AT_ONCE) }
    }

    /// Who it is.
    pub(super) async fn principal(
        &self,
        credentials: &Credentials,
        guard: &Guard,
    ) -> Result<Principal, Refusal> {
        let hash: [u8; 32] = Sha256::digest(format!("{}\0{}", credentials.id, credentials.secret)).into();
        if let Some(principal) = self.remembered(&hash) {
            return Ok(principal);
        }
        let wrong = || Refusal::unauthenticated("there is no client of this id and secret".to_owned());
        // Never closed, so it always answers.
        let _turn = self.turns.acquire().await.map_err(|_| wrong())?;
        let token = match self.catalog.client_token(&credentials.id, &credentials.secret).await {
            Ok(token) => token,
            Err(error) if matches!(error.kind, ClientErrorKind::Denied | ClientErrorKind::Invalid) => {
                return Err(wrong());
            }
            Err(error) => {
                tracing::warn!(%error, "a client's secret can't be checked");
                return Err(Refusal::unavailable("the catalog can't be asked for this client now"));
            }
        };
        let principal = guard.verify(&token).await?;
        if !is_agent(&principal) {
            let message = "HTTP Basic is for clients of the role agent with the scope inventory:write alone";
            return Err(Refusal::forbidden(message));
        }
        self.remember(hash, &principal);
        Ok(principal)
    }

    fn remembered(&self, hash: &[u8; 32]) -> Option<Principal> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get(hash)?;
        (known.until > Instant::now()).then(|| known.principal.clone())
    }

    fn remember(&self, hash: [u8; 32], principal: &Principal) {
        let now = Instant::now();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.retain(|_, known| known.until > now);
        }
        if known.len() < MOST {
            known.insert(hash, Known { principal: principal.clone(), until: now + REMEMBERED });
        }
    }
}

/// Whether uploading is all that the principal may do.
fn is_agent(principal: &Principal) -> bool {
    let claims = &principal.claims;
    let narrow = claims.tenants.values().all(|role| *role == Role::Agent);
    !claims.operator && narrow && claims.scopes == [Scope::InventoryWrite]
}
