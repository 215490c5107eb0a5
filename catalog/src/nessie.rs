//! Nessie REST v2 under `/nessie/{tenant}/api/v2`, so that Nessie's clients work with a tenant's repository as they are.
//!
//! Paths, parameters and bodies follow Nessie's OpenAPI. Lists take filters (CEL): see [`filter`].

mod call;
mod commit;
mod contents;
mod diff;
mod entries;
mod error;
mod filter;
mod history;
mod merge;
mod recent;
mod references;
mod text;

#[cfg(test)]
mod tests;

use axum::{
    Json, Router,
    routing::{get, post},
};
use firn_auth::Action;
use serde_json::{Value, json};

use crate::{
    management::AppState,
    version::{NO_ANCESTOR, NamedRef, Resolved},
};

use call::Call;
use error::NessieError;

/// All endpoints.
pub(crate) fn router(state: AppState) -> Router {
    let tenant = Router::new()
        .route("/config", get(config))
        .route("/trees", get(references::list).post(references::create))
        .route("/trees/{ref}", get(references::show).put(references::assign).delete(references::delete))
        .route("/trees/{ref}/entries", get(entries::list))
        .route("/trees/{ref}/contents", get(contents::several_by_query).post(contents::several_by_body))
        .route("/trees/{ref}/contents/{key}", get(contents::one))
        .route("/trees/{ref}/history", get(history::log))
        .route("/trees/{ref}/history/commit", post(commit::commit))
        .route("/trees/{ref}/history/merge", post(merge::merge))
        .route("/trees/{ref}/history/transplant", post(merge::transplant))
        .route("/trees/{ref}/recent-changes", get(recent::changes))
        .route("/trees/{ref}/diff/{to}", get(diff::list));
    Router::new().nest("/nessie/{tenant}/api/v2", tenant).with_state(state)
}

async fn config(call: Call) -> Result<Json<Value>, NessieError> {
    call.reach(Action::Read).await?;
    Ok(Json(json!({
        "defaultBranch": "main",
        "minSupportedApiVersion": 2,
        "maxSupportedApiVersion": 2,
        "actualApiVersion": 2,
        "specVersion": "2.2.0",
        "noAncestorHash": NO_ANCESTOR.to_string(),
        "oldestPossibleCommitTimestamp": "1970-01-01T00:00:00Z",
    })))
}

/// A branch or tag as Nessie writes it.
fn reference_json(reference: &NamedRef) -> firn_catalog_client::nessie::Reference {
    use firn_catalog_client::nessie::Reference;
    let (name, hash) = (reference.name.clone(), reference.hash.to_string());
    if reference.tag { Reference::Tag { name, hash } } else { Reference::Branch { name, hash } }
}

/// What an expression came to: the reference with the commit that was meant, or that commit alone.
fn effective(resolved: &Resolved) -> firn_catalog_client::nessie::Reference {
    match &resolved.reference {
        Some(reference) => reference_json(&NamedRef { hash: resolved.hash, ..reference.clone() }),
        None => firn_catalog_client::nessie::Reference::Detached { hash: resolved.hash.to_string() },
    }
}
