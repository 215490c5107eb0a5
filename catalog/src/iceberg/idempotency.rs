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
    store::{Hash, IdempotencyRow, Refusal, Write, Written},
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
    if let Some(earlier) = earlier(scope, record).await? {
        return earlier;
    }
    match run.await {
        Err(error) if error.is_final() => refused(scope, record, error).await,
        outcome => outcome,
    }
}

/// How the request ended when it ran before, if it did.
async fn earlier(
    scope: &Scope,
    record: &IdempotencyRecord,
) -> Result<Option<Result<Hash, ApiError>>, ApiError> {
    let row = scope.state.store.idempotency(&scope.tenant, &record.key).await.map_err(CatalogError::from)?;
    let Some(row) = row else { return Ok(None) };
    // Refuses a key that was used for another request.
    if let Some(committed) = scope.repository.replayed(record).await? {
        return Ok(Some(Ok(committed.hash)));
    }
    Ok(row.error.as_deref().and_then(|text| serde_json::from_str(text).ok()).map(Err))
}

/// Stores a final error, before it is told: an earlier try of the request, of which the client heard nothing, may still be on its
/// way, and must not land after that. If it has landed, that is the answer.
async fn refused(scope: &Scope, record: &IdempotencyRecord, error: ApiError) -> Result<Hash, ApiError> {
    let row = IdempotencyRow {
        key: record.key.clone(),
        principal: record.principal.clone(),
        operation: record.operation.clone(),
        request_hash: record.request_hash,
        commit_hash: None,
        error: Some(json!(error).to_string()),
    };
    let write = Write { repository: scope.tenant.clone(), idempotency: vec![row], ..Write::default() };
    match scope.state.store.write(&write).await {
        Ok(Written::Refused(Refusal::Idempotency { .. })) => {
            earlier(scope, record).await?.unwrap_or(Err(error))
        }
        Ok(_) => Err(error),
        Err(failure) => {
            tracing::warn!(tenant = scope.tenant, error = %failure, "an idempotency record was not stored");
            let text = format!("{}; that could not be written down ({failure}): ask again", error.message);
            Err(CatalogError::Unknown(text).into())
        }
    }
}

/// A body for requests that have none.
pub(super) const NO_BODY: Bytes = Bytes::new();
