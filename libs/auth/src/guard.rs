//! The one place that every service asks: who calls, and may they.
//!
//! Decisions are made from memory. A tenant's [`Policy`] is kept with its access epoch; whoever reads the tenant's heads learns
//! the newest epoch on the way, and only a newer one makes the policy be loaded again. So who is busy asks the database
//! nothing for this; where no head was read for a second, the epoch is asked for.

mod access;
mod denied;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::http::HeaderMap;
use firn_runtime::{
    http::{REQUEST_ID, authorization},
    rate::RateLimit,
};
use moka::sync::Cache;
use tokio::sync::Semaphore;

use crate::{Action, Policy, Principal, TenantName, Verifier, policy::Extent};

pub use access::{Access, Place};
pub use denied::Denied;
use denied::unreached;

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

    /// Where tokens are checked.
    #[must_use]
    pub fn verifier(&self) -> &Verifier {
        &self.inner.verifier
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
        let epoch = source.epoch(tenant).await?.unwrap_or(Policy::NO_EPOCH);
        if let Some(policy) = known.filter(|policy| policy.epoch == epoch) {
            return Ok(Arc::clone(policy));
        }
        // The epoch was read before: what is loaded is at least as new, and what changes later raises it again.
        let policy = Arc::new(Policy { epoch, ..source.load(tenant).await? });
        self.inner.policies.insert(tenant.clone(), Arc::clone(&policy));
        Ok(policy)
    }
}

fn request_id(headers: &HeaderMap) -> Option<&str> {
    headers.get(REQUEST_ID).and_then(|id| id.to_str().ok())
}

#[cfg(test)]
mod tests;
