//! Tenants' policies out of the database, and refusals into their audit logs.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Instant,
};

use firn_auth::{
    Action, Denied, Grant, Limits, Policy, PolicySource, Principal, Protection, Revocation, Standing,
    TenantName,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{erasures, tenants};
use crate::{
    storage::Storage,
    store::{DocumentRow, DocumentSelection, Store, Write, Written},
    version::{Actor, VersionStore, audit_event},
};

/// Kind of the documents that hold [`StoredRules`], one per tenant.
pub(super) const RULES: &str = "access";
/// More different refusals than this wait for nobody: they are counted, not told apart.
const MAX_WAITING: usize = 1_000;

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
    /// Refusals that aren't written yet; `Some` while a task is writing.
    waiting: Mutex<Option<HashMap<Refused, Seen>>>,
}

/// Refusals that differ in nothing but their time are one entry with a count.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Refused {
    tenant: TenantName,
    principal: String,
    action: Action,
    reason: String,
}

struct Seen {
    count: u64,
    request_id: Option<String>,
}

impl Policies {
    pub(super) fn new(store: Arc<dyn Store>, versions: VersionStore, storage: Storage) -> Arc<Self> {
        Arc::new_cyclic(|me| Self { me: me.clone(), store, versions, storage, waiting: Mutex::default() })
    }

    /// Writes what waits, until nothing does. What comes meanwhile is gathered: however many requests are refused, one
    /// transaction runs at a time.
    async fn write_refusals(&self) {
        while let Some(refusals) = self.take() {
            let mut by_tenant: HashMap<TenantName, Vec<(Refused, Seen)>> = HashMap::new();
            for (refused, seen) in refusals {
                by_tenant.entry(refused.tenant.clone()).or_default().push((refused, seen));
            }
            for (tenant, refusals) in by_tenant {
                let events = refusals.into_iter().map(|(refused, seen)| {
                    let actor = Actor { principal: refused.principal, request_id: seen.request_id };
                    let details = json!({
                        "action": refused.action, "reason": refused.reason, "count": seen.count,
                    });
                    audit_event("denied", &actor, &details)
                });
                let write =
                    Write { repository: tenant.to_string(), events: events.collect(), ..Write::default() };
                match self.store.write(&write).await {
                    Ok(Written::Done) => {}
                    // A tenant that doesn't exist has no audit log; the metric and the log line are all there is.
                    Ok(Written::Refused(_)) => {
                        tracing::info!(%tenant, "requests for a tenant that doesn't exist were refused");
                    }
                    Err(error) => tracing::warn!(%tenant, %error, "refusals are missing in the audit log"),
                }
            }
        }
    }

    fn take(&self) -> Option<HashMap<Refused, Seen>> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let found = waiting.replace(HashMap::new()).unwrap_or_default();
        if found.is_empty() {
            *waiting = None;
            return None;
        }
        Some(found)
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
        metrics::counter!("firn_access_denied_total").increment(1);
        let refused = Refused {
            tenant: tenant.clone(),
            principal: principal.name().to_owned(),
            action,
            reason: why.to_string(),
        };
        let mut guard = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = guard.is_none();
        let waiting = guard.get_or_insert_default();
        if waiting.len() < MAX_WAITING || waiting.contains_key(&refused) {
            let seen = waiting.entry(refused).or_insert(Seen { count: 0, request_id: None });
            seen.count += 1;
            seen.request_id = request_id.map(str::to_owned);
        }
        drop(guard);
        if let Some(me) = self.me.upgrade().filter(|_| idle) {
            tokio::spawn(async move { me.write_refusals().await });
        }
    }
}
