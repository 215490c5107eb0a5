//! The commit log.

use axum::Json;
use firn_auth::Role;
use firn_catalog_client::nessie::LogEntry;
use serde_json::{Value, json};

use super::{
    call::{self, Call},
    error::NessieError,
    text,
};
use crate::version::{Commit, Hash};

pub(super) async fn log(call: Call) -> Result<Json<Value>, NessieError> {
    let (repository, _) = call.repository(Role::Reader)?;
    let limit = call.page_size()?;
    // A token is the commit that the next page starts with.
    let from = match call.parameter("page-token") {
        Some(token) => format!("@{token}"),
        None => call.path("ref").to_owned(),
    };
    let from = repository.resolve(&from).await?.hash;
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
