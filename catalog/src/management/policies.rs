//! Tenants' policies out of the database, and refusals into their audit logs.

use std::{
    sync::{Arc, Weak},
    time::Instant,
};

use firn_auth::{
    Action, Denied, Grant, Limits, Policy, PolicySource, Principal, Protection, Refusals, Revocation,
    Standing, TenantName,
};
use serde::{Deserialize, Serialize};

use super::{erasures, refusals, tenants};
use crate::{
    storage::Storage,
    store::{DocumentRow, DocumentSelection, Store},
    version::VersionStore,
};

/// Kind of the documents that hold [`StoredRules`], one per tenant.
pub(super) const RULES: &str = "access";

/// A tenant's own rules as they are stored.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct StoredRules {
    #[serde(default)]
    pub(super) grants: Vec<Grant>,
    #[serde(default)]
    pub(super) protections: Vec<Protection>,
    #[serde(default)]
    pub(super) revocations: Vec<Revocation>,
}

impl StoredRules {
    /// The rules and the version of their document; 0 if there is none.
    pub(super) fn of(row: Option<&DocumentRow>) -> Result<(Self, i64), String> {
        let Some(row) = row else { return Ok((Self::default(), 0)) };
        let rules = serde_json::from_slice(&row.body)
            .map_err(|error| format!("the access rules of '{}' can't be read: {error}", row.tenant))?;
        Ok((rules, row.version))
    }
}

/// Where the guard gets policies.
pub(super) struct Policies {
    me: Weak<Self>,
    store: Arc<dyn Store>,
    versions: VersionStore,
    storage: Storage,
    refusals: Refusals,
}

impl Policies {
    pub(super) fn new(store: Arc<dyn Store>, versions: VersionStore, storage: Storage) -> Arc<Self> {
        Arc::new_cyclic(|me| Self { me: me.clone(), store, versions, storage, refusals: Refusals::default() })
    }

    /// Writes what waits, until nothing does.
    async fn write_refusals(&self) {
        while let Some(refusals) = self.refusals.take() {
            let count: u64 = refusals.iter().map(|refused| refused.count).sum();
            if let Err(error) = refusals::write(&*self.store, refusals, None).await {
                tracing::warn!(%error, count, "refusals are missing in the audit log");
                Refusals::lost(count);
            }
        }
    }
}

#[async_trait::async_trait]
impl PolicySource for Policies {
    fn seen(&self, tenant: &TenantName) -> Option<(i64, Instant)> {
        self.versions.seen_epoch(tenant.as_str())
    }

    async fn epoch(&self, tenant: &TenantName) -> Result<Option<i64>, String> {
        self.versions.epoch(tenant.as_str()).await.map_err(|error| error.to_string())
    }

    async fn load(&self, tenant: &TenantName) -> Result<Policy, String> {
        let one = || DocumentSelection::One { tenant: tenant.as_str(), key: "" };
        let text = |error: crate::store::StoreError| error.to_string();
        let rules = self.store.documents(RULES, one()).await.map_err(text)?;
        let (rules, _) = StoredRules::of(rules.first())?;
        // Whoever replaces metadata files raises the epoch, too.
        let rows = self.store.documents(erasures::KEY_KIND, one()).await.map_err(text)?;
        self.storage.note_generation(tenant.as_str(), rows.first().map_or(0, |row| row.version));
        let rows = self.store.documents(tenants::KIND, one()).await.map_err(text)?;
        let (standing, limits) = match rows.first() {
            Some(row) => {
                let tenant =
                    tenants::decode(tenant.as_str(), &row.body).map_err(|error| error.to_string())?;
                (tenants::standing(&tenant), tenant.limits)
            }
            None => (Standing::Active, Limits::default()),
        };
        let StoredRules { grants, protections, revocations } = rules;
        Ok(Policy { epoch: 0, standing, grants, protections, revocations, limits })
    }

    fn refused(
        &self,
        tenant: &TenantName,
        principal: &Principal,
        action: Action,
        why: &Denied,
        request_id: Option<&str>,
    ) {
        let first = self.refusals.add(tenant, principal, action, why, request_id);
        if let Some(me) = self.me.upgrade().filter(|_| first) {
            tokio::spawn(async move { me.write_refusals().await });
        }
    }
}
