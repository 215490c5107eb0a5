//! Firn's own endpoints.

use serde::Deserialize;

use super::{CatalogClient, Path, TenantClient, path::join_namespace};
use crate::{
    AccessRules, AuditEntry, Client, ClientCreate, ClientError, ClientRotate, ClientSecret, Erasure,
    ErasureJob, ErasureRequest, EventPage, Expiry, ExpiryRequest, GcRequest, GcRun, Hold, HoldRequest,
    IssuedToken, LastEvents, Lease, LeaseRequest, MetricsReport, MetricsReports, Provisioning, PruneRequest,
    Pruned, RevocationRequest, Suspension, SuspensionRequest, Tenant, TenantCreate, TenantSuspend,
    TenantUpdate, TokenRequest, iceberg::TableIdent,
};
use firn_auth::{Policy, Refused, Revocation};
use serde_json::json;

#[derive(Deserialize)]
struct Tenants {
    tenants: Vec<Tenant>,
}

#[derive(Deserialize)]
struct Clients {
    clients: Vec<Client>,
}

/// A page of the audit log.
#[derive(Deserialize)]
struct Audit {
    entries: Vec<AuditEntry>,
    next: i64,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
}

#[derive(Deserialize)]
struct Suspensions {
    suspensions: Vec<Suspension>,
}

#[derive(Deserialize)]
struct Erasures<T> {
    erasures: Vec<T>,
}

#[derive(Deserialize)]
struct Expiries {
    expiries: Vec<Expiry>,
}

#[derive(Deserialize)]
struct Prunings {
    pruned: Vec<Pruned>,
}

#[derive(Deserialize)]
struct Holds {
    holds: Vec<Hold>,
}

impl CatalogClient {
    /// All tenants the token reaches: `GET /v1/tenants`.
    pub async fn tenants(&self) -> Result<Vec<Tenant>, ClientError> {
        let answer: Tenants = self.transport.get(&Path::new("/v1/tenants")).await?;
        Ok(answer.tenants)
    }

    /// How far each tenant's events go; for operators.
    pub async fn last_events(&self) -> Result<LastEvents, ClientError> {
        self.transport.get(&Path::new("/v1/events")).await
    }

    /// Creates a tenant, or answers it if it exists.
    pub async fn create_tenant(&self, request: &TenantCreate) -> Result<Tenant, ClientError> {
        self.transport.post(&Path::new("/v1/tenants"), request, None).await
    }

    /// The same, with those that were deleted; for operators.
    pub async fn all_tenants(&self) -> Result<Vec<Tenant>, ClientError> {
        let path = Path::new("/v1/tenants").query("deleted", "true");
        let answer: Tenants = self.transport.get(&path).await?;
        Ok(answer.tenants)
    }

    /// Revokes tokens in all tenants; for operators.
    pub async fn revoke(&self, request: &RevocationRequest) -> Result<Revocation, ClientError> {
        self.transport.post(&Path::new("/v1/revocations"), request, None).await
    }

    /// Tells what another of Firn's services refused, for the audit logs; for that service.
    pub async fn report_refusals(&self, refusals: &[Refused]) -> Result<(), ClientError> {
        self.transport.post(&Path::new("/v1/refusals"), &refusals, None).await
    }

    /// A token for a client's id and secret. A wrong one is `Denied`.
    pub async fn client_token(&self, id: &str, secret: &str) -> Result<String, ClientError> {
        let fields = [("grant_type", "client_credentials"), ("client_id", id), ("client_secret", secret)];
        let answer: Granted =
            self.transport.post_form(&Path::new("/iceberg/v1/oauth/tokens"), &fields).await?;
        Ok(answer.access_token)
    }

    /// All suspensions of the tenants that the token reaches.
    pub async fn suspensions(&self) -> Result<Vec<Suspension>, ClientError> {
        let answer: Suspensions = self.transport.get(&Path::new("/v1/suspensions")).await?;
        Ok(answer.suspensions)
    }

    /// All tenants' erasures with what is needed to carry them out; for operators.
    pub async fn erasure_jobs(&self) -> Result<Vec<ErasureJob>, ClientError> {
        let answer: Erasures<ErasureJob> = self.transport.get(&Path::new("/v1/erasures")).await?;
        Ok(answer.erasures)
    }

    /// The public keys of the built-in issuer, as a JSON Web Key Set.
    pub async fn keys(&self) -> Result<serde_json::Value, ClientError> {
        self.transport.get(&Path::new("/v1/keys")).await
    }
}

impl TenantClient {
    /// The tenant itself.
    pub async fn tenant(&self) -> Result<Tenant, ClientError> {
        self.transport.get(&self.firn_path()).await
    }

    /// Changes the tenant's bucket to what it should be, or only says what would change.
    pub async fn provision(&self, plan_only: bool) -> Result<Provisioning, ClientError> {
        let path = self.firn_path().fixed("/provision").query("plan", &plan_only.to_string());
        self.transport.post(&path, &json!({}), None).await
    }

    /// How the tenant stands and who may do what, for services that decide; for operators.
    pub async fn policy(&self) -> Result<Policy, ClientError> {
        self.transport.get(&self.firn_path().fixed("/policy")).await
    }

    /// Changes what is given.
    pub async fn update(&self, request: &TenantUpdate) -> Result<Tenant, ClientError> {
        self.transport.patch(&self.firn_path(), request).await
    }

    /// Refuses everybody until it is resumed.
    pub async fn suspend_tenant(&self, reason: &str) -> Result<Tenant, ClientError> {
        let body = TenantSuspend { reason: reason.to_owned() };
        self.transport.post(&self.firn_path().fixed("/suspend"), &body, None).await
    }

    /// Ends a suspension.
    pub async fn resume_tenant(&self) -> Result<Tenant, ClientError> {
        self.transport.post(&self.firn_path().fixed("/resume"), &json!({}), None).await
    }

    /// Deletes the tenant; it can be restored for `grace_s` seconds (30 days if `None`).
    pub async fn delete_tenant(&self, grace_s: Option<u64>) -> Result<(), ClientError> {
        let mut path = self.firn_path();
        if let Some(grace_s) = grace_s {
            path = path.query("grace_s", &grace_s.to_string());
        }
        self.transport.delete(&path).await
    }

    /// Takes a deletion back.
    pub async fn restore_tenant(&self) -> Result<Tenant, ClientError> {
        self.transport.post(&self.firn_path().fixed("/restore"), &json!({}), None).await
    }

    /// Removes the data of a deleted tenant whose grace period is over.
    pub async fn purge_tenant(&self) -> Result<Tenant, ClientError> {
        self.transport.post(&self.firn_path().fixed("/purge"), &json!({}), None).await
    }

    /// The tenant's clients.
    pub async fn clients(&self) -> Result<Vec<Client>, ClientError> {
        let answer: Clients = self.transport.get(&self.firn_path().fixed("/clients")).await?;
        Ok(answer.clients)
    }

    /// Creates a client and answers its secret.
    pub async fn create_client(&self, request: &ClientCreate) -> Result<ClientSecret, ClientError> {
        self.transport.post(&self.firn_path().fixed("/clients"), request, None).await
    }

    /// Gives a client a new secret; the former one stays good for a while.
    pub async fn rotate_client(
        &self,
        name: &str,
        request: &ClientRotate,
    ) -> Result<ClientSecret, ClientError> {
        let path = self.firn_path().fixed("/clients").segment(name).fixed("/rotate");
        self.transport.post(&path, request, None).await
    }

    /// Removes a client; its tokens end, too.
    pub async fn remove_client(&self, name: &str) -> Result<(), ClientError> {
        self.transport.delete(&self.firn_path().fixed("/clients").segment(name)).await
    }

    /// Issues a token of the tenant.
    pub async fn issue_token(&self, request: &TokenRequest) -> Result<IssuedToken, ClientError> {
        self.transport.post(&self.firn_path().fixed("/tokens"), request, None).await
    }

    /// Revokes tokens in this tenant.
    pub async fn revoke(&self, request: &RevocationRequest) -> Result<Revocation, ClientError> {
        self.transport.post(&self.firn_path().fixed("/revocations"), request, None).await
    }

    /// Grants, protected branches and revocations.
    pub async fn access_rules(&self) -> Result<AccessRules, ClientError> {
        self.transport.get(&self.firn_path().fixed("/access")).await
    }

    /// Replaces grants and protected branches, if `rules` has the newest version.
    pub async fn set_access_rules(&self, rules: &AccessRules) -> Result<AccessRules, ClientError> {
        self.transport.put(&self.firn_path().fixed("/access"), rules).await
    }

    /// A page of the audit log: entries after a cursor that fit `filters`, and the cursor to go on with.
    pub async fn audit(
        &self,
        after: i64,
        limit: usize,
        filters: &[(&str, &str)],
    ) -> Result<(Vec<AuditEntry>, i64), ClientError> {
        let path = self.firn_path().fixed("/audit").query("after", &after.to_string());
        let mut path = path.query("limit", &limit.to_string());
        for (name, value) in filters {
            path = path.query(name, value);
        }
        let answer: Audit = self.transport.get(&path).await?;
        Ok((answer.entries, answer.next))
    }

    /// The newest metrics reports of a table, or of all tables that the caller may read.
    pub async fn metrics_reports(
        &self,
        table: Option<&TableIdent>,
        limit: usize,
    ) -> Result<Vec<MetricsReport>, ClientError> {
        let mut path = self.firn_path().fixed("/metrics-reports").query("limit", &limit.to_string());
        if let Some(TableIdent { namespace, name }) = table {
            path = path.query(
                "table",
                &join_namespace(&[namespace.as_slice(), std::slice::from_ref(name)].concat()),
            );
        }
        let answer: MetricsReports = self.transport.get(&path).await?;
        Ok(answer.reports)
    }

    /// Acquires or renews a lease; one held by another is a conflict.
    pub async fn lease(&self, name: &str, request: &LeaseRequest) -> Result<Lease, ClientError> {
        let path = self.firn_path().fixed("/leases").segment(name);
        self.transport.post(&path, request, None).await
    }

    /// Gives a lease back.
    pub async fn release_lease(&self, name: &str, holder: &str) -> Result<(), ClientError> {
        let path = self.firn_path().fixed("/leases").segment(name).query("holder", holder);
        self.transport.delete(&path).await
    }

    /// Suspends a stage of the tenant, or answers the suspension that is there.
    pub async fn suspend(&self, stage: &str, request: &SuspensionRequest) -> Result<Suspension, ClientError> {
        let path = self.firn_path().fixed("/suspensions").segment(stage);
        self.transport.post(&path, request, None).await
    }

    /// Lets a stage of the tenant go on.
    pub async fn resume(&self, stage: &str) -> Result<(), ClientError> {
        self.transport.delete(&self.firn_path().fixed("/suspensions").segment(stage)).await
    }

    /// Events numbered above `after`, oldest first. Waits up to `wait_ms` for the first one.
    pub async fn events(&self, after: i64, limit: usize, wait_ms: u64) -> Result<EventPage, ClientError> {
        let path = self.firn_path().fixed("/events").query("after", &after.to_string());
        let path = path.query("limit", &limit.to_string()).query("wait_ms", &wait_ms.to_string());
        self.transport.get(&path).await
    }

    /// Asks for an erasure. One that a legal hold forbids is a conflict.
    pub async fn erase(&self, request: &ErasureRequest) -> Result<Erasure, ClientError> {
        self.transport.post(&self.firn_path().fixed("/erasures"), request, None).await
    }

    /// The tenant's erasures, oldest first.
    pub async fn erasures(&self) -> Result<Vec<Erasure>, ClientError> {
        let answer: Erasures<Erasure> = self.transport.get(&self.firn_path().fixed("/erasures")).await?;
        Ok(answer.erasures)
    }

    /// One erasure.
    pub async fn erasure(&self, id: &str) -> Result<Erasure, ClientError> {
        self.transport.get(&self.firn_path().fixed("/erasures").segment(id)).await
    }

    /// Keeps how an erasure stands, if `job` has the newest version; answers it as it was kept. For operators.
    pub async fn keep_erasure(&self, job: &ErasureJob) -> Result<ErasureJob, ClientError> {
        let path = self.firn_path().fixed("/erasures").segment(&job.erasure.id);
        self.transport.put(&path, job).await
    }

    /// The tenant's legal holds, released ones too.
    pub async fn holds(&self) -> Result<Vec<Hold>, ClientError> {
        let answer: Holds = self.transport.get(&self.firn_path().fixed("/holds")).await?;
        Ok(answer.holds)
    }

    /// Places a legal hold.
    pub async fn place_hold(&self, request: &HoldRequest) -> Result<Hold, ClientError> {
        self.transport.post(&self.firn_path().fixed("/holds"), request, None).await
    }

    /// Releases a legal hold.
    pub async fn release_hold(&self, id: &str) -> Result<(), ClientError> {
        self.transport.delete(&self.firn_path().fixed("/holds").segment(id)).await
    }

    /// When branches and tags go by themselves, first those that go first.
    pub async fn expiries(&self) -> Result<Vec<Expiry>, ClientError> {
        let answer: Expiries = self.transport.get(&self.firn_path().fixed("/expiries")).await?;
        Ok(answer.expiries)
    }

    /// Says when a branch or tag goes (RFC 3339). One that never does is `Invalid`.
    pub async fn set_expiry(&self, reference: &str, expires_at: &str) -> Result<Expiry, ClientError> {
        let path = self.firn_path().fixed("/expiries").segment(reference);
        self.transport.put(&path, &ExpiryRequest { expires_at: expires_at.to_owned() }).await
    }

    /// Takes that back.
    pub async fn unset_expiry(&self, reference: &str) -> Result<(), ClientError> {
        self.transport.delete(&self.firn_path().fixed("/expiries").segment(reference)).await
    }

    /// Removes branches and tags whose time is over; answers these, and those that stay nevertheless.
    pub async fn prune_references(&self, dry_run: bool) -> Result<Vec<Pruned>, ClientError> {
        let path = self.firn_path().fixed("/expiries");
        let answer: Prunings = self.transport.post(&path, &PruneRequest { dry_run }, None).await?;
        Ok(answer.pruned)
    }

    /// Starts a garbage collection; one that runs already is a conflict.
    pub async fn start_gc(&self, request: &GcRequest) -> Result<GcRun, ClientError> {
        self.transport.post(&self.firn_path().fixed("/gc"), request, None).await
    }

    /// The newest garbage collection.
    pub async fn last_gc(&self) -> Result<GcRun, ClientError> {
        self.transport.get(&self.firn_path().fixed("/gc")).await
    }

    fn firn_path(&self) -> Path {
        Path::new("/v1/tenants").segment(&self.tenant)
    }
}
