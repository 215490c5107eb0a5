//! Branches and tags.

use axum::{Json, body::Bytes};
use firn_auth::Role;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    call::{self, Call},
    effective,
    error::NessieError,
    reference_json,
};
use crate::{
    CatalogError,
    version::{Hash, NamedRef, Repository},
};

/// The commit a reference is created at or assigned to: Nessie allows a name, a hash or both.
#[derive(Deserialize)]
struct Source {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    hash: Option<String>,
}

impl Source {
    async fn resolve(self, repository: &Repository) -> Result<Hash, CatalogError> {
        let name = self.name.filter(|name| name != "DETACHED").unwrap_or_default();
        let expression = match self.hash.filter(|hash| !hash.is_empty()) {
            Some(hash) => format!("{name}@{hash}"),
            None => name,
        };
        Ok(repository.resolve(&expression).await?.hash)
    }
}

pub(super) async fn list(call: Call) -> Result<Json<Value>, NessieError> {
    let (repository, _) = call.repository(Role::Reader)?;
    let limit = call.page_size()?;
    let after = call.parameter("page-token").unwrap_or_default();
    let all = repository.references().await?;
    if all.is_empty() {
        // Every repository has a main: this answers that there is no such tenant.
        repository.resolve("main").await?;
    }
    let rest: Vec<&NamedRef> = all.iter().filter(|reference| reference.name.as_str() > after).collect();
    let page: Vec<_> = rest.iter().take(limit).map(|reference| reference_json(reference)).collect();
    let has_more = rest.len() > limit;
    let token = has_more.then(|| page.last().map(|reference| reference.name().to_owned()));
    Ok(Json(json!({"hasMore": has_more, "token": token, "references": page})))
}

pub(super) async fn show(call: Call) -> Result<Json<Value>, NessieError> {
    let (repository, _) = call.repository(Role::Reader)?;
    let resolved = repository.resolve(call.path("ref")).await?;
    Ok(Json(json!({"reference": effective(&resolved)})))
}

pub(super) async fn create(call: Call, bytes: Bytes) -> Result<Json<Value>, NessieError> {
    let (repository, _) = call.repository(Role::Writer)?;
    let name = call.parameter("name").ok_or_else(|| missing("name"))?;
    let tag = is_tag(call.parameter("type").ok_or_else(|| missing("type"))?)?;
    let at = match bytes.is_empty() {
        true => repository.resolve("main").await?.hash,
        false => call::body::<Source>(&bytes)?.resolve(&repository).await?,
    };
    let created = repository.create_reference(name, tag, at).await?;
    Ok(Json(json!({"reference": reference_json(&created)})))
}

pub(super) async fn assign(call: Call, bytes: Bytes) -> Result<Json<Value>, NessieError> {
    let (repository, _) = call.repository(Role::Maintainer)?;
    let (name, expected) = call.target()?;
    check_type(&repository, &call, &name).await?;
    let to = call::body::<Source>(&bytes)?.resolve(&repository).await?;
    let assigned = repository.assign_reference(&name, Some(expected.ok_or_else(unexpected)?), to).await?;
    Ok(Json(json!({"reference": reference_json(&assigned)})))
}

pub(super) async fn delete(call: Call) -> Result<Json<Value>, NessieError> {
    let (repository, _) = call.repository(Role::Writer)?;
    let (name, expected) = call.target()?;
    check_type(&repository, &call, &name).await?;
    let deleted = repository.delete_reference(&name, Some(expected.ok_or_else(unexpected)?)).await?;
    Ok(Json(json!({"reference": reference_json(&deleted)})))
}

/// With `type` given, the reference must be of it.
async fn check_type(repository: &Repository, call: &Call, name: &str) -> Result<(), CatalogError> {
    let Some(given) = call.parameter("type") else { return Ok(()) };
    let tag = is_tag(given)?;
    let found = repository.resolve(name).await?;
    if found.reference.is_some_and(|reference| reference.tag != tag) {
        return Err(CatalogError::ReferenceConflict(format!("'{name}' is not a {}", given.to_lowercase())));
    }
    Ok(())
}

fn is_tag(text: &str) -> Result<bool, CatalogError> {
    match text.to_ascii_uppercase().as_str() {
        "BRANCH" => Ok(false),
        "TAG" => Ok(true),
        _ => Err(CatalogError::Invalid(format!("'type' is BRANCH or TAG, not '{text}'"))),
    }
}

fn missing(name: &str) -> CatalogError {
    CatalogError::Invalid(format!("the query parameter '{name}' is missing"))
}

fn unexpected() -> CatalogError {
    CatalogError::Invalid("say where the reference is expected: '{name}@{hash}'".to_owned())
}
