//! Giving up a topic that was replaced: its positions are forgotten, so that the present one is read from its beginning.

use firn_catalog_client::{ClientErrorKind, iceberg::TableChange};
use firn_inventory::tables::{BRONZE_INVENTORY, INVENTORY_TOPIC};
use firn_table::{Table, TableErrorKind};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::{BRANCH, Worker, positions, replay::ReplayError, tables::ident};

/// Body of `POST /v1/tenants/{tenant}/ingest/positions/forget`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ForgetRequest {
    /// The topic that is gone.
    pub topic_id: String,
}

/// What was forgotten.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Forgotten {
    /// Partitions whose position is no longer there.
    pub partitions: usize,
}

/// Removes a tenant's positions in a topic. Those in the present topic stay: they keep records from being taken twice.
pub(super) async fn forget(
    worker: &Worker,
    tenant: &str,
    request: &ForgetRequest,
) -> Result<Forgotten, ReplayError> {
    let topic_id = &request.topic_id;
    let present = worker.log.topic(INVENTORY_TOPIC).await?;
    if present.is_some_and(|present| present.id == *topic_id) {
        return Err(ReplayError::Refused(format!(
            "topic {INVENTORY_TOPIC} is {topic_id} now: without its positions its records would be taken twice"
        )));
    }
    let unknown =
        || ReplayError::Refused(format!("tenant '{tenant}' has no positions in a topic {topic_id}"));
    let client = worker.catalog.tenant(tenant);
    let table = match Table::load(&client, &worker.file_io, BRANCH, &ident(BRONZE_INVENTORY)).await {
        Ok(table) => table,
        Err(error) if error.kind == TableErrorKind::NotFound => return Err(unknown()),
        Err(error) => return Err(error.into()),
    };
    let keys = positions::keys_in(&table.properties(), topic_id);
    if keys.is_empty() {
        return Err(unknown());
    }
    let change = TableChange {
        identifier: None,
        requirements: Vec::new(),
        updates: vec![json!({"action": "remove-properties", "removals": keys})],
    };
    let idempotency_key = Uuid::new_v4().to_string();
    let committed = client.commit_table(BRANCH, table.ident(), &change, &idempotency_key).await;
    committed.map_err(|error| match error.kind {
        ClientErrorKind::Invalid | ClientErrorKind::Denied => ReplayError::Broken(error.to_string()),
        _ => ReplayError::Later(error.to_string()),
    })?;
    tracing::warn!(tenant, topic_id, partitions = keys.len(), "positions in a topic that is gone forgotten");
    Ok(Forgotten { partitions: keys.len() })
}
