//! Contents by key.

use axum::{Json, body::Bytes};
use firn_auth::Action;
use firn_catalog_client::nessie::ContentKey;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    call::{self, Call, Reached},
    effective,
    error::NessieError,
    text,
};
use crate::{CatalogError, error::Missing, version::Key};

/// More keys than this are asked for in several requests.
const MAX_KEYS: usize = 10_000;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Requested {
    requested_keys: Vec<ContentKey>,
}

pub(super) async fn one(call: Call) -> Result<Json<Value>, NessieError> {
    let reached = call.reach(Action::Read).await?;
    let key = text::key(call.path("key"));
    let (resolved, name) = reached.read(call.path("ref")).await?;
    // A key that may not be read is not there.
    let seen = reached.access.sees_key(name.as_deref(), &key.0, false);
    let found = reached.repository.get(resolved.hash, std::slice::from_ref(&key)).await?;
    let Some(content) = found.into_iter().next().flatten().filter(|_| seen) else {
        let hint = format!(" at {}", resolved.hash);
        return Err(CatalogError::NotFound { what: Missing::Content, name: key.to_string(), hint }.into());
    };
    call.note_read(&reached, name.as_deref(), &key);
    Ok(Json(json!({"content": *content.0, "effectiveReference": effective(&resolved)})))
}

pub(super) async fn several_by_query(call: Call) -> Result<Json<Value>, NessieError> {
    let reached = call.reach(Action::Read).await?;
    several(&call, &reached, call.parameters("key").map(text::key).collect()).await
}

pub(super) async fn several_by_body(call: Call, bytes: Bytes) -> Result<Json<Value>, NessieError> {
    let reached = call.reach(Action::Read).await?;
    let requested: Requested = call::body(&bytes)?;
    several(&call, &reached, requested.requested_keys.into_iter().map(text::own_key).collect()).await
}

/// Keys without content are left out, as in Nessie.
async fn several(call: &Call, reached: &Reached, keys: Vec<Key>) -> Result<Json<Value>, NessieError> {
    if keys.len() > MAX_KEYS {
        return Err(CatalogError::Invalid(format!(
            "ask for at most {MAX_KEYS} keys at once, not {}",
            keys.len()
        ))
        .into());
    }
    let (resolved, name) = reached.read(call.path("ref")).await?;
    let found = reached.repository.get(resolved.hash, &keys).await?;
    let contents: Vec<Value> = keys
        .iter()
        .zip(found)
        .filter(|(key, _)| reached.access.sees_key(name.as_deref(), &key.0, false))
        .filter_map(|(key, content)| {
            let content = content?;
            call.note_read(reached, name.as_deref(), key);
            Some(json!({"key": text::wire_key(key), "content": *content.0}))
        })
        .collect();
    Ok(Json(json!({"contents": contents, "effectiveReference": effective(&resolved)})))
}
