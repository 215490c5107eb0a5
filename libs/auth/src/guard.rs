//! The one place that every service asks: who calls, and may they.
//!
//! Decisions are made from memory. A tenant's [`Policy`] is kept with its access epoch; whoever reads the tenant's heads learns
//! the newest epoch on the way, and only a newer one makes the policy be loaded again. So who is busy asks the database
//! nothing for this; where no head was read for a second, the epoch is asked for.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{CONTENT_LENGTH, TRANSFER_ENCODING, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
};
use firn_runtime::{
    http::{REQUEST_ID, authorization, come_back, json_error},
    rate::RateLimit,
};
use moka::sync::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    Action, AuthError, Limits, Policy, Principal, TenantName, Verifier,
    policy::{Extent, Refusal},
};

/// How old the newest known epoch may be. A change is in force at once where it is made, and everywhere after this.
const FRESH: Duration = Duration::from_secs(1);
/// Tenants whose policies are kept.
const MAX_POLICIES: u64 = 20_000;
/// The tenant whose revocations hold for all tokens.
const SYSTEM: &str = "firn";

/// Where policies come from, and where refusals go.
#[async_trait::async_trait]
pub trait PolicySource: Send + Sync {
    /// The newest access epoch that this process has seen of a tenant, and when.
    fn seen(&self, tenant: &TenantName) -> Option<(i64, Instant)>;

    /// Asks for the epoch; a tenant that doesn't exist has none. The error is for logs.
    async fn epoch(&self, tenant: &TenantName) -> Result<Option<i64>, String>;

    /// Loads a tenant's policy; that of one that doesn't exist is the default. The error is for logs.
    async fn load(&self, tenant: &TenantName) -> Result<Policy, String>;

    /// Takes note of a refusal for the audit log. Never waits.
    fn refused(
        &self,
        tenant: &TenantName,
        principal: &Principal,
        action: Action,
        why: &Denied,
        request: Option<&str>,
    );
}

/// Why a request is refused. `Display` is safe to show to the caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No valid token: 401.
    #[error("{0}")]
    Unauthenticated(String),
    /// The token doesn't allow it, or doesn't reach the tenant, or there is none: 403.
    #[error("{0}")]
    Forbidden(String),
    /// The tenant is suspended or deleted: 403.
    #[error("{0}")]
    Suspended(String),
    /// Too many requests: 429.
    #[error("{message}")]
    TooMany {
        /// What is too much.
        message: String,
        /// When to come back.
        retry_after_s: u64,
    },
    /// The body is larger than the tenant may send: 413.
    #[error("{0}")]
    TooLarge(String),
    /// It can't be decided now: 503.
    #[error("{0}")]
    Unavailable(String),
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        let (status, kind) = match &self {
            Self::Unauthenticated(_) => (StatusCode::UNAUTHORIZED, "NotAuthorized"),
            Self::Forbidden(_) => (StatusCode::FORBIDDEN, "Forbidden"),
            Self::Suspended(_) => (StatusCode::FORBIDDEN, "TenantSuspended"),
            Self::TooMany { .. } => (StatusCode::TOO_MANY_REQUESTS, "TooManyRequests"),
            Self::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "PayloadTooLarge"),
            Self::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"),
        };
        let retry_after_s = match &self {
            Self::TooMany { retry_after_s, .. } => Some(*retry_after_s),
            Self::Unavailable(_) => Some(1),
            _ => None,
        };
        let mut answer = come_back(json_error(status, kind, self.to_string()), retry_after_s);
        if status == StatusCode::UNAUTHORIZED {
            answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        answer
    }
}

impl From<AuthError> for Denied {
    fn from(error: AuthError) -> Self {
        Self::Unauthenticated(error.to_string())
    }
}

/// Decides. Cheap to clone.
#[derive(Clone)]
pub struct Guard {
    inner: Arc<Inner>,
}

struct Inner {
    verifier: Verifier,
    source: Option<Arc<dyn PolicySource>>,
    policies: Cache<TenantName, Arc<Policy>>,
    rates: RateLimit,
    /// Places for changes, of tenants that have a limit of them.
    places: Cache<(TenantName, u32), Arc<Semaphore>>,
}

/// A change that runs. Dropping it makes room for another one.
#[derive(Debug, Default)]
pub struct Place {
    _permit: Option<OwnedSemaphorePermit>,
}

/// A principal that was let into a tenant, to ask what it may do there.
#[derive(Clone)]
pub struct Access {
    guard: Guard,
    principal: Principal,
    tenant: TenantName,
    policy: Arc<Policy>,
    request_id: Option<Arc<str>>,
}

impl From<Verifier> for Guard {
    /// Decides by tokens alone: for a service that has no catalog to ask.
    fn from(verifier: Verifier) -> Self {
        Self::build(verifier, None)
    }
}

impl Guard {
    /// Decides by tokens and by the policies of `source`.
    #[must_use]
    pub fn new(verifier: Verifier, source: Arc<dyn PolicySource>) -> Self {
        Self::build(verifier, Some(source))
    }

    fn build(verifier: Verifier, source: Option<Arc<dyn PolicySource>>) -> Self {
        let (policies, places) = (Cache::new(MAX_POLICIES), Cache::new(MAX_POLICIES));
        Self { inner: Arc::new(Inner { verifier, source, policies, rates: RateLimit::default(), places }) }
    }

    /// Checks the bearer token of a request, and that it wasn't revoked for all tenants.
    pub async fn authenticate(&self, headers: &HeaderMap) -> Result<Principal, Denied> {
        self.of_header(authorization(headers)).await
    }

    /// The same for a bare token.
    pub async fn verify(&self, token: &str) -> Result<Principal, Denied> {
        self.of_header(Some(&format!("Bearer {token}"))).await
    }

    async fn of_header(&self, header: Option<&str>) -> Result<Principal, Denied> {
        let principal = self.inner.verifier.authenticate(header).await?;
        if let Ok(system) = SYSTEM.parse() {
            let refused = self.policy(&system).await?.refuse_revoked(&principal);
            refused.map_err(|refusal| refusal.told(&system))?;
        }
        Ok(principal)
    }

    /// Checks that a request comes from an operator.
    pub async fn operator(&self, headers: &HeaderMap) -> Result<Principal, Denied> {
        let principal = self.authenticate(headers).await?;
        if principal.claims.operator {
            return Ok(principal);
        }
        let denied = Denied::Forbidden("only an operator may do this".to_owned());
        if let (Some(source), Ok(system)) = (&self.inner.source, SYSTEM.parse()) {
            source.refused(&system, &principal, Action::Administer, &denied, request_id(headers));
        }
        Err(denied)
    }

    /// Checks that a request may do something in a tenant, wherever there: what is narrower is for [`Access::require`].
    pub async fn authorize(
        &self,
        headers: &HeaderMap,
        tenant: &str,
        action: Action,
    ) -> Result<Access, Denied> {
        let principal = self.authenticate(headers).await?;
        self.let_in(principal, headers, tenant, action).await
    }

    /// What a principal that is known already may do in a tenant.
    pub async fn let_in(
        &self,
        principal: Principal,
        headers: &HeaderMap,
        tenant: &str,
        action: Action,
    ) -> Result<Access, Denied> {
        let Ok(tenant) = tenant.parse::<TenantName>() else {
            return Err(unreached(tenant));
        };
        let policy = self.policy(&tenant).await?;
        let request_id = request_id(headers).map(Arc::from);
        let access = Access { guard: self.clone(), principal, tenant, policy, request_id };
        // Where nothing narrower is named, a grant for one reference is enough.
        access.judge(action, access.some_granted_reference(action), Extent::Any, true)?;
        access.take_turn()?;
        access.check_body(headers)?;
        Ok(access)
    }

    /// Whether a principal reaches a tenant, for lists.
    pub async fn reaches(&self, principal: &Principal, tenant: &TenantName) -> bool {
        match self.policy(tenant).await {
            Ok(policy) => policy.decide(principal, tenant, Action::Visit, None, Extent::Any).is_ok(),
            Err(_) => false,
        }
    }

    /// A tenant's policy, no older than a second.
    pub async fn policy(&self, tenant: &TenantName) -> Result<Arc<Policy>, Denied> {
        let Some(source) = &self.inner.source else { return Ok(Arc::default()) };
        let known = self.inner.policies.get(tenant);
        let seen = source.seen(tenant).filter(|(_, at)| at.elapsed() < FRESH);
        if let (Some(policy), Some((epoch, _))) = (&known, seen)
            && epoch <= policy.epoch
        {
            return Ok(Arc::clone(policy));
        }
        match self.reload(source.as_ref(), tenant, known.as_ref()).await {
            Ok(policy) => Ok(policy),
            // Tokens expire; what was known meanwhile is better than refusing everybody while a database restarts.
            Err(error) => known.ok_or_else(|| {
                Denied::Unavailable(format!("it can't be decided now whether this is allowed: {error}"))
            }),
        }
    }

    async fn reload(
        &self,
        source: &dyn PolicySource,
        tenant: &TenantName,
        known: Option<&Arc<Policy>>,
    ) -> Result<Arc<Policy>, String> {
        let epoch = source.epoch(tenant).await?.unwrap_or(NOWHERE);
        if let Some(policy) = known.filter(|policy| policy.epoch == epoch) {
            return Ok(Arc::clone(policy));
        }
        // The epoch was read before: what is loaded is at least as new, and what changes later raises it again.
        let policy = Arc::new(Policy { epoch, ..source.load(tenant).await? });
        self.inner.policies.insert(tenant.clone(), Arc::clone(&policy));
        Ok(policy)
    }
}

/// The epoch of a tenant that doesn't exist; below all others.
const NOWHERE: i64 = -1;

impl Access {
    /// Who it is.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Where.
    #[must_use]
    pub fn tenant(&self) -> &TenantName {
        &self.tenant
    }

    /// The request's id.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        self.request_id.as_deref()
    }

    /// Whether the action is allowed on at least one key of a reference (`None`: a commit named by its hash, which may be any
    /// reference's).
    pub fn require(&self, action: Action, reference: Option<&str>) -> Result<(), Denied> {
        self.judge(action, reference, Extent::Any, true)
    }

    /// Whether it is allowed on all keys.
    pub fn require_all(&self, action: Action, reference: Option<&str>) -> Result<(), Denied> {
        self.judge(action, reference, Extent::All, true)
    }

    /// Whether it is allowed on one key.
    pub fn require_key(&self, action: Action, reference: Option<&str>, key: &[String]) -> Result<(), Denied> {
        self.judge(action, reference, Extent::Key(key), true)
    }

    /// Whether it is allowed on a key or something below it, as a namespace must be to be seen.
    pub fn require_within(
        &self,
        action: Action,
        reference: Option<&str>,
        key: &[String],
    ) -> Result<(), Denied> {
        self.judge(action, reference, Extent::Within(key), true)
    }

    /// Whether it is allowed on one key, for answers that differ by it: a "no" is no refusal.
    #[must_use]
    pub fn may(&self, action: Action, reference: Option<&str>, key: &[String]) -> bool {
        self.judge(action, reference, Extent::Key(key), false).is_ok()
    }

    /// Whether a reference may be read at all, for lists.
    #[must_use]
    pub fn sees(&self, reference: Option<&str>) -> bool {
        self.judge(Action::Read, reference, Extent::Any, false).is_ok()
    }

    /// Whether a key may be read, for lists. A namespace is seen if something within it may be.
    #[must_use]
    pub fn sees_key(&self, reference: Option<&str>, key: &[String], is_namespace: bool) -> bool {
        let extent = if is_namespace { Extent::Within(key) } else { Extent::Key(key) };
        self.judge(Action::Read, reference, extent, false).is_ok()
    }

    /// Whether all of a reference may be read, so that lists needn't be filtered.
    #[must_use]
    pub fn sees_all(&self, reference: Option<&str>) -> bool {
        self.judge(Action::Read, reference, Extent::All, false).is_ok()
    }

    fn judge(
        &self,
        action: Action,
        reference: Option<&str>,
        extent: Extent<'_>,
        audited: bool,
    ) -> Result<(), Denied> {
        let decided = self.policy.decide(&self.principal, &self.tenant, action, reference, extent);
        decided.map_err(|refusal| {
            let denied = refusal.told(&self.tenant);
            if let Some(source) = self.guard.inner.source.as_ref().filter(|_| audited) {
                source.refused(&self.tenant, &self.principal, action, &denied, self.request_id());
            }
            denied
        })
    }

    /// The reference pattern of a grant, if only a grant could allow the action. A pattern fits itself.
    fn some_granted_reference(&self, action: Action) -> Option<&str> {
        let role = self.principal.role(&self.tenant);
        if role.is_some_and(|role| role >= action.role()) {
            return None;
        }
        let mut grants = self.policy.grants.iter();
        let own =
            grants.find(|grant| grant.principal == self.principal.name() && grant.actions.contains(&action));
        own.map(|grant| grant.reference.as_str())
    }

    /// How much the tenant may take. Firn's own services and operators aren't the tenant's traffic.
    #[must_use]
    pub fn limits(&self) -> Limits {
        if self.principal.claims.operator { Limits::default() } else { self.policy.limits }
    }

    /// Room for one change, or a refusal if too many run.
    pub fn begin_change(&self) -> Result<Place, Denied> {
        let Some(most) = self.limits().concurrent_commits else { return Ok(Place::default()) };
        let fresh = || Arc::new(Semaphore::new(usize::try_from(most).unwrap_or(usize::MAX)));
        let places = self.guard.inner.places.get_with((self.tenant.clone(), most), fresh);
        match places.try_acquire_owned() {
            Ok(permit) => Ok(Place { _permit: Some(permit) }),
            Err(_) => Err(Denied::TooMany {
                message: format!("{most} commits of the tenant '{}' run already: try again", self.tenant),
                retry_after_s: 1,
            }),
        }
    }

    fn take_turn(&self) -> Result<(), Denied> {
        let Some(per_s) = self.limits().requests_per_s else { return Ok(()) };
        self.guard.inner.rates.take(self.tenant.as_str(), per_s, 1).map_err(|retry_after_s| Denied::TooMany {
            message: format!(
                "the tenant '{}' sends more than {per_s} requests per second: come back in {retry_after_s} s",
                self.tenant
            ),
            retry_after_s,
        })
    }

    /// By what the headers say, since that is before anything was read: a body of unknown length is refused, too.
    fn check_body(&self, headers: &HeaderMap) -> Result<(), Denied> {
        let Some(most) = self.limits().body_bytes else { return Ok(()) };
        let length = headers
            .get(CONTENT_LENGTH)
            .map(|text| text.to_str().ok().and_then(|text| text.parse::<u64>().ok()));
        let fits = match length {
            Some(length) => length.is_some_and(|length| length <= most),
            None => !headers.contains_key(TRANSFER_ENCODING),
        };
        if fits {
            return Ok(());
        }
        let text = format!(
            "the tenant '{}' may send bodies of {most} bytes at most, with their Content-Length",
            self.tenant
        );
        Err(Denied::TooLarge(text))
    }
}

impl Refusal {
    fn told(self, tenant: &TenantName) -> Denied {
        match self {
            Self::Unreached => unreached(tenant.as_str()),
            Self::Revoked(text) => Denied::Unauthenticated(text),
            Self::Standing(text) => Denied::Suspended(text),
            Self::Protected(text) | Self::Ungranted(text) => Denied::Forbidden(text),
        }
    }
}

/// The same whether the tenant exists or not.
fn unreached(tenant: &str) -> Denied {
    Denied::Forbidden(format!("the token does not reach the tenant '{tenant}'"))
}

fn request_id(headers: &HeaderMap) -> Option<&str> {
    headers.get(REQUEST_ID).and_then(|id| id.to_str().ok())
}

#[cfg(test)]
mod tests;
