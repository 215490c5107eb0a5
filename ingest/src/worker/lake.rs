//! The catalog and the tables behind it, as far as the owner loop needs them.

use std::collections::HashMap;

use async_trait::async_trait;
use chrono::DateTime;
use firn_catalog_client::{ClientError, Suspension};

use super::{
    address::Taken,
    commit::{Committed, Committer, Failure},
};

/// What a run of the worker asks of the catalog. Any request may fail before it was done, after it, or may be done later.
#[async_trait]
pub(super) trait Lake: Send + Sync {
    /// All tenants, with when each was created, microseconds since the epoch.
    async fn tenants(&self) -> Result<HashMap<String, i64>, ClientError>;

    /// Who is suspended, at any stage.
    async fn suspensions(&self) -> Result<Vec<Suspension>, ClientError>;

    /// Takes what the tenant does not have yet of `records` into its tables, with the positions behind it: all or nothing, and
    /// nothing if another moved these positions meanwhile.
    async fn commit(&self, tenant: &str, records: Vec<Taken>) -> Result<Committed, Failure>;
}

#[async_trait]
impl Lake for Committer {
    async fn tenants(&self) -> Result<HashMap<String, i64>, ClientError> {
        let created =
            |text: &str| DateTime::parse_from_rfc3339(text).map_or(0, |time| time.timestamp_micros());
        let tenants = self.catalog.tenants().await?;
        Ok(tenants.into_iter().map(|tenant| (tenant.name, created(&tenant.created_at))).collect())
    }

    async fn suspensions(&self) -> Result<Vec<Suspension>, ClientError> {
        self.catalog.suspensions().await
    }

    async fn commit(&self, tenant: &str, records: Vec<Taken>) -> Result<Committed, Failure> {
        self.take(tenant, records).await
    }
}
