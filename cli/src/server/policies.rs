//! Tenants' policies, asked of a catalog that runs elsewhere.
//!
//! While it is away, what was known holds, and what was not is decided by the token alone: the gateway takes records as long as
//! the log does.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use firn_auth::{Action, Denied, Policy, PolicySource, Principal, TenantName};
use firn_catalog_client::CatalogClient;

/// Nobody waits longer for a catalog that doesn't answer.
const ANSWER: Duration = Duration::from_millis(1_500);
/// Tenants whose policies are kept.
const MOST: usize = 20_000;

/// Policies by tenant, and when they were asked for.
pub(super) struct RemotePolicies {
    catalog: CatalogClient,
    known: Mutex<HashMap<TenantName, (Policy, Instant)>>,
}

impl RemotePolicies {
    pub(super) fn of(catalog: CatalogClient) -> Self {
        Self { catalog, known: Mutex::default() }
    }

    fn known(&self, tenant: &TenantName) -> Option<(Policy, Instant)> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(tenant).cloned()
    }

    fn keep(&self, tenant: &TenantName, policy: Policy, asked: Instant) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(tenant.clone(), (policy, asked));
    }
}

#[async_trait::async_trait]
impl PolicySource for RemotePolicies {
    fn seen(&self, tenant: &TenantName) -> Option<(i64, Instant)> {
        self.known(tenant).map(|(policy, asked)| (policy.epoch, asked))
    }

    async fn epoch(&self, tenant: &TenantName) -> Result<Option<i64>, String> {
        let asked = Instant::now();
        let client = self.catalog.tenant(tenant.as_str());
        let policy = match tokio::time::timeout(ANSWER, client.policy()).await {
            Ok(Ok(policy)) => policy,
            failed => {
                let reason =
                    failed.map_or_else(|_| "no answer".to_owned(), |failed| format!("{:?}", failed.err()));
                tracing::warn!(%tenant, reason, "the catalog can't be asked who may do what");
                self.known(tenant).map(|(policy, _)| policy).unwrap_or_default()
            }
        };
        let epoch = policy.epoch;
        self.keep(tenant, policy, asked);
        Ok(Some(epoch))
    }

    async fn load(&self, tenant: &TenantName) -> Result<Policy, String> {
        Ok(self.known(tenant).map(|(policy, _)| policy).unwrap_or_default())
    }

    fn refused(
        &self,
        tenant: &TenantName,
        principal: &Principal,
        action: Action,
        why: &Denied,
        request_id: Option<&str>,
    ) {
        // The audit log is the catalog's; what is refused elsewhere is in that process's own log.
        tracing::info!(%tenant, principal = principal.name(), ?action, %why, request_id, "refused");
    }
}
