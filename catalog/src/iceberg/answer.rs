//! Answers that carry a metadata document, spliced from cached bytes without parsing them.

use std::collections::BTreeMap;

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde_json::json;

use super::{
    call::Scope,
    content::{Kind, metadata_location},
    error::ApiError,
};
use crate::{CatalogError, store::Hash, version::Key};

/// `{"metadata-location", "metadata", "config"}`; without location for a staged create, without config for a commit.
pub(super) fn metadata_answer(
    location: Option<&str>,
    metadata: &[u8],
    config: Option<&BTreeMap<String, String>>,
) -> Response {
    let mut body = Vec::with_capacity(metadata.len() + 512);
    body.extend_from_slice(b"{\"metadata-location\":");
    body.extend_from_slice(json!(location).to_string().as_bytes());
    body.extend_from_slice(b",\"metadata\":");
    body.extend_from_slice(metadata);
    if let Some(config) = config {
        body.extend_from_slice(b",\"config\":");
        body.extend_from_slice(json!(config).to_string().as_bytes());
    }
    body.push(b'}');
    let kind = HeaderValue::from_static("application/json");
    (StatusCode::OK, [(header::CONTENT_TYPE, kind)], body).into_response()
}

/// The table or view at a key as a commit left it.
pub(super) async fn at_commit(
    scope: &Scope,
    kind: Kind,
    hash: Hash,
    key: &Key,
) -> Result<(String, Bytes), ApiError> {
    let content = scope.repository.get(hash, std::slice::from_ref(key)).await?.pop().flatten();
    let Some(content) = content.filter(|content| kind.is_kind_of(content)) else {
        let text = format!("{} '{key}' is not in the commit {hash} that just put it there", kind.word());
        return Err(CatalogError::Internal(text).into());
    };
    let location = metadata_location(key, &content)?.to_owned();
    let bytes = scope.state.storage.read_metadata(&scope.tenant, &location).await?;
    Ok((location, bytes))
}
