//! `Idempotency-Key`: a request that is sent again is answered, not run again.
//!
//! What is stored is who sent what and the commit it made (in the commit's transaction), or the final error. The answer
//! is built anew from the commit's state, after authorizing again.

use bytes::Bytes;
use firn_auth::Principal;
use serde_json::json;

use super::{
    call::{Call, Scope},
    error::ApiError,
};
use crate::{
    CatalogError,
    store::{Hash, IdempotencyRow, Write},
    version::IdempotencyRecord,
};

impl Call {
    /// The record of this request, if the client sent a key.
    pub(super) fn idempotency(
        &self,
        principal: &Principal,
        operation: &str,
        body: &[u8],
    ) -> Result<Option<IdempotencyRecord>, ApiError> {
        let Some(key) = self.headers.get("idempotency-key") else { return Ok(None) };
        let uuid = key.to_str().ok().and_then(|text| uuid::Uuid::parse_str(text).ok());
        let Some(uuid) = uuid else { return Err(ApiError::invalid("the Idempotency-Key is not a UUID")) };
        let request =
            [self.method.as_str().as_bytes(), b" ", self.path_and_query.as_bytes(), b"\n", body].concat();
        Ok(Some(IdempotencyRecord {
            key: uuid.to_string(),
            principal: principal.name().to_owned(),
            operation: operation.to_owned(),
            request_hash: Hash::of(&request),
        }))
    }
}

/// Runs a request unless it ran before. Answers the commit that it made, now or then.
pub(super) async fn once(
    scope: &Scope,
    record: Option<&IdempotencyRecord>,
    run: impl Future<Output = Result<Hash, ApiError>>,
) -> Result<Hash, ApiError> {
    let Some(record) = record else { return run.await };
    if let Some(row) =
        scope.state.store.idempotency(&scope.tenant, &record.key).await.map_err(CatalogError::from)?
    {
        // Refuses a key that was used for another request.
        if let Some(committed) = scope.repository.replayed(record).await? {
            return Ok(committed.hash);
        }
        if let Some(error) = row.error.as_deref().and_then(|text| serde_json::from_str(text).ok()) {
            return Err(error);
        }
    }
    let outcome = run.await;
    if let Err(error) = &outcome
        && error.is_final()
    {
        remember(scope, record, error).await;
    }
    outcome
}

/// Stores a final error. If that fails, a repeated request just runs again.
async fn remember(scope: &Scope, record: &IdempotencyRecord, error: &ApiError) {
    let row = IdempotencyRow {
        key: record.key.clone(),
        principal: record.principal.clone(),
        operation: record.operation.clone(),
        request_hash: record.request_hash,
        commit_hash: None,
        error: Some(json!(error).to_string()),
    };
    let write = Write { repository: scope.tenant.clone(), idempotency: vec![row], ..Write::default() };
    if let Err(failure) = scope.state.store.write(&write).await {
        tracing::warn!(tenant = scope.tenant, error = %failure, "an idempotency record was not stored");
    }
}

/// A body for requests that have none.
pub(super) const NO_BODY: Bytes = Bytes::new();
