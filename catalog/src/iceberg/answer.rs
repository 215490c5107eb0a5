//! Answers that carry a metadata document, spliced from cached bytes without parsing them.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use firn_catalog_client::iceberg::TableIdent;
use serde_json::json;

use super::{
    call::Scope,
    content::{Kind, metadata_location},
    delegate::TableAccess,
    error::ApiError,
    names::ident_key,
};
use crate::{
    CatalogError,
    store::Hash,
    version::{Content, Key},
};

/// `{"metadata-location", "metadata", "config", "storage-credentials"}`; without location for a staged create, without the
/// last two for a commit.
pub(super) fn metadata_answer(
    location: Option<&str>,
    metadata: &[u8],
    access: Option<&TableAccess>,
) -> Response {
    let mut body = Vec::with_capacity(metadata.len() + 512);
    body.extend_from_slice(b"{\"metadata-location\":");
    body.extend_from_slice(json!(location).to_string().as_bytes());
    body.extend_from_slice(b",\"metadata\":");
    body.extend_from_slice(metadata);
    if let Some(access) = access {
        body.extend_from_slice(b",\"config\":");
        body.extend_from_slice(json!(access.config).to_string().as_bytes());
        if !access.credentials.is_empty() {
            body.extend_from_slice(b",\"storage-credentials\":");
            body.extend_from_slice(json!(access.credentials).to_string().as_bytes());
        }
    }
    body.push(b'}');
    let kind = HeaderValue::from_static("application/json");
    (StatusCode::OK, [(header::CONTENT_TYPE, kind)], body).into_response()
}

/// A table or view as a commit left it; its name may end with the reference that the commit is on.
pub(super) async fn at_commit(
    scope: &Scope,
    kind: Kind,
    hash: Hash,
    ident: &TableIdent,
) -> Result<(String, Bytes), ApiError> {
    found_at(scope, kind, hash, ident).await.map_err(ApiError::after_commit)
}

async fn found_at(
    scope: &Scope,
    kind: Kind,
    hash: Hash,
    ident: &TableIdent,
) -> Result<(String, Bytes), ApiError> {
    let mut keys = vec![ident_key(ident)?];
    if let Some((name, _)) = ident.name.rsplit_once('@').filter(|(name, _)| !name.is_empty()) {
        keys.push(ident_key(&TableIdent { namespace: ident.namespace.clone(), name: name.to_owned() })?);
    }
    // A commit says what it put; the state around it may have to be made of more commits.
    let commit = scope.repository.commit_at(hash).await?;
    let put =
        |key: &Key| commit.operations.iter().find(|(put, _)| put == key).map(|(_, content)| content.clone());
    let mut contents: Vec<Option<Content>> = keys.iter().map(|key| put(key).flatten()).collect();
    if contents.iter().all(Option::is_none) {
        contents = scope.repository.get(hash, &keys).await?;
    }
    let found = keys.iter().zip(contents).find_map(|(key, content)| {
        content.filter(|content| kind.is_kind_of(content)).map(|content| (key, content))
    });
    let Some((key, content)) = found else {
        let text = format!("{} '{ident}' is not in the commit {hash} that just put it there", kind.word());
        return Err(CatalogError::Internal(text).into());
    };
    let location = metadata_location(key, &content)?.to_owned();
    let bytes = scope.state.storage.read_metadata(&scope.tenant, &location).await?;
    Ok((location, bytes))
}
