//! What a principal may do in a tenant it was let into.

use std::sync::Arc;

use axum::http::{
    HeaderMap,
    header::{CONTENT_LENGTH, TRANSFER_ENCODING},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Denied, Guard};
use crate::{Action, Limits, Policy, Principal, TenantName, policy::Extent};

/// A change that runs. Dropping it makes room for another one.
#[derive(Debug, Default)]
pub struct Place {
    _permit: Option<OwnedSemaphorePermit>,
}

/// A principal that was let into a tenant, to ask what it may do there.
#[derive(Clone)]
pub struct Access {
    pub(super) guard: Guard,
    pub(super) principal: Principal,
    pub(super) tenant: TenantName,
    pub(super) policy: Arc<Policy>,
    pub(super) request_id: Option<Arc<str>>,
}

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

    pub(super) fn judge(
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
    pub(super) fn some_granted_reference(&self, action: Action) -> Option<&str> {
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

    pub(super) fn take_turn(&self) -> Result<(), Denied> {
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
    pub(super) fn check_body(&self, headers: &HeaderMap) -> Result<(), Denied> {
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
