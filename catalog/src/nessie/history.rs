//! The commit log.

use axum::Json;
use firn_auth::Action;
use firn_catalog_client::nessie::LogEntry;
use serde_json::{Value, json};

use super::{
    call::{self, Call, Reached},
    error::NessieError,
    text,
};
use crate::version::{Commit, Hash, named_reference};

pub(super) async fn log(call: Call) -> Result<Json<Value>, NessieError> {
    let reached = call.reach(Action::Read).await?;
    let repository = &reached.repository;
    let limit = call.page_size()?;
    let mut from = reached.read_all(call.path("ref")).await?.hash;
    // A token is the commit that the next page starts with.
    if let Some(token) = call.parameter("page-token") {
        from = repository.resolve(&format!("{}@{token}", of_tenant(&reached, &call)?)).await?.hash;
    }
    let oldest =
        call.parameter("limit-hash").map(str::parse::<Hash>).transpose().map_err(call::wrong_hash)?;
    let (mut commits, mut has_more) = repository.log(from, limit).await?;
    if let Some(end) = commits.iter().position(|commit| Some(commit.hash) == oldest) {
        commits.truncate(end + 1);
        has_more = false;
    }
    let next = commits.last().and_then(|commit| commit.parents.first()).filter(|_| has_more);
    let entries: Vec<LogEntry> = commits.iter().map(|commit| entry(commit, call.fetches_all())).collect();
    Ok(Json(json!({"hasMore": has_more, "token": next.map(Hash::to_string), "logEntries": entries})))
}

/// The name that a page token's commit must be in the history of; empty if the caller may read everything.
fn of_tenant(reached: &Reached, call: &Call) -> Result<String, NessieError> {
    if reached.access.sees_all(None) {
        return Ok(String::new());
    }
    Ok(named_reference(call.path("ref"))?.unwrap_or_default())
}

fn entry(commit: &Commit, with_operations: bool) -> LogEntry {
    let operations = commit.operations.iter().map(|(key, content)| match content {
        Some(content) => json!({"type": "PUT", "key": text::wire_key(key), "content": *content.0}),
        None => json!({"type": "DELETE", "key": text::wire_key(key)}),
    });
    LogEntry {
        commit_meta: text::wire_meta(commit),
        operations: with_operations.then(|| operations.collect()),
        parent_commit_hash: commit.parents.first().map(Hash::to_string),
    }
}
