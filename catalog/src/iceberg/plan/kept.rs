//! Plans that take long, as documents of the tenant: all replicas know them, and who cancelled one is heard by all.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    CatalogError,
    management::AppState,
    scan::Pinned,
    store::{DocumentPut, DocumentRow, DocumentSelection, Write},
};

const KIND: &str = "plan";
/// How long a plan can be asked about.
const KEPT_US: i64 = 3600 * 1_000_000;
/// Plans that a tenant may have at once.
const MAX_PLANS: usize = 100;

/// What is planned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Plan {
    /// The table's UUID.
    pub(super) table: String,
    pub(super) pinned: Pinned,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) cancelled: bool,
}

/// A plan and its document's version.
pub(super) struct Kept {
    pub(super) plan: Plan,
    version: i64,
}

/// Keeps a new plan, and forgets those that are over.
pub(super) async fn keep(state: &AppState, tenant: &str, id: &str, plan: &Plan) -> Result<(), CatalogError> {
    let rows = state.store.documents(KIND, DocumentSelection::Tenant(tenant)).await?;
    let (over, live): (Vec<_>, Vec<_>) = rows.into_iter().partition(is_over);
    if live.len() >= MAX_PLANS {
        return Err(CatalogError::TooMany {
            message: format!("the tenant has {MAX_PLANS} plans under way: cancel those that aren't needed"),
            retry_after_s: 60,
        });
    }
    let mut documents: Vec<DocumentPut> =
        over.into_iter().map(|row| put(tenant, &row.key, Some(row.version), None)).collect();
    documents.push(put(tenant, id, Some(0), Some(plan)));
    let write = Write { repository: tenant.to_owned(), documents, ..Write::default() };
    if state.store.write(&write).await? == crate::store::Written::Done {
        return Ok(());
    }
    // Another request removed what was over; nothing but that can be in the way of an id that is new.
    let documents = vec![put(tenant, id, Some(0), Some(plan))];
    state.store.write(&Write { repository: tenant.to_owned(), documents, ..Write::default() }).await?;
    Ok(())
}

/// A plan that isn't over.
pub(super) async fn load(state: &AppState, tenant: &str, id: &str) -> Result<Option<Kept>, CatalogError> {
    let rows = state.store.documents(KIND, DocumentSelection::One { tenant, key: id }).await?;
    let Some(row) = rows.into_iter().find(|row| !is_over(row)) else { return Ok(None) };
    let plan = serde_json::from_slice(&row.body)
        .map_err(|error| CatalogError::Internal(format!("the plan '{id}' can't be read: {error}")))?;
    Ok(Some(Kept { plan, version: row.version }))
}

/// Notes that nobody needs a plan any more. One that was cancelled meanwhile is as well.
pub(super) async fn cancel(state: &AppState, tenant: &str, id: &str, kept: Kept) -> Result<(), CatalogError> {
    let plan = Plan { cancelled: true, ..kept.plan };
    let documents = vec![put(tenant, id, Some(kept.version), Some(&plan))];
    let write = Write { repository: tenant.to_owned(), documents, ..Write::default() };
    state.store.write(&write).await?;
    Ok(())
}

fn is_over(row: &DocumentRow) -> bool {
    row.read_at_us - row.updated_at_us > KEPT_US
}

fn put(tenant: &str, id: &str, expected_version: Option<i64>, plan: Option<&Plan>) -> DocumentPut {
    DocumentPut {
        kind: KIND.to_owned(),
        tenant: tenant.to_owned(),
        key: id.to_owned(),
        expected_version,
        body: plan.map(|plan| Bytes::from(json!(plan).to_string())),
    }
}
