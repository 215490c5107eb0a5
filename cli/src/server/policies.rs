//! Tenants' policies, asked of a catalog that runs elsewhere, whose audit logs are told what was refused here.
//!
//! While it is away, what was known holds, and what was not is decided by the token alone: the gateway takes records as long as
//! the log does.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

use firn_auth::{Action, Denied, Policy, PolicySource, Principal, Refusals, Refused, TenantName};
use firn_catalog_client::{CatalogClient, ClientError, ClientErrorKind};
use firn_runtime::retry::Backoff;

/// Nobody waits longer for a catalog that doesn't answer.
const ANSWER: Duration = Duration::from_millis(1_500);
/// Tenants whose policies are kept.
const MOST: usize = 20_000;

/// Of reporting refusals: what is lost after that is counted.
const REPORTS: Backoff =
    Backoff { initial: Duration::from_secs(1), max: Duration::from_secs(30), attempts: 8 };

/// Policies by tenant, and when they were asked for; and refusals on their way to the catalog.
pub(super) struct RemotePolicies {
    me: Weak<Self>,
    catalog: CatalogClient,
    known: Mutex<HashMap<TenantName, (Policy, Instant)>>,
    refusals: Refusals,
}

impl RemotePolicies {
    pub(super) fn of(catalog: CatalogClient) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            catalog,
            known: Mutex::default(),
            refusals: Refusals::default(),
        })
    }

    /// Sends what waits, until nothing does. What comes meanwhile is gathered.
    async fn report(&self) {
        while let Some(refusals) = self.refusals.take() {
            if let Err(error) = self.send(&refusals).await {
                let count: u64 = refusals.iter().map(|refused| refused.count).sum();
                tracing::warn!(%error, count, "refusals are missing in the audit log");
                Refusals::lost(count);
            }
        }
    }

    /// Again only while the catalog surely wrote nothing.
    async fn send(&self, refusals: &[Refused]) -> Result<(), ClientError> {
        let mut failures = 0;
        loop {
            match self.catalog.report_refusals(refusals).await {
                Err(error) if error.kind == ClientErrorKind::Unavailable && failures < REPORTS.attempts => {
                    failures += 1;
                    tokio::time::sleep(REPORTS.delay(failures)).await;
                }
                sent => return sent,
            }
        }
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
        tracing::info!(%tenant, principal = principal.name(), ?action, %why, request_id, "refused");
        let first = self.refusals.add(tenant, principal, action, why, request_id);
        if let Some(me) = self.me.upgrade().filter(|_| first) {
            tokio::spawn(async move { me.report().await });
        }
    }
}

#[cfg(test)]
mod tests;
