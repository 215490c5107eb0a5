//! Where a reference pointed lately, and whether what it pointed to is whole.

use axum::Json;
use firn_auth::Action;
use serde_json::{Value, json};

use super::{call::Call, error::NessieError, reference_json, text};
use crate::{
    CatalogError,
    error::Missing,
    version::{Hash, NO_ANCESTOR, Repository},
};

/// Nessie's bound on recorded moves.
const MAX_PREVIOUS: usize = 50;
/// Commits of the log that are looked at.
const MAX_LOG: usize = 10_000;

pub(super) async fn changes(call: Call) -> Result<Json<Value>, NessieError> {
    let reached = call.reach(Action::Read).await?;
    let repository = &reached.repository;
    let name = call.path("ref");
    let resolved = reached.read_all(name).await?;
    let none =
        || CatalogError::NotFound { what: Missing::Reference, name: name.to_owned(), hint: String::new() };
    let reference = resolved.reference.ok_or_else(none)?;
    let previous = repository.recent_heads(&reference, MAX_PREVIOUS).await?;
    let heads: Vec<Hash> = std::iter::once(reference.hash).chain(previous).collect();
    let mut states = Vec::with_capacity(heads.len());
    for (hash, whole) in heads.iter().zip(repository.readable(&heads).await?) {
        states.push(state(repository, *hash, whole).await?);
    }
    let log = match call.number("commit-log")? {
        None => "NOT_CHECKED",
        Some(count) => {
            let (commits, _) = repository.log(reference.hash, count.min(MAX_LOG)).await?;
            let hashes: Vec<Hash> = commits.iter().map(|commit| commit.hash).collect();
            verdict(repository.readable(&hashes).await?.into_iter().all(|whole| whole))
        }
    };
    let mut states = states.into_iter();
    Ok(Json(json!({
        "reference": reference_json(&reference),
        "current": states.next(),
        "previous": states.collect::<Vec<_>>(),
        "commitLogConsistency": log,
    })))
}

async fn state(repository: &Repository, hash: Hash, whole: bool) -> Result<Value, CatalogError> {
    let meta = match whole && hash != *NO_ANCESTOR {
        true => Some(text::wire_meta(&repository.commit_at(hash).await?)),
        false => None,
    };
    Ok(json!({"pointer": hash.to_string(), "commitConsistency": verdict(whole), "meta": meta}))
}

/// Contents lie in the state itself, so that there is nothing between whole and unreadable.
fn verdict(whole: bool) -> &'static str {
    if whole { "COMMIT_CONSISTENT" } else { "COMMIT_INCONSISTENT" }
}
