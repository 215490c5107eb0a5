//! Listing the keys of a state.

use axum::Json;
use firn_auth::Action;
use firn_catalog_client::nessie::Entry;
use serde_json::{Value, json};

use super::{call::Call, effective, error::NessieError, text};
use crate::version::{Content, EntryRange, Key};

pub(super) async fn list(call: Call) -> Result<Json<Value>, NessieError> {
    let reached = call.reach(Action::Read).await?;
    let repository = &reached.repository;
    let limit = call.page_size()?;
    let (mut resolved, name) = reached.read(call.path("ref")).await?;
    let sees_all = reached.access.sees_all(name.as_deref());
    // A token holds the commit: all pages are of one state, wherever the branch has gone meanwhile.
    let mut after = None;
    if let Some((hash, key)) = call.parameter("page-token").and_then(|token| token.split_once('/')) {
        // It leads nowhere outside the reference, unless the caller may read everything anyway.
        let within = name.as_deref().filter(|_| !sees_all).unwrap_or_default();
        resolved.hash = repository.resolve(&format!("{within}@{hash}")).await?.hash;
        after = Some(text::key(key));
    }
    let wanted: Vec<Key> = call.parameters("key").map(text::key).collect();
    let (found, has_more) = if wanted.is_empty() {
        let (prefix, min, max) = (call.key("prefix-key"), call.key("min-key"), call.key("max-key"));
        repository.entries(resolved.hash, &EntryRange { prefix, min, max, after, limit }).await?
    } else {
        let contents = repository.get(resolved.hash, &wanted).await?;
        (wanted.into_iter().zip(contents).filter_map(|(key, content)| Some((key, content?))).collect(), false)
    };
    let token = found
        .last()
        .filter(|_| has_more)
        .map(|(key, _)| format!("{}/{}", resolved.hash, text::key_text(key)));
    let seen = |key: &Key, content: &Content| {
        sees_all || reached.access.sees_key(name.as_deref(), &key.0, content.is_namespace())
    };
    let with_content = call.flag("content");
    let entries: Vec<Entry> = found
        .iter()
        .filter(|(key, content)| seen(key, content))
        .map(|(key, content)| entry(key, content, with_content))
        .collect();
    Ok(Json(json!({
        "hasMore": has_more,
        "token": token,
        "entries": entries,
        "effectiveReference": effective(&resolved),
    })))
}

fn entry(key: &Key, content: &Content, with_content: bool) -> Entry {
    Entry {
        name: text::wire_key(key),
        content_type: content.content_type().to_owned(),
        content_id: content.id().map(str::to_owned),
        content: with_content.then(|| (*content.0).clone()),
    }
}
