//! Listing the keys of a state.

use axum::Json;
use firn_auth::Action;
use firn_catalog_client::nessie::Entry;
use serde_json::{Value, json};

use super::{call::Call, effective, error::NessieError, filter, text};
use crate::version::{Content, EntryRange, Key};

/// Keys that a filter is applied to for one page, which may stay short; its token leads on.
const MAX_LOOKED_AT: usize = 10_000;

pub(super) async fn list(call: Call) -> Result<Json<Value>, NessieError> {
    let reached = call.reach(Action::Read).await?;
    let repository = &reached.repository;
    let (limit, filter) = (call.page_size()?, call.filter(filter::ENTRIES)?);
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
    let seen = |key: &Key, content: &Content| {
        sees_all || reached.access.sees_key(name.as_deref(), &key.0, content.is_namespace())
    };
    let kept = |key: &Key, content: &Content| match &filter {
        Some(filter) if seen(key, content) => filter.keeps_entry(key, content),
        _ => Ok(seen(key, content)),
    };
    let with_content = call.flag("content");
    let wanted: Vec<Key> = call.parameters("key").map(text::key).collect();
    let (mut entries, mut last) = (Vec::new(), None);
    if wanted.is_empty() {
        let (prefix, min, max) = (call.key("prefix-key"), call.key("min-key"), call.key("max-key"));
        let mut range = EntryRange { prefix, min, max, after, limit };
        let mut looked_at = 0;
        while looked_at < MAX_LOOKED_AT {
            let (found, has_more) = repository.entries(resolved.hash, &range).await?;
            looked_at += found.len();
            let end = found.len();
            last = None;
            for (at, (key, content)) in found.into_iter().enumerate() {
                if kept(&key, &content)? {
                    entries.push(entry(&key, &content, with_content));
                }
                last = Some(key).filter(|_| has_more || at + 1 < end);
                if entries.len() == limit {
                    break;
                }
            }
            if entries.len() == limit || last.is_none() {
                break;
            }
            range.after.clone_from(&last);
        }
    } else {
        let contents = repository.get(resolved.hash, &wanted).await?;
        for (key, content) in wanted.iter().zip(contents) {
            if let Some(content) = content
                && kept(key, &content)?
            {
                entries.push(entry(key, &content, with_content));
            }
        }
    }
    let token = last.map(|key| format!("{}/{}", resolved.hash, text::key_text(&key)));
    Ok(Json(json!({
        "hasMore": token.is_some(),
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
