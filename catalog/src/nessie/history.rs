//! The commit log.

use axum::Json;
use firn_auth::Action;
use firn_catalog_client::nessie::LogEntry;
use serde_json::{Value, json};

use super::{
    call::{self, Call, Reached},
    error::NessieError,
    filter, text,
};
use crate::version::{Commit, Hash, named_reference};

/// Commits that are read at a time for a filter.
const CHUNK: usize = 500;
/// Commits that a filter is applied to for one page, which may stay short; its token leads on.
const MAX_LOOKED_AT: usize = 10_000;

pub(super) async fn log(call: Call) -> Result<Json<Value>, NessieError> {
    let reached = call.reach(Action::Read).await?;
    let repository = &reached.repository;
    let (limit, filter) = (call.page_size()?, call.filter(filter::HISTORY)?);
    let mut from = reached.read_all(call.path("ref")).await?.hash;
    // A token is the commit that the next page starts with.
    if let Some(token) = call.parameter("page-token") {
        from = repository.resolve(&format!("{}@{token}", of_tenant(&reached, &call)?)).await?.hash;
    }
    let oldest =
        call.parameter("limit-hash").map(str::parse::<Hash>).transpose().map_err(call::wrong_hash)?;
    let chunk = if filter.is_some() { CHUNK } else { limit };
    let (mut entries, mut next, mut looked_at) = (Vec::new(), Some(from), 0);
    while let Some(start) = next.take_if(|_| looked_at < MAX_LOOKED_AT) {
        let (commits, has_more) = repository.log(start, chunk).await?;
        looked_at += commits.len();
        for (at, commit) in commits.iter().enumerate() {
            if filter.as_ref().map_or(Ok(true), |filter| filter.keeps_commit(commit))? {
                entries.push(entry(commit, call.fetches_all()));
            }
            let ends = Some(commit.hash) == oldest || (at + 1 == commits.len() && !has_more);
            next = commit.parents.first().copied().filter(|_| !ends);
            if entries.len() == limit || ends {
                break;
            }
        }
        if entries.len() == limit {
            break;
        }
    }
    Ok(Json(
        json!({"hasMore": next.is_some(), "token": next.map(|hash| hash.to_string()), "logEntries": entries}),
    ))
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
