//! Namespaces.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{State, rejection::BytesRejection},
    http::StatusCode,
};
use bytes::Bytes;
use firn_auth::Action;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    call::{Call, Scope, parse_body},
    error::ApiError,
    idempotency::{NO_BODY, once},
    names::{namespace_key, split_namespace},
    page::{Page, children},
    write::meta,
};
use crate::{
    CatalogError,
    error::Missing,
    management::AppState,
    store::Hash,
    version::{CommitRequest, Content, IdempotencyRecord, Key, Op},
};

type Properties = BTreeMap<String, String>;

/// `GET …/namespaces?parent=`.
pub(super) async fn list(State(state): State<AppState>, call: Call) -> Result<Json<Value>, ApiError> {
    let scope = call.open(&state, Action::Read).await?;
    let parent = match call.query("parent").filter(|text| !text.is_empty()) {
        Some(text) => find_parent(&scope, text).await?,
        None => Vec::new(),
    };
    let found = children(&scope, &parent, Page::of(&call)?, Content::is_namespace).await?;
    let namespaces: Vec<Vec<String>> = found.keys.into_iter().map(|key| key.0).collect();
    Ok(Json(json!({"namespaces": namespaces, "next-page-token": found.next})))
}

/// The namespace that `parent` names. PyIceberg encodes it twice, so what exists under the decoded name only is meant.
async fn find_parent(scope: &Scope, text: &str) -> Result<Vec<String>, ApiError> {
    let resolved = scope.resolve().await?;
    let literal = split_namespace(text);
    let Err(missing) = scope.need_namespace(&resolved, &literal).await else { return Ok(literal) };
    let decoded =
        percent_decode_str(text).decode_utf8().map(|text| split_namespace(&text)).unwrap_or_default();
    if decoded == literal || scope.need_namespace(&resolved, &decoded).await.is_err() {
        return Err(missing);
    }
    Ok(decoded)
}

#[derive(Deserialize)]
struct CreateRequest {
    namespace: Vec<String>,
    #[serde(default)]
    properties: Properties,
}

/// `POST …/namespaces`.
pub(super) async fn create(
    State(state): State<AppState>,
    call: Call,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, ApiError> {
    let scope = call.open(&state, Action::Write).await?;
    let body = body?;
    let request: CreateRequest = parse_body(&body)?;
    let key = namespace_key(&request.namespace)?;
    let record = call.idempotency(scope.principal(), "createNamespace", &body)?;
    once(&scope, record.as_ref(), run_create(&scope, key, &request, record.clone())).await?;
    Ok(Json(json!({"namespace": request.namespace, "properties": request.properties})))
}

async fn run_create(
    scope: &Scope,
    key: Key,
    request: &CreateRequest,
    record: Option<IdempotencyRecord>,
) -> Result<Hash, ApiError> {
    scope.permit(&key)?;
    let (branch, resolved) = scope.resolve_branch().await?;
    let name = request.namespace.join(".");
    if let Some(parent) = key.parent() {
        scope.need_namespace(&resolved, &parent.0).await?;
    }
    if scope.repository.get(resolved.hash, std::slice::from_ref(&key)).await?.pop().flatten().is_some() {
        return Err(ApiError::exists(format!("the namespace '{name}' exists already")));
    }
    let content = content(&request.namespace, &request.properties);
    let put = Op::Put { key: key.clone(), content, expected: Some(None) };
    match commit(scope, branch, put, format!("create namespace {name}"), record).await {
        Err(CatalogError::Conflict { conflicts, .. })
            if conflicts
                .iter()
                .any(|conflict| conflict.key == key && conflict.conflict_type == "KEY_EXISTS") =>
        {
            Err(ApiError::exists(format!("the namespace '{name}' exists already")))
        }
        outcome => Ok(outcome?),
    }
}

/// `GET …/namespaces/{namespace}`.
pub(super) async fn show(State(state): State<AppState>, call: Call) -> Result<Json<Value>, ApiError> {
    let (levels, content) = find(&state, &call).await?;
    Ok(Json(json!({"namespace": levels, "properties": properties(&content)})))
}

/// `HEAD …/namespaces/{namespace}`.
pub(super) async fn exists(State(state): State<AppState>, call: Call) -> Result<StatusCode, ApiError> {
    find(&state, &call).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn find(state: &AppState, call: &Call) -> Result<(Vec<String>, Content), ApiError> {
    let scope = call.open(state, Action::Read).await?;
    let levels = call.namespace()?;
    let resolved = scope.resolve().await?;
    let content = scope.need_namespace(&resolved, &levels).await?;
    Ok((levels, content))
}

/// `DELETE …/namespaces/{namespace}`: an empty one.
pub(super) async fn remove(State(state): State<AppState>, call: Call) -> Result<StatusCode, ApiError> {
    let scope = call.open(&state, Action::Write).await?;
    let levels = call.namespace()?;
    let record = call.idempotency(scope.principal(), "dropNamespace", &NO_BODY)?;
    let run = async {
        let (branch, resolved) = scope.resolve_branch().await?;
        let content = scope.need_namespace(&resolved, &levels).await?;
        let delete = Op::Delete { key: namespace_key(&levels)?, expected: Some(Some(content)) };
        let message = format!("drop namespace {}", levels.join("."));
        Ok(commit(&scope, branch, delete, message, record.clone()).await?)
    };
    once(&scope, record.as_ref(), run).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct PropertiesRequest {
    #[serde(default)]
    removals: Vec<String>,
    #[serde(default)]
    updates: Properties,
}

/// `POST …/namespaces/{namespace}/properties`.
pub(super) async fn update_properties(
    State(state): State<AppState>,
    call: Call,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Value>, ApiError> {
    let scope = call.open(&state, Action::Write).await?;
    let (levels, body) = (call.namespace()?, body?);
    let request: PropertiesRequest = parse_body(&body)?;
    if let Some(key) = request.removals.iter().find(|key| request.updates.contains_key(*key)) {
        let text = format!("the property '{key}' is to be set and removed at once");
        return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "UnprocessableEntityException", text));
    }
    let record = call.idempotency(scope.principal(), "updateProperties", &body)?;
    let run = run_update(&scope, &levels, &request, record.clone());
    let hash = once(&scope, record.as_ref(), run).await?;
    // What was missing is told by the state before the commit, also when the request is repeated.
    let before = scope.repository.commit_at(hash).await?.parents.first().copied().unwrap_or(hash);
    let content = scope.repository.get(before, &[namespace_key(&levels)?]).await?.pop().flatten();
    let known = content.map(|content| properties(&content)).unwrap_or_default();
    let (removed, missing): (Vec<&String>, Vec<&String>) =
        request.removals.iter().partition(|key| known.contains_key(*key));
    let updated: Vec<&String> = request.updates.keys().collect();
    Ok(Json(json!({"updated": updated, "removed": removed, "missing": missing})))
}

async fn run_update(
    scope: &Scope,
    levels: &[String],
    request: &PropertiesRequest,
    record: Option<IdempotencyRecord>,
) -> Result<Hash, ApiError> {
    let (branch, resolved) = scope.resolve_branch().await?;
    let former = scope.need_namespace(&resolved, levels).await?;
    let mut settings = properties(&former);
    settings.extend(request.updates.clone());
    settings.retain(|key, _| !request.removals.contains(key));
    let mut fields = former.0.as_object().cloned().unwrap_or_default();
    fields.insert("properties".to_owned(), json!(settings));
    let key = namespace_key(levels)?;
    let put = Op::Put { key, content: Content::new(Value::Object(fields)), expected: Some(Some(former)) };
    let message = format!("set properties of namespace {}", levels.join("."));
    Ok(commit(scope, branch, put, message, record).await?)
}

async fn commit(
    scope: &Scope,
    branch: String,
    operation: Op,
    message: String,
    idempotency: Option<IdempotencyRecord>,
) -> Result<Hash, CatalogError> {
    let operations = vec![operation];
    let meta = meta(scope, message);
    let request = CommitRequest { branch, expected_head: None, operations, meta, idempotency };
    match scope.commit(request).await {
        Ok(committed) => Ok(committed.hash),
        Err(CatalogError::NotFound { what: Missing::Content, name, hint }) => {
            Err(CatalogError::NotFound { what: Missing::Namespace, name, hint })
        }
        Err(error) => Err(error),
    }
}

fn content(levels: &[String], properties: &Properties) -> Content {
    Content::new(json!({"type": "NAMESPACE", "elements": levels, "properties": properties}))
}

fn properties(content: &Content) -> Properties {
    let stored = content.0.get("properties").and_then(Value::as_object);
    let texts = stored.into_iter().flatten();
    texts.filter_map(|(key, value)| value.as_str().map(|value| (key.clone(), value.to_owned()))).collect()
}
