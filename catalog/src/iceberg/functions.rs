//! Functions: listed and loaded. They come in as Nessie's `UDF` contents whose metadata file has the Iceberg UDF format.

use axum::{Json, extract::State, response::Response};
use firn_auth::Action;
use serde_json::{Value, json};

use super::{
    answer::metadata_answer,
    call::Call,
    error::ApiError,
    names::ident_key,
    page::{Page, children},
};
use crate::{
    error::Missing,
    management::AppState,
    version::{Content, Key},
};

/// Nessie's type.
const FUNCTION: &str = "UDF";

fn is_function(content: &Content) -> bool {
    content.content_type() == FUNCTION
}

/// `GET …/functions`.
pub(super) async fn list(State(state): State<AppState>, call: Call) -> Result<Json<Value>, ApiError> {
    let scope = call.open(&state, Action::Read).await?;
    let namespace = call.namespace()?;
    let resolved = scope.resolve().await?;
    scope.need_namespace(&resolved, &namespace).await?;
    let found = children(&scope, &namespace, Page::of(&call)?, is_function).await?;
    let identifiers: Vec<&Vec<String>> = found.keys.iter().map(|Key(elements)| elements).collect();
    Ok(Json(json!({"identifiers": identifiers, "next-page-token": found.next})))
}

/// `GET …/functions/{function}`.
pub(super) async fn load(State(state): State<AppState>, call: Call) -> Result<Response, ApiError> {
    let scope = call.open(&state, Action::Read).await?;
    let ident = call.ident()?;
    let key = ident_key(&ident)?;
    scope.permit(&key)?;
    let resolved = scope.resolve().await?;
    scope.need_namespace(&resolved, &ident.namespace).await?;
    let found = scope.repository.get(resolved.hash, std::slice::from_ref(&key)).await?.pop().flatten();
    let content = found.filter(is_function);
    let content = content.ok_or_else(|| ApiError::missing(Missing::Function, &ident.to_string()))?;
    let Some(location) = content.0.get("metadataLocation").and_then(Value::as_str) else {
        return Err(ApiError::invalid(format!(
            "the function '{ident}' has no metadata file: read it through the Nessie API"
        )));
    };
    let bytes = state.storage.read_metadata(&scope.tenant, location).await?;
    Ok(metadata_answer(Some(location), &bytes, None))
}
