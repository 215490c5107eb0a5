//! `GET …/tables/{table}`: the most frequent request of all.

use axum::{
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use firn_auth::Action;

use super::{
    answer::metadata_answer,
    call::{Call, sized_work},
    content::Kind,
    error::ApiError,
};
use crate::{
    management::{AppState, Given},
    metadata::Document,
    store::Hash,
};

/// Which snapshots an answer holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Snapshots {
    All,
    /// Those that branches and tags point to.
    Referenced,
}

/// Loads a table; 304 if the client has this very answer.
pub(super) async fn load(State(state): State<AppState>, call: Call) -> Result<Response, ApiError> {
    let scope = call.open(&state, Action::Read).await?;
    let snapshots = match call.query("snapshots").unwrap_or("all") {
        "all" | "" => Snapshots::All,
        "refs" => Snapshots::Referenced,
        other => return Err(ApiError::invalid(format!("snapshots is 'all' or 'refs', not '{other}'"))),
    };
    let ident = call.ident()?;
    let found = scope.need(Kind::Table, &ident).await?;
    scope.note_read(&found, Given::Metadata);
    let location = found.metadata_location()?;
    let files = async || found.files(&scope).await;
    let access = call.delegate(&scope, &found.key, files, found.resolved.writable, Some(&ident.name)).await?;
    if !access.credentials.is_empty() {
        scope.note_read(&found, Given::Credentials);
    }
    let delegation = call.header("x-iceberg-access-delegation").unwrap_or_default();
    // An erasure replaces the file where it is.
    let file = format!("{location}\n{}", state.storage.generation(&scope.tenant));
    let tag = etag(&file, snapshots, delegation, &access.tag, scope.principal().name());
    if call.header("if-none-match").is_some_and(|known| known.split(',').any(|known| known.trim() == tag)) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response());
    }
    let bytes = state.storage.read_metadata(&scope.tenant, location).await?;
    let bytes = match snapshots {
        Snapshots::All => bytes,
        Snapshots::Referenced => sized_work(bytes.len(), move || referenced_only(&bytes)).await?,
    };
    let mut answer = metadata_answer(Some(location), &bytes, Some(&access));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        answer.headers_mut().insert(header::ETAG, tag);
    }
    Ok(answer)
}

/// Differs wherever the answer differs.
fn etag(file: &str, snapshots: Snapshots, delegation: &str, keys: &str, principal: &str) -> String {
    let mode = if snapshots == Snapshots::All { "all" } else { "refs" };
    let whole = [file, mode, delegation, keys, principal].join("\0");
    format!("\"{}\"", &Hash::of(whole.as_bytes()).to_string()[..32])
}

fn referenced_only(bytes: &[u8]) -> Result<Bytes, ApiError> {
    let mut document = Document::parse_table(bytes)?;
    document.keep_referenced_snapshots();
    Ok(Bytes::from(document.to_bytes()))
}
