//! Branches and tags.

use axum::{Json, body::Bytes};
use firn_auth::Action;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    call::{self, Call, Reached},
    effective,
    error::NessieError,
    filter, reference_json, text,
};
use crate::{
    CatalogError,
    management::{check_references, held_reference},
    version::{Hash, MAIN, NO_ANCESTOR, NamedRef, Repository},
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
    /// Whoever makes or moves a reference can read there what it points to.
    async fn resolve(self, reached: &Reached) -> Result<Hash, CatalogError> {
        let name = self.name.filter(|name| name != "DETACHED").unwrap_or_default();
        let expression = match self.hash.filter(|hash| !hash.is_empty()) {
            Some(hash) => format!("{name}@{hash}"),
            None => name,
        };
        Ok(reached.read_all(&expression).await?.hash)
    }
}

pub(super) async fn list(call: Call) -> Result<Json<Value>, NessieError> {
    let reached = call.reach(Action::Read).await?;
    let repository = &reached.repository;
    let (limit, filter) = (call.page_size()?, call.filter(filter::REFERENCES)?);
    let after = call.parameter("page-token").unwrap_or_default();
    let all = repository.references().await?;
    if all.is_empty() {
        // Every repository has a main: this answers that there is no such tenant.
        repository.resolve("main").await?;
    }
    let main = all.iter().find(|reference| reference.name == MAIN).map(|main| main.hash);
    let (mut page, mut token) = (Vec::new(), None);
    let seen =
        |reference: &&NamedRef| reference.name.as_str() > after && reached.access.sees(Some(&reference.name));
    for reference in all.iter().filter(seen) {
        let mut json = json!(reference_json(reference));
        if call.fetches_all() {
            reached.access.require_all(Action::Read, Some(&reference.name))?;
            json["metadata"] = metadata(repository, reference, main).await?;
        }
        if let Some(filter) = &filter
            && !filter.keeps_reference(&json)?
        {
            continue;
        }
        if page.len() == limit {
            token = page.last().map(|last: &Value| last["name"].clone());
            break;
        }
        page.push(json);
    }
    Ok(Json(json!({"hasMore": token.is_some(), "token": token, "references": page})))
}

/// What `fetch=ALL` tells of a reference: its newest commit, and for a branch how it relates to the default one.
async fn metadata(
    repository: &Repository,
    reference: &NamedRef,
    main: Option<Hash>,
) -> Result<Value, CatalogError> {
    let mut metadata = json!({"numTotalCommits": repository.commit_count(reference.hash).await?});
    if reference.hash != *NO_ANCESTOR {
        metadata["commitMetaOfHEAD"] = json!(text::wire_meta(&repository.commit_at(reference.hash).await?));
    }
    if let Some(main) = main.filter(|_| !reference.tag && reference.name != MAIN) {
        let relation = repository.relation(reference.hash, main).await?;
        metadata["numCommitsAhead"] = json!(relation.ahead);
        metadata["numCommitsBehind"] = json!(relation.behind);
        metadata["commonAncestorHash"] = json!(relation.base.to_string());
    }
    Ok(metadata)
}

pub(super) async fn show(call: Call) -> Result<Json<Value>, NessieError> {
    let reached = call.reach(Action::Read).await?;
    let repository = &reached.repository;
    let (resolved, _) = reached.read(call.path("ref")).await?;
    let mut json = json!(effective(&resolved));
    if let (true, Some(reference)) = (call.fetches_all(), &resolved.reference) {
        reached.access.require_all(Action::Read, Some(&reference.name))?;
        let main = repository.resolve(MAIN).await?.hash;
        let meant = NamedRef { hash: resolved.hash, ..reference.clone() };
        json["metadata"] = metadata(repository, &meant, Some(main)).await?;
    }
    Ok(Json(json!({"reference": json})))
}

pub(super) async fn create(call: Call, bytes: Bytes) -> Result<Json<Value>, NessieError> {
    let reached = call.reach(Action::CreateReference).await?;
    let repository = &reached.repository;
    let name = call.parameter("name").ok_or_else(|| missing("name"))?;
    reached.access.require(Action::CreateReference, Some(name))?;
    let tag = is_tag(call.parameter("type").ok_or_else(|| missing("type"))?)?;
    let at = match bytes.is_empty() {
        true => reached.read_all(MAIN).await?.hash,
        false => call::body::<Source>(&bytes)?.resolve(&reached).await?,
    };
    check_references(repository, &reached.access).await?;
    let created = repository.create_reference(name, tag, at).await?;
    Ok(Json(json!({"reference": reference_json(&created)})))
}

pub(super) async fn assign(call: Call, bytes: Bytes) -> Result<Json<Value>, NessieError> {
    let reached = call.reach(Action::AssignReference).await?;
    let repository = &reached.repository;
    let (name, expected) = call.target()?;
    reached.access.require_all(Action::AssignReference, Some(&name))?;
    check_type(repository, &call, &name).await?;
    held_reference(call.state(), call.path("tenant"), &name, "assigning it").await?;
    let to = call::body::<Source>(&bytes)?.resolve(&reached).await?;
    let assigned = repository.assign_reference(&name, Some(expected.ok_or_else(unexpected)?), to).await?;
    Ok(Json(json!({"reference": reference_json(&assigned)})))
}

pub(super) async fn delete(call: Call) -> Result<Json<Value>, NessieError> {
    let reached = call.reach(Action::DeleteReference).await?;
    let repository = &reached.repository;
    let (name, expected) = call.target()?;
    reached.access.require_all(Action::DeleteReference, Some(&name))?;
    check_type(repository, &call, &name).await?;
    held_reference(call.state(), call.path("tenant"), &name, "deleting it").await?;
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
